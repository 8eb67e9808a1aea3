"""The Lua scripts: what is stored stands in the legend, and their text is fit to be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.lua_legend import read_legend
from workers.store.keys import ClientKeys
from workers.store.scripts import gives_of, in_own_scope, includes_of

LUA: Final = Path(__file__).parents[2] / "workers/lua"
FILES: Final = sorted(it.relative_to(LUA).as_posix() for it in LUA.rglob("*.lua"))
INCLUDES: Final = [it for it in FILES if it.startswith("includes/")]

#: Longest line, characters.
LONGEST_LINE: Final = 110
#: Names that say nothing.
RETIRED: Final = {"it", "its", "about", "told", "said", "heard", "made", "found"}
#: Indices of loops, and a transaction.
SHORT: Final = {"i", "j", "_", "tx", "TX"}

_TEXT: Final = re.compile(r'"((?:\\.|[^"\\])*)"')
_PAGES: Final = re.compile(r'^local PAGES = "([^"]*)"$', re.MULTILINE)
_CALL: Final = re.compile(
    r'redis\.call\("(H[A-Z]+)", (GOV|OVERRIDES|OAUTH|breaker_key|tx_key|job_key|name|[A-Z]+)'
)


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


def full_names_of(where: str, code: str) -> set[str]:
    """The full names by which code reads and writes fields of a transaction or of a job."""
    named = set(re.findall(rf"\b{where.upper()}\.(\w+)", code))
    lists = re.findall(rf"\bread_{where}\(([^\n]*(?:\n[^\n]*\]\])?)", code)
    for text in lists:
        for quoted, long in re.findall(r'"([^"]*)"|\[\[([^]]*)\]\]', text):
            named.update((quoted or long).split())
        if "PAGES" in text:
            named.update(_PAGES.search(code_of("includes/pages.lua"))[1].split())  # type: ignore[index]
    return named


#: Where a key that a call names directly is described. Those of transactions and jobs have tables.
PLACES: Final = {"GOV": "gov", "OVERRIDES": "overrides", "OAUTH": "oauth", "breaker_key": "breaker"}


@pytest.mark.parametrize("name", FILES)
def test_every_field_that_a_script_names_stands_in_the_legend(name: str) -> None:
    legend = read_legend()
    for command, key, arguments in calls_of(name):
        fields = fields_of(command, arguments)
        if key not in PLACES:
            assert fields == [], f"{name} names {fields} by a text, and not by TX or JOB"
            continue
        known = legend[PLACES[key]]
        prefixes = tuple(it.partition("<")[0] for it in known if "<" in it)
        for field in fields:
            assert field in known or field.startswith(prefixes or ("?",)), f"{name}: {field}"


@pytest.mark.parametrize("where", ["tx", "job"])
@pytest.mark.parametrize("name", FILES)
def test_every_field_of_a_transaction_or_job_is_named_as_in_the_legend(
    name: str, where: str
) -> None:
    assert full_names_of(where, code_of(name)) <= {*read_legend()[where].values()}


@pytest.mark.parametrize("name", FILES)
def test_a_script_reads_only_fields_that_it_asked_for(name: str) -> None:
    code = code_of(name)
    for where in ("tx", "job"):
        if f"read_{where}(" in code and name != "prelude.lua":
            used = set(re.findall(rf"\b{where}\.(\w+)", code))
            assert used <= full_names_of(where, code), f"{name}: {where}"


@pytest.mark.parametrize("name", ["admit.lua", "settle.lua", "includes/ending.lua"])
def test_the_locals_of_a_script_that_is_called_most_are_the_fields_that_it_reads(name: str) -> None:
    read = re.search(
        r"^ *local ([^=]+?) = unpack\(\s*"
        r"redis\.call\(\"HMGET\",\s+(?:name|\w+_key\(\w+\)),\s+((?:TX|JOB)[^)]+)\)\)$",
        code_of(name),
        re.MULTILINE,
    )
    assert read
    names = [it.strip() for it in read[1].split(",")]
    # `tx_step` and `all_rows` tell a field from a local; JOB[state] is the count of a state.
    assert [it.strip() for it in read[2].split(",")] == [
        "JOB[state]"
        if it == "in_state"
        else f"{read[2][:2].replace('JO', 'JOB')}.{it.removeprefix('tx_').removeprefix('all_')}"
        for it in names
    ]


@pytest.mark.parametrize("name", FILES)
def test_no_script_changes_the_tables_of_the_legend(name: str) -> None:
    assert not re.search(r"\b(TX|JOB)(\.\w+|\[[^]]*\]) *=[^=]", code_of(name))


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
    legend = {*read_legend()["tx"].values()}
    for name in ("settle.lua", "admit.lua", "open.lua", "split.lua", "includes/result.lua"):
        written = re.findall(r"\bwrite(?:_sent)?\(([^,]+),", code_of(name))
        for field in written:
            is_of_tx = field.startswith("TX.") and field.removeprefix("TX.") in legend
            is_other = name == "admit.lua" and not field.startswith("TX.")  # of gov
            assert is_of_tx or is_other or field == "field", f"{name}: {field}"
    assert {"s", "k", "n", "fl", "g", "j", "p"} <= read_legend()["tx"].keys()


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


def names_in(code: str) -> tuple[set[str], set[str]]:
    """The names that code uses, those of fields left out, and those that it declares."""
    code = re.sub(_TEXT, '""', code)
    declared = re.findall(r"\blocal (?!function)([\w, ]+)", code)
    declared += re.findall(r"\bfor ([\w, ]+?) (?:in\b|=)", code)
    declared += re.findall(r"\bfunction ?\w*\(([\w, ]*)\)", code)
    declared += re.findall(r"\blocal function (\w+)", code)
    used = re.findall(r"(?<![.\w:])[A-Za-z_]\w*", code)
    return {*used}, {it.strip() for names in declared for it in names.split(",")}


def outermost_of(include: str) -> set[str]:
    """The names that an include declares at its outermost level."""
    lists = re.findall(r"^local (?!function)([\w, ]+?)(?: =|$)", code_of(include), re.MULTILINE)
    functions = re.findall(r"^local function (\w+)", code_of(include), re.MULTILINE)
    return {*functions, *(it.strip() for names in lists for it in names.split(","))}


@pytest.mark.parametrize("name", [it for it in FILES if not it.startswith("includes/")])
def test_nobody_uses_a_name_that_an_include_keeps_for_itself(name: str) -> None:
    kept: dict[str, str] = {}
    given = outermost_of("prelude.lua")
    includes = [f"includes/{it}.lua" for it in includes_of((LUA / name).read_text("utf-8"))]
    for file in [*includes, name]:
        used, declared = names_in(code_of(file))
        assert {it: kept[it] for it in (used - declared - given) & kept.keys()} == {}, file
        if file in includes:
            given |= {*gives_of((LUA / file).read_text("utf-8"))}
            kept |= dict.fromkeys(outermost_of(file), file)


def test_an_include_declares_what_it_gives_apart_from_what_it_keeps() -> None:
    include = "-- Gives    one\nlocal one, other = 1, 2\n"
    with pytest.raises(ValueError, match="must declare them apart"):
        in_own_scope("numbers", include)


@pytest.mark.parametrize("name", INCLUDES)
def test_an_include_says_what_it_expects_and_gives_and_its_functions_are_there(name: str) -> None:
    text = (LUA / name).read_text("utf-8")
    header = text.partition("\nlocal ")[0]
    assert re.search(r"^-- Expects  \S", header, re.MULTILINE)
    gives = re.search(r"^-- Gives    ((?:.+\n)(?:--          .+\n)*)", header, re.MULTILINE)
    assert gives, name
    assert set(gives_of(text)) <= outermost_of(name)


def test_a_script_names_what_its_includes_expect_before_them() -> None:
    expects = {}
    for name in INCLUDES:
        line = re.search(r"^-- Expects  (.+)$", (LUA / name).read_text("utf-8"), re.MULTILINE)
        assert line
        words = re.findall(r"\w+", line[1].partition(";")[0])
        expects[Path(name).stem] = [it for it in words if f"includes/{it}.lua" in INCLUDES]
    for name in FILES:
        seen: list[str] = []
        for include in includes_of((LUA / name).read_text("utf-8")):
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


@pytest.mark.parametrize("where", ["tx", "gov", "oauth", "breaker"])
def test_what_the_legend_names_is_used_by_a_script(where: str) -> None:
    code = "\n".join(map(code_of, FILES))
    for stored, full in read_legend()[where].items():
        prefix, has_name, _ = stored.partition("<")
        used = (
            f'"{prefix}' in code if has_name else f'"{stored}"' in code or f"gov.{stored}" in code
        )
        if where == "tx":
            used = full in full_names_of("tx", code)
        is_built = re.fullmatch(r"[wm]:", prefix)  # from the letter and a colon
        assert used or is_built, f"{where}.{stored}"
