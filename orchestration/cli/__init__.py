"""The command `headgate`: data on stdout, messages on stderr, exit codes that scripts can use.

Exit codes: 0 done, 1 it could not be done or some rows did not succeed, 2 wrong usage or input.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from workers.errors import HeadgateError

#: Every command and its module in this folder, in the order of the help.
COMMANDS = {
    "demo": "demo",
    "submit": "submit",
    "jobs": "jobs",
    "watch": "watch",
    "report": "report",
    "campaign": "campaign",
    "dead": "dead",
    "status": "status",
    "limits": "limits",
    "client": "client",
    "recover": "recover",
    "audit": "audit",
    "doctor": "doctor",
    "worker": "worker",
    "flower": "flower",
    "sandbox": "sandbox",
    "config": "config",
}


class Commands(click.Group):
    """Loads a command's module when the command is asked for: the help needs no store."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which a newcomer meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.{COMMANDS[cmd_name]}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 -- as click
        """Run a command; an error of ours is one sentence, never a traceback."""
        try:
            return super().invoke(ctx)
        except HeadgateError as error:
            click.echo(f"headgate: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headgate")
def main() -> None:
    """Run bulk API jobs at the full permitted rate: no 429s, nothing lost, nothing done twice."""
