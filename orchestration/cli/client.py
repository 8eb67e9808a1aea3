"""`headgate client`: whether a client may send at all, and to which account."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from orchestration.cli import options
from orchestration.cli.changes import reasoned
from orchestration.operate.limits import pause, resume
from orchestration.operate.rebind import rebind
from orchestration.text import format_moment
from orchestration.views.holds import FOREVER_S
from orchestration.views.status import status

if TYPE_CHECKING:
    from workers.clients import Client

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")


class Span(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer versions
    """A time with its unit, such as 90s, 30m, 2h or 1d, in seconds."""

    name = "span"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read the time, or show what one looks like."""
        match = _SPAN.fullmatch(str(value))
        seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
        if not 0 < seconds <= FOREVER_S:
            self.fail(
                f"{value!r} is no time; use a number and a unit: 90s, 30m, 2h, 1d", param, ctx
            )
        return float(seconds)


@click.group()
def command() -> None:
    """Pause a client for the whole fleet, let it go on, or bind it to another account."""


@command.command("pause")
@click.argument("name")
@click.option(
    "--for", "for_s", type=Span(), metavar="TIME", default=None,
    help="How long, such as 30m or 2h; default: until it is resumed.",
)  # fmt: skip
@reasoned
@options.configured
def pause_client(name: str, for_s: float | None, reason: str, by: str) -> None:
    """Let no further call of a client leave; calls that are under way come to their end.

    The pause holds at once, for every worker, until its time is over or `headgate client resume`
    ends it. Nothing is lost: the calls wait in the backlog. A hold of the provider that lasts
    longer stays.

    \b
    Example:  headgate client pause acme --for 2h --reason "maintenance at the provider"
    Exit:     0 paused, 1 no store, 2 wrong usage
    """
    client = options.clients()[name]
    held_us = pause(client, for_s=for_s or FOREVER_S, by=by, reason=reason)
    click.echo(f"client {name} is paused {_format_end(client, held_us)}")


@command.command("resume")
@click.argument("name")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="End the provider's holds too, and the waits of single rows that it ordered.",
)
@reasoned
@options.configured
def resume_client(name: str, reason: str, by: str, *, everything: bool) -> None:
    """Let a client go on: end an operator's pause and open breakers, and name them.

    What the provider ordered to wait stays, and is named, unless --all is given: the calls that
    waited would come earlier than it asked for. They leave at the governed rate, from empty
    buckets, and not all at once.

    \b
    Example:  headgate client resume acme --reason "the maintenance is over"
    Exit:     0 it goes on, or nothing held it; 1 no store, 2 wrong usage
    """
    client = options.clients()[name]
    ended = resume(client, by=by, reason=reason, everything=everything)
    goes_on = f"client {name} goes on; held were: {', '.join(ended)}"
    click.echo(goes_on if ended else f"nothing held client {name} that this ends")
    for hold in status(client).holds if not everything else ():
        click.echo(f"{hold.sentence}; --all ends this too")


@command.command("rebind")
@click.argument("name")
@reasoned
@options.configured
def rebind_client(name: str, reason: str, by: str) -> None:
    """Bind the ledger of a client to the account that the configuration has for it now.

    At its first use a ledger is bound to base_url, token_url, client_id, idempotency_header and
    key_scope of its client, and other values are refused. Rows that were never sent go to the new
    account. The command is refused while a worker still serves the account before, while calls are
    out, and while the outcome of any is not known.

    \b
    Example:  headgate client rebind acme --reason "the credentials were rotated"
    Exit:     0 it is bound anew, 1 no store, or something is in doubt; 2 wrong usage
    """
    rebind(options.clients()[name], by=by, reason=reason)
    click.echo(f"client {name} is bound to the account of this configuration")


def _format_end(client: Client, held_us: int) -> str:
    seconds, _ = client.store.time()
    if held_us / 1e6 - seconds > FOREVER_S / 2:
        return f'until: headgate client resume {client.name} --reason "…"'
    return f"until {format_moment(held_us)}"
