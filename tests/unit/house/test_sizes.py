"""How much a reader must hold at once: files, functions, and exceptions from lint."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

from tests.support.source import lua_files, modules

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_FILE: Final = 350
LONGEST_FUNCTION: Final = 60
MOST_PARAMETERS: Final = 5
MOST_NOQA: Final = 60
#: Lines of a script below its header.
LONGEST_SCRIPT: Final = 80
#: A table of the legend of stored names, which is no code.
LEGEND: Final = re.compile(r"^local (TX|JOB) = \{\n(?:  .*\n)*\}$", re.MULTILINE)
#: The main path of a step, on which no function takes more than five parameters.
MAIN_PATH: Final = (
    "workers.answer.outcome",
    "workers.answer.verdict",
    "workers.governor.governor",
    "workers.http.connection",
    "tasks.steps.call",
    "tasks.steps.granted",
    "tasks.steps.reading",
)
NOQA: Final = re.compile(r"#\s*noqa\b(?P<rest>.*)")
GIVEN: Final = re.compile(r": [A-Z]+[0-9]+(, [A-Z]+[0-9]+)* -- \S.*")


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_file_is_longer_than_a_reader_holds_at_once() -> None:
    sizes = {module.place: len(module.text.splitlines()) for module in modules().values()}
    sizes |= {str(file): len(file.read_text("utf-8").splitlines()) for file in lua_files()}
    assert not {place: size for place, size in sizes.items() if size > LONGEST_FILE}


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{module.place}:{node.lineno} {node.name}"
        for module in modules().values()
        for node in functions(module.tree)
        if (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


def test_no_function_of_the_main_path_takes_more_than_five_parameters() -> None:
    wide = [
        f"{name}: {node.name}"
        for name in MAIN_PATH
        for node in functions(modules()[name].tree)
        if node.name != "__init__"
        and len(
            [
                it
                for it in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                if it.arg not in {"self", "cls"}
            ]
        )
        > MOST_PARAMETERS
    ]
    assert not wide, "\n".join(wide)


def test_exceptions_from_lint_are_few_and_each_gives_its_reason() -> None:
    there = [
        (f"{module.place}:{at}", match["rest"])
        for module in modules().values()
        for at, line in enumerate(module.text.splitlines(), 1)
        if (match := NOQA.search(line))
    ]
    bare = [place for place, rest in there if not GIVEN.fullmatch(rest)]
    assert not bare, "\n".join(bare)
    assert len(there) <= MOST_NOQA


def test_every_script_is_short_enough_to_read_at_once() -> None:
    for file in lua_files():
        text = LEGEND.sub("", file.read_text("utf-8"))
        code = [line for line in text.splitlines() if not line.startswith("--")]
        assert len(list(filter(None, code))) <= LONGEST_SCRIPT, file
