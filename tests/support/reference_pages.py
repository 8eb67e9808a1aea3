"""The pages of docs/reference that are generated; `make docs` writes them, a test compares them.

python -m tests.support.reference_pages          writes them
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestration.cli import main as headgate
from orchestration.kinds import all_kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REFERENCE = Path(__file__).parents[2] / "docs/reference"
#: Columns of the help, whatever the terminal has.
WIDTH = 96
#: What each mark of an operation means, see `tasks.genesys.operations`.
MARKS = {
    "verified": "read in the vendor's SDK (Python 269.0.0, permissions .NET)",
    "documented": "in the vendor's documentation or Terraform provider",
    "assumed": "follows from these, or somebody said so; try it before you rely on it",
}
#: What makes a second send of an operation harmless, by its guard.
HARMLESS = {
    "LOOKUP": "a look-up comes first",
    "UPSERT": "the thing's own id",
    "READ": "it makes nothing",
}

OPERATION_COLUMNS = (
    "kind",
    "operation",
    "call",
    "permission",
    "how sure",
    "why a second send is harmless",
    "how sure",
)


def commands_page() -> str:
    """Every command with its help, as `headgate COMMAND --help` prints it."""
    groups, commands = list(_commands()), []
    for path, text in groups:
        commands += [f"## {path}", "", "```text", text, "```", ""]
    names = [path.removeprefix("headgate ") for path, _ in groups[1:]]
    contents = " · ".join(f"[{name}](#headgate-{name.replace(' ', '-')})" for name in names)
    return "\n".join(
        [
            "# Commands",
            "",
            "Written by `make docs` from the help of the commands; change it there.",
            "",
            contents,
            "",
            *commands[:-1],
            "",
        ]
    )


def operations_page() -> str:
    """Every call to Genesys Cloud that Headgate knows by name, and the permission that it needs."""
    lines = [
        "# Genesys Cloud operations and permissions",
        "",
        "Written by `make docs` from the kinds and `tasks/genesys/operations.py`. Nobody has tried",
        "any of it against a live organisation.",
        "",
        *(f"- `{mark}`: {meaning}." for mark, meaning in MARKS.items()),
        "",
        f"| {' | '.join(OPERATION_COLUMNS)} |",
        f"| {' | '.join('---' for _ in OPERATION_COLUMNS)} |",
    ]
    known_by_kind = [
        (kind.name, name, known)
        for kind in all_kinds().values()
        for name, known in kind.steps.operations.items()
    ]
    for kind, name, known in known_by_kind:
        cells = (kind, name, f"`{known.route}`", f"`{known.permission}`", f"`{known.mark}`")
        harmless = (HARMLESS[known.guard.name], f"`{known.guard_mark}`")
        lines.append(f"| {' | '.join((*cells, *harmless))} |")
    return "\n".join([*lines, ""])


#: Each generated page by its name, and what gives its text.
PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "genesys-operations.md": operations_page,
}


def _commands(
    command: click.Command = headgate, parent: click.Context | None = None, path: str = "headgate"
) -> Iterator[tuple[str, str]]:
    """The full name and the help of a command and of all below it."""
    context = click.Context(
        command,
        parent=parent,
        info_name=path.rpartition(" ")[2],
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        **command.context_settings,
    )
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _commands(below, context, f"{path} {name}")


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
