"""Finds the commands of `headgate`, and turns each error of ours into one sentence."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

#: Every command, in the order in which a newcomer meets them. A module of the same name in this
#: folder holds each as `command`.
COMMANDS: Final = (
    "demo",
    "submit",
    "jobs",
    "watch",
    "report",
    "campaign",
    "dead",
    "status",
    "limits",
    "client",
    "recover",
    "audit",
    "doctor",
    "worker",
    "flower",
    "sandbox",
    "config",
)
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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse to work with packages that are not ours, then read the arguments."""
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
