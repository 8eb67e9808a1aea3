"""The commands that the docs show can be given so, and generated pages are those of the code."""

from __future__ import annotations

import ast
import re
import shlex
from typing import TYPE_CHECKING

import click
import pytest

from orchestration.cli import main
from tests.support.reference_pages import PAGES as GENERATED
from tests.support.reference_pages import REFERENCE
from tests.support.source import modules
from tests.unit.docs.test_links import PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.source import Module

#: Pages that show commands for people to type.
TYPED = [page for page in PAGES if page.parent != REFERENCE or page.name not in GENERATED]
FENCE = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(headgate [^`]+)`")
#: A command in a message, in brackets or after a colon.
TOLD = re.compile(r"(?::|\() ?(headgate [a-z][^;)\n]*)")
#: What ends a command of a shell.
ENDS = frozenset((";", "&", "&&", "|", "||", "(", ")", "<", ">", ">>"))


def command_lines(text: str) -> Iterator[list[str]]:
    """The arguments of each `headgate` in the shell's fences of a page."""
    for block in FENCE.findall(text):
        script = re.sub(r"<<'END'.*?^END$", "", block, flags=re.MULTILINE | re.DOTALL)
        for line in script.replace("\\\n", " ").splitlines():
            yield from _commands_of(line)


def _commands_of(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[str] | None = None
    before, piped = "", False
    for word in [*lexer, ";"]:
        if word in ENDS:
            if found:
                yield [*found, *(["KEY"] if piped else [])]
            found = None
        elif word == "headgate":
            found, piped = [], before == "xargs"
        elif found is not None:
            found.append(word)
        before = word


def wrong_with(given: list[str], *, whole: bool) -> str:
    """Why a command cannot be given so, "" where it can.

    Args:
        given: What stands behind `headgate`.
        whole: Whether required arguments must be there too; a mention in a sentence has none.
    """
    try:
        _give(main, _context(main, None), given, whole=whole)
    except click.BadOptionUsage as error:  # a mention may leave out what the option takes
        return error.format_message() if whole else ""
    except click.UsageError as error:
        return error.format_message()
    return ""


def _context(command: click.Command, parent: click.Context | None) -> click.Context:
    settings = command.context_settings
    return click.Context(command, parent=parent, info_name=command.name, **settings)


def _give(command: click.Command, context: click.Context, given: list[str], *, whole: bool) -> None:
    options, rest, _ = command.make_parser(context).parse_args(list(given))
    if isinstance(command, click.Group) and rest:
        name, *given = rest
        below = command.get_command(context, name)
        if below:
            _give(below, _context(below, context), given, whole=whole)
        elif whole or not name.isupper():  # such as KIND
            raise click.UsageError(f"there is no command {name}")
        return
    if rest and not context.ignore_unknown_options:
        raise click.UsageError(f"{rest} is too much")
    for parameter in command.params:
        _check(parameter, options.get(parameter.name or ""), context, whole=whole)


def _check(
    parameter: click.Parameter, value: object, context: click.Context, *, whole: bool
) -> None:
    """Refuse a choice or a number that there is not, and what is missing."""
    is_missing = value is None or value == [] or type(value).__name__ == "Sentinel"
    if is_missing and whole and parameter.required:
        raise click.UsageError(f"{parameter.human_readable_name} is missing")
    plain = isinstance(parameter.type, click.Choice | click.IntRange)
    if plain and isinstance(value, str) and not value.startswith("$") and not value.isupper():
        parameter.type_cast_value(context, value)


@pytest.mark.parametrize("page", TYPED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_can_be_given_as_it_stands(page: Path) -> None:
    text = page.read_text("utf-8")
    for given in command_lines(text):
        assert not (why := wrong_with(given, whole=True)), f"headgate {shlex.join(given)}: {why}"
    for span in SPAN.findall(re.sub(FENCE, "", text)):
        for given in _commands_of(span):
            assert not (why := wrong_with(given, whole=False)), f"{span}: {why}"


def texts_of(module: Module) -> Iterator[str]:
    """The texts of a module that people can see: its strings without docstrings, values as X."""
    hidden = {
        id(node.value)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    hidden |= {
        id(part)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            yield "".join(map(str, parts))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in hidden
        ):
            yield re.sub(r"\{[a-z0-9_]*\}", "X", node.value)


def commands_in(text: str) -> Iterator[list[str]]:
    """The commands of a message, each behind "headgate": in backticks, in brackets, after a colon.

    They end where the message goes on.
    """
    for span in (*SPAN.findall(text), *TOLD.findall(text)):
        yield shlex.split(span.removeprefix("headgate "))


def is_given(given: list[str]) -> bool:
    """Whether it is to be given so: it has more than the names of a command."""
    command: click.Command | None = main
    for word in given:
        if not isinstance(command, click.Group):
            return True
        command = command.get_command(_context(command, None), word)
    return False


@pytest.mark.parametrize("name", sorted(modules()))
def test_every_command_of_a_message_can_be_given_as_it_stands(name: str) -> None:
    for text in texts_of(modules()[name]):
        for given in commands_in(text):
            why = wrong_with(given, whole=is_given(given))
            assert not why, f"headgate {shlex.join(given)}: {why}"


def helps(command: click.Command, context: click.Context) -> Iterator[str]:
    """The help of a command and of those below it."""
    yield f"{command.help or ''}\n{command.epilog or ''}"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from helps(below, _context(below, context))


def examples_of(text: str) -> Iterator[list[str]]:
    """The examples of a help: each from "headgate" on, with the lines on which it goes on."""
    example = ""
    for line in [*text.splitlines(), ""]:
        head = re.match(r" *([A-Z][a-z]+: )? *(headgate )?", line)
        assert head
        if head[1] or head[2] or not line.strip():
            yield from _commands_of(example)
            example = line[head.start(2) :] if head[2] else ""
        elif example:
            example += f" {line.strip()}"


def test_every_example_of_a_help_can_be_given_as_it_stands() -> None:
    found = 0
    for text in helps(main, _context(main, None)):
        for given in examples_of(text):
            assert not (why := wrong_with(given, whole=True)), (
                f"headgate {shlex.join(given)}: {why}"
            )
            found += 1
        for given in commands_in(text.partition("Example:")[0]):
            assert not (why := wrong_with(given, whole=False)), f"{shlex.join(given)}: {why}"
    assert found > 25


def test_a_message_that_leaves_out_what_its_command_needs_is_seen() -> None:
    (given,) = commands_in("it is bound; or: headgate client rebind X")

    assert is_given(given)
    assert wrong_with(given, whole=True) == "reason is missing"
    assert not is_given(["dead", "list"])
    assert sum(1 for module in modules().values() for text in texts_of(module)
               for _ in commands_in(text)) > 20  # fmt: skip


def test_commands_are_found_and_a_wrong_one_is_seen() -> None:
    shown = (
        "```sh\nJOB=$(headgate submit calls a.jsonl --client acme) && headgate watch $JOB  # x\n```"
    )

    assert list(command_lines(shown)) == [
        ["submit", "calls", "a.jsonl", "--client", "acme"],
        ["watch", "$JOB"],
    ]
    assert sum(len(list(command_lines(page.read_text("utf-8")))) for page in TYPED) > 50
    assert wrong_with(["submit", "calls", "a.jsonl", "--client", "acme"], whole=True) == ""
    for wrong in (
        ["limits", "show"],
        ["watch", "a", "b"],
        ["watch", "--colour", "a"],
        ["submit", "calls", "a.jsonl"],
        ["worker", "--for", "events"],
    ):
        assert wrong_with(wrong, whole=True), wrong


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    shown = (REFERENCE / name).read_text("utf-8")

    assert shown == GENERATED[name](), f"run `make docs`: docs/reference/{name} is another one"
