from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.kinds import all_kinds, find_kind, register
from orchestration.kinds.genesys import GENESYS_KINDS
from tasks.genesys.operations import OPERATIONS
from tests.support.kinds import TICKETS, install
from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestration.kinds import Kind

ROOT = Path(__file__).parents[3]
BUILT_IN = {"calls", "contacts", "campaigns", "prompts", "assets"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on `sys.path`, as that of an environment; the list of kinds is made anew."""
    monkeypatch.syspath_prepend(tmp_path)
    all_kinds.cache_clear()
    yield tmp_path
    all_kinds.cache_clear()
    sys.modules.pop("ticket_kind", None)


def run(*args: str) -> Any:
    return CliRunner().invoke(main, [*args])


def test_each_kind_that_is_built_in_is_listed_under_its_name() -> None:
    assert {name: kind.name for name, kind in all_kinds().items()} == {it: it for it in BUILT_IN}


def test_the_application_gets_the_tasks_of_every_kind() -> None:
    app = Celery("test", set_as_current=False)

    register(app)

    for kind in all_kinds().values():
        assert app.tasks[kind.steps.task].kind is kind.steps
        if kind.steps.local_task:
            assert app.tasks[kind.steps.local_task].kind is kind.steps


def test_an_installed_package_adds_a_kind_with_its_command_options_and_tasks(folder: Path) -> None:
    install(folder)
    app = Celery("test", set_as_current=False)

    register(app)

    assert set(all_kinds()) == {*BUILT_IN, "tickets"}
    assert "tickets.open" in app.tasks
    assert "tickets " in run("submit", "--help").output
    help_ = run("submit", "tickets", "--help").output
    assert "Submit FILE, one ticket a line." in help_
    assert re.search(r"--queue NAME +Who gets the tickets\.  \[required\]", help_)
    assert "--dry-run" in help_


@pytest.mark.parametrize(
    ("entry", "code", "reason"),
    [
        ("ticket_kind:TICKETS", "1 / 0", "cannot be loaded (ZeroDivisionError: division by zero)"),
        ("ticket_kind:TICKETS", "exit(3)", "cannot be loaded (SystemExit: 3)"),
        ("ticket_kind:MISSING", TICKETS, "cannot be loaded (AttributeError: "),
        ("ticket_kind:Tickets", TICKETS, "names no Kind object"),
        (
            "ticket_kind:TICKETS",
            TICKETS.replace('name = "tickets"', 'name = "calls"'),
            "kind 'calls' of package ticket-kind has the name, or a task, of another kind",
        ),
        (
            "ticket_kind:TICKETS",
            TICKETS.replace('"tickets.open"', '"calls.call"'),
            "kind 'tickets' of package ticket-kind has the name, or a task, of another kind",
        ),
        (
            "ticket_kind:TICKETS",
            TICKETS.replace("    platform = ANY_PLATFORM\n", ""),
            "kind 'tickets' of package ticket-kind does not say its platform",
        ),
        (
            "ticket_kind:TICKETS",
            TICKETS.replace('Command(name="tickets"', 'Command(name="media"'),
            "shares the command 'media' with a kind that has other help or options",
        ),
    ],
    ids=[
        "broken module",
        "module that exits",
        "missing object",
        "no object",
        "taken name",
        "taken task",
        "incomplete",
        "taken command",
    ],
)
def test_a_package_that_brings_no_kind_is_named_in_one_sentence(
    folder: Path, entry: str, code: str, reason: str
) -> None:
    install(folder, entry, code)

    with pytest.raises(ConfigError) as error:
        all_kinds()

    assert reason in str(error.value)
    assert "package ticket-kind" in str(error.value)
    result = run("submit", "calls", "--help")
    assert result.exit_code == 2
    assert result.stderr.startswith("headgate: ")
    assert result.stderr.count("\n") == 1


def test_kinds_that_share_a_command_share_its_help_and_its_options() -> None:
    commands: dict[str, set[Any]] = {}
    for kind in all_kinds().values():
        commands.setdefault(kind.command.name, set()).add((kind.command, kind.options))

    assert {name: len(forms) for name, forms in commands.items() if len(forms) > 1} == {}


@pytest.mark.parametrize("kind", GENESYS_KINDS, ids=lambda it: it.name)
def test_a_client_of_nice_sends_no_rows_of_a_kind_for_genesys(kind: Kind[Any]) -> None:
    assert kind.other_platform("nice") == "NICE CXone"
    assert kind.other_platform("nice-guide") == "NICE CXone"
    assert kind.other_platform("genesys") == kind.other_platform("sandbox") == ""


def test_a_kind_that_is_not_installed_here_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"'tickets' is not known here .*calls, campaigns, con"):
        find_kind("tickets")


def test_each_operation_of_genesys_belongs_to_a_kind_and_the_other_way_round() -> None:
    of_kinds = {
        name: known
        for kind in all_kinds().values()
        for name, known in kind.steps.operations.items()
    }

    assert of_kinds == OPERATIONS


def test_every_field_that_a_row_may_have_has_a_meaning_of_one_sentence() -> None:
    for kind in all_kinds().values():
        for fields in kind.fields.values():
            for name, meaning in fields.items():
                assert meaning == meaning.strip() != "", (kind.name, name)
                assert "\n" not in meaning, (kind.name, name)


def compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each text that is compared with something, with its line; those of `match` too."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                parts = [part for side in (node.left, *node.comparators) for part in ast.walk(side)]
            case ast.MatchValue():
                parts = [node.value]
            case _:
                continue
        for part in parts:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.lineno, part.value


def test_no_file_of_the_product_compares_the_name_of_a_kind() -> None:
    # `calls` is a pool of workers and a queue too.
    names = BUILT_IN - {"calls"}
    found = [
        f"{file.relative_to(ROOT)}:{line} {text!r}"
        for room in ("workers", "tasks", "orchestration")
        for file in sorted((ROOT / room).rglob("*.py"))
        if "sandbox" not in file.parts  # a provider, which has paths of these names
        for line, text in compared(ast.parse(file.read_text("utf-8")))
        if text in names
    ]
    assert found == []
