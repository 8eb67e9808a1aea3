from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from orchestration.cli import COMMANDS, main

if TYPE_CHECKING:
    from collections.abc import Iterator


def all_commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        yield path
        return
    if command.invoke_without_command and path:
        yield path
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from all_commands(below, (*path, name))


@pytest.mark.parametrize("path", list(all_commands()), ids=" ".join)
def test_every_command_says_what_it_does_with_an_example_and_its_exit_codes(
    path: tuple[str, ...],
) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])

    assert result.exit_code == 0
    lines = [line.strip() for line in result.output.splitlines()]
    assert any(line.startswith(f"Example:  headgate {' '.join(path)}") for line in lines)
    assert any(line.startswith("Exit:") for line in lines)


@pytest.mark.parametrize("path", list(all_commands()), ids=" ".join)
def test_every_option_of_a_command_is_explained(path: tuple[str, ...]) -> None:
    command: click.Command | None = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert command is not None

    unexplained = [
        option.name
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert unexplained == []


@pytest.mark.parametrize("path", list(all_commands()), ids=" ".join)
def test_no_help_shows_the_marks_of_its_source(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])

    assert result.exit_code == 0
    assert "\\" not in result.output


def test_the_help_lists_every_command_with_a_sentence() -> None:
    result = CliRunner().invoke(main, ["--help"])

    assert result.exit_code == 0
    lines = [line.split(maxsplit=1) for line in result.output.splitlines() if line[:2] == "  "]
    assert {line[0] for line in lines if len(line) > 1} >= set(COMMANDS)


@pytest.mark.parametrize("args", [["watch"], ["jobs", "--colour"], ["config", "check", "extra"]])
def test_wrong_usage_is_one_sentence_and_exit_2(args: list[str]) -> None:
    result = CliRunner().invoke(main, args)

    assert result.exit_code == 2
    assert "Error:" in result.output
    assert "Traceback" not in result.output
