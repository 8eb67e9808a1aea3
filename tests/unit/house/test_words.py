"""One word for one thing: retired identifiers stay away, and a public name stands for one thing."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import click

from orchestration.cli import main
from tests.support.source import ROOT, bound_names, lua_files, lua_names, modules

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Names that came from a private English. docs/glossary.md has the words that stand for them.
RETIRED: Final = frozenset(
    (
        *("Pacer", "pacer", "beat", "Cell", "cell", "cells", "Go", "NoGo", "Aged", "ToSplit"),
        *("give_back", "giveback", "hungry", "suspects", "boundaries", "boundary"),
        *("Gate", "gate", "Guest", "guest", "guests", "enter", "leave", "Act", "act", "act_of"),
        *("acting", "Planned", "planned", "Sight", "sight", "Case", "Kept", "Acted", "Said"),
        *("Unanswered", "Ended", "Line", "it", "its", "about", "told", "said", "heard", "made"),
        *("found", "line_key", "to_line", "may_line", "line_after_s", "lines_of", "touch"),
        *("TOUCH", "SUSPECTS", "HUNGRY", "GUESTS"),
    )
)
#: Scripts that have another name now.
RETIRED_SCRIPTS: Final = frozenset(
    ("redefine", "setback", "places", "recount", "giveback", "close", "enter", "leave")
)
#: The same inside of a longer name: none of these has a second meaning.
RETIRED_PARTS: Final = frozenset(
    ("pacer", "beat", "hungry", "giveback", "suspect", "suspects", "guest", "guests")
)
#: Names that a library's interface asks for, or that mean something else: where, and why.
ALLOWED: Final = {
    ("orchestration/sandbox", "boundary"): "of a multipart body (RFC 2046)",
}


def parts(name: str) -> set[str]:
    return set(re.split(r"_|(?<=[a-z])(?=[A-Z])", name)) | {
        it.lower() for it in re.split(r"_|(?<=[a-z])(?=[A-Z])", name)
    }


def retired(name: str) -> bool:
    return name in RETIRED or bool(parts(name) & RETIRED_PARTS)


def allowed(place: str, name: str) -> bool:
    return any(place.startswith(room) and name == word for room, word in ALLOWED)


def test_no_python_name_is_a_retired_one() -> None:
    back = [
        f"{module.place}:{line} {name}"
        for module in modules().values()
        for name, line in bound_names(module.tree)
        if retired(name) and not allowed(module.place, name)
    ]
    assert not back, "\n".join(back)


def test_no_file_has_a_retired_name() -> None:
    files = [module.path for module in modules().values()] + lua_files()
    assert not [file for file in files if retired(file.stem)]


def test_no_script_has_a_retired_name() -> None:
    assert not [file for file in lua_files() if file.stem in RETIRED_SCRIPTS]


def test_no_lua_name_is_a_retired_one() -> None:
    back = [
        f"{file.relative_to(ROOT)}:{line} {name}"
        for file in lua_files()
        for name, line in lua_names(file.read_text("utf-8"))
        if retired(name)
    ]
    assert not back, "\n".join(back)


def test_lua_names_have_more_than_two_letters_unless_they_count_or_mean_a_transaction() -> None:
    short = [
        f"{file.relative_to(ROOT)}:{line} {name}"
        for file in lua_files()
        for name, line in lua_names(file.read_text("utf-8"))
        if len(name) <= 2 and name not in {"i", "j", "_", "tx", "TX"}
    ]
    assert not short, "\n".join(short)


def test_no_stored_name_is_a_retired_one() -> None:
    stored = {
        (file.relative_to(ROOT), name)
        for file in lua_files()
        for text in re.findall(r'"([^"\n]*)"', file.read_text("utf-8"))
        for name in re.findall(r"[A-Za-z_]{3,}", text)
        if re.fullmatch(r"[A-Za-z_:]+", text)
    }
    assert not [place for place in stored if retired(place[1])]


def json_fields() -> Iterator[tuple[str, str]]:
    """Texts that name a field: keys of a dictionary, and the names of arguments of `dict(…)`."""
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Dict):
                for key in node.keys:
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        yield f"{module.place}:{node.lineno}", key.value


def test_no_json_field_is_a_retired_name() -> None:
    # `found` is a field of a row's look-up, beside `absent`.
    assert not [field for field in json_fields() if retired(field[1]) and field[1] != "found"]


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, f"{path} {name}")


def test_no_word_of_the_command_line_is_a_retired_one() -> None:
    words = {
        (path, word)
        for path, command in commands(main, "headgate")
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts, path)
        for word in re.findall(r"[a-z_]+", option.replace("-", "_"))
    }
    assert words
    assert not [word for word in words if retired(word[1])]


def test_a_public_name_is_defined_once_in_the_product() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules().values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module.place)
    assert not {name: at for name, at in places.items() if len(at) > 1}
