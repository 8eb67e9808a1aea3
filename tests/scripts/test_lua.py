"""The Lua scripts: what is stored stands in the legend, and their text is fit to be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from workers.store.keys import ClientKeys

LUA: Final = Path(__file__).parents[2] / "workers/lua"
FILES: Final = sorted(it.relative_to(LUA).as_posix() for it in LUA.rglob("*.lua"))
INCLUDES: Final = [it for it in FILES if it.startswith("includes/")]

#: Longest line, characters.
LONGEST_LINE: Final = 110
#: Names that say nothing.
RETIRED: Final = {"it", "its", "about", "told", "said", "heard", "made", "found"}
#: Indices of loops.
SHORT: Final = {"i", "j", "_"}

LEGEND: Final = re.compile(r"^--   (key|tx|job|gov|overrides|oauth)\.(\S+) +(\S+)(?: +(.+))?$")
_TEXT: Final = re.compile(r'"((?:\\.|[^"\\])*)"')
_CALL: Final = re.compile(
    r'redis\.call\("(H[A-Z]+)", (GOV|OVERRIDES|OAUTH|tx_key|job_key|name|[A-Z]+)'
)


def read_legend() -> dict[str, dict[str, str]]:
    """Where → stored name → full name, of every line of the table in the prelude."""
    legend: dict[str, dict[str, str]] = {}
    for line in (LUA / "prelude.lua").read_text("utf-8").splitlines():
        if entry := LEGEND.fullmatch(line):
            where, stored, name, _ = entry.groups()
            assert stored not in legend.setdefault(where, {}), line
            legend[where][stored] = name
    return legend


def code_of(name: str) -> str:
    """A file without its comments."""
    text = (LUA / name).read_text("utf-8")
    return "\n".join(re.sub(r"(^|\s)--.*", "", line) for line in text.splitlines())


def calls_of(name: str) -> list[tuple[str, str, str]]:
    """Command, key and arguments of each call of a hash command, as they stand in a file."""
    code, calls = code_of(name), []
    for match in _CALL.finditer(code):
        depth, end = 1, match.start() + len("redis.call(")
        while depth:
            depth += {"(": 1, ")": -1}.get(code[end], 0)
            end += 1
        calls.append((match[1], match[2], code[match.end() : end - 1]))
    return calls


def split_arguments(text: str) -> list[str]:
    """The arguments behind the key, those in brackets left whole."""
    parts, depth = [""], 0
    for char in text:
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(char, 0)
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return [it.strip() for it in parts[1:]]


def fields_of(command: str, arguments: str) -> list[str]:
    """The fields that a call names by a text, or by a text and what follows it."""
    parts = split_arguments(arguments)
    pairs = command in {"HSET", "HSETNX", "HINCRBY"}  # their values are no fields
    return [text[1] for it in (parts[::2] if pairs else parts) if (text := _TEXT.match(it))]


#: Where a key that a call names directly is described; others are transactions or jobs.
PLACES: Final = {
    "GOV": ("gov",),
    "OVERRIDES": ("overrides",),
    "OAUTH": ("oauth",),
    "tx_key": ("tx",),
    "job_key": ("job",),
    "name": ("tx", "job"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_field_that_a_script_names_stands_in_the_legend(name: str) -> None:
    legend = read_legend()
    for command, key, arguments in calls_of(name):
        if key not in PLACES:
            assert fields_of(command, arguments) == []
            continue
        known = [it for place in PLACES[key] for it in legend[place]]
        prefixes = tuple(it.partition("<")[0] for it in known if "<" in it)
        for field in fields_of(command, arguments):
            assert field in known or field.startswith(prefixes or ("?",)), f"{name}: {field}"


def test_every_key_that_a_script_builds_stands_in_the_legend() -> None:
    keys = read_legend()["key"]
    for name in FILES:
        for suffix in re.findall(r'base \.\. "([^"]+)"', code_of(name)):
            known = suffix in keys or any(it.startswith(f"{suffix}<") for it in keys)
            assert known, f"{name} builds {suffix}"


def test_python_names_the_keys_of_the_legend() -> None:
    known = read_legend()["key"]
    keys = ClientKeys("space", "acme")
    named = {
        getattr(keys, it).removeprefix(keys.prefix)
        for it, value in vars(ClientKeys).items()
        if isinstance(value, property) and it != "prefix"
    }
    assert named <= {*known, *(it.partition("<")[0] for it in known)}


def test_the_fields_of_a_written_transaction_stand_in_the_legend() -> None:
    legend = read_legend()["tx"]
    for name in ("settle.lua", "admit.lua", "open.lua", "split.lua", "includes/result.lua"):
        for field in re.findall(r'\balso\("([^"]+)"', code_of(name)):
            assert field in legend, f"{name}: {field}"
    assert {"s", "k", "n", "fl", "g", "j", "p"} <= legend.keys()


@pytest.mark.parametrize("name", FILES)
def test_a_name_in_lua_is_a_word(name: str) -> None:
    code = re.sub(_TEXT, '""', re.sub(r"'[^']*'", '""', code_of(name)))
    declared = re.findall(r"\blocal (?!function)([\w, ]+)", code)
    declared += re.findall(r"\bfor ([\w, ]+?) (?:in\b|=)", code)
    declared += re.findall(r"\bfunction ?\w*\(([\w, ]*)\)", code)
    declared += re.findall(r"\bfunction (\w+)", code)
    names = {it.strip() for names in declared for it in names.split(",")} - {""}
    assert {it for it in names if len(it) < 3} <= SHORT
    assert names & RETIRED == set()


@pytest.mark.parametrize("name", INCLUDES)
def test_an_include_says_what_it_expects_and_gives_and_its_functions_are_there(name: str) -> None:
    text = (LUA / name).read_text("utf-8")
    header = text.partition("\nlocal ")[0]
    assert re.search(r"^-- Expects  \S", header, re.MULTILINE)
    gives = re.search(r"^-- Gives    ((?:.+\n)(?:--          .+\n)*)", header, re.MULTILINE)
    assert gives, name
    outer = set(re.findall(r"^local function (\w+)", text, re.MULTILINE))
    for given in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", gives[1]):
        assert given in outer, f"{name} does not give {given}"


def test_a_script_names_what_its_includes_expect_before_them() -> None:
    expects = {}
    for name in INCLUDES:
        line = re.search(r"^-- Expects  (.+)$", (LUA / name).read_text("utf-8"), re.MULTILINE)
        assert line
        words = re.findall(r"\w+", line[1].partition(";")[0])
        expects[Path(name).stem] = [it for it in words if f"includes/{it}.lua" in INCLUDES]
    for name in FILES:
        header = re.search(r"^-- Includes (.+)$", (LUA / name).read_text("utf-8"), re.MULTILINE)
        seen: list[str] = []
        for include in header[1].split(", ") if header else ():
            missing = set(expects[include]) - {*seen}
            assert not missing, f"{name}: {include} expects {missing} before it"
            seen.append(include)


@pytest.mark.parametrize("name", FILES)
def test_no_line_is_longer_than_a_screen(name: str) -> None:
    lines = (LUA / name).read_text("utf-8").splitlines()
    assert [it for it in lines if len(it) > LONGEST_LINE] == []


def test_settle_is_read_from_top_to_bottom() -> None:
    code = list(filter(str.strip, code_of("settle.lua").splitlines()[1:]))
    assert len(code) < 60


@pytest.mark.parametrize("where", ["tx", "gov", "oauth"])
def test_what_the_legend_names_is_used_by_a_script(where: str) -> None:
    code = "\n".join(map(code_of, FILES))
    for stored in read_legend()[where]:
        prefix, has_name, _ = stored.partition("<")
        used = (
            f'"{prefix}' in code if has_name else f'"{stored}"' in code or f"gov.{stored}" in code
        )
        is_built = re.fullmatch(r"[wm]:", prefix)  # from the letter and a colon
        assert used or is_built, f"{where}.{stored}"
