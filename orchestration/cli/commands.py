"""Finds the commands of `headgate`, and turns each error of ours into one sentence."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import Final

import click

#: Every command and its line in the help, in the order in which a newcomer meets them. A module of
#: the same name in this folder holds each as `command`.
COMMANDS: Final = {
    "demo": "See Headgate work, on this machine alone.",
    "submit": "Submit a file of rows as a job.",
    "jobs": "List all jobs, the newest first.",
    "watch": "Follow a job until its last row has ended.",
    "report": "Write what became of each row of a job.",
    "campaign": "See how far the campaigns of a job are, or stop them.",
    "dead": "Show transactions that ended without success, or replay them.",
    "status": "Show limits, what waits, what is out and what holds it.",
    "limits": "Show the limits of clients, and change them live.",
    "client": "Pause a client for the whole fleet, and let it go on.",
    "recover": "Recover open work after the store was restored from a backup.",
    "audit": "Show what was done: when, by whom, what, and the reason.",
    "doctor": "Examine store, broker and workers, and recount the ledger.",
    "deploy": "Load this release's functions, where workers may not.",
    "worker": "Run a worker, and start it again if it dies.",
    "flower": "Show workers and tasks in Flower, behind a login.",
    "sandbox": "Run a provider on this machine, to test against.",
    "config": "Check the configuration.",
    "notify": "Try how Headgate tells of events.",
}
#: The folder in which our packages stand side by side.
_ROOT: Final = Path(__file__).resolve().parents[2]


class Commands(click.Group):
    """Imports the module of a command when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"orchestration.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of the help; no command is imported for it."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse to work with packages that are not ours, then read the arguments."""
        _let_any_text_be_shown()
        for package in ("workers", "tasks"):
            if hiding := _find_hiding(package):
                click.echo(
                    f"headgate: {hiding} hides the package {package!r} of Headgate; run the "
                    f"command from another folder, or rename the file",
                    err=True,
                )
                ctx.exit(2)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; an error of ours is printed as one sentence, without a traceback."""
        from workers.errors import HeadgateError

        try:
            answer: object = super().invoke(ctx)
        except HeadgateError as error:
            click.echo(f"headgate: {error}", err=True)
            ctx.exit(error.exit_code)
        return answer


def _let_any_text_be_shown() -> None:
    r"""Write out as \xff what the terminal's encoding lacks, instead of ending in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _find_hiding(package: str) -> Path | None:
    """The file that Python would import in place of our package; None when it finds ours.

    `workers` may be what is hidden, so its loader, which asks the same question, cannot be asked.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return None if origin.resolve() == _ROOT / package / "__init__.py" else origin


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headgate")
def main() -> None:
    """Run bulk API jobs at the full permitted rate: no 429s, nothing lost, nothing done twice."""
