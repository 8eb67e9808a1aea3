"""`headgate client pause` and `resume`: whether a client may send at all."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from orchestration.cli import options
from orchestration.cli.changes import reasoned
from orchestration.operate import limits
from workers.store.connection import store_now_us

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
        """Read it, or say what it looks like."""
        found = _SPAN.fullmatch(str(value))
        seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
        if not 0 < seconds <= limits.FOREVER_S:
            self.fail(
                f"{value!r} is no time; use a number and a unit: 90s, 30m, 2h, 1d", param, ctx
            )
        return float(seconds)


@click.group()
def command() -> None:
    """Pause a client for the whole fleet, and let it go on."""


@command.command()
@click.argument("name")
@click.option(
    "--for", "for_s", type=Span(), metavar="TIME", default=None,
    help="How long, such as 30m or 2h; until it is resumed, if left out.",
)  # fmt: skip
@reasoned
@options.configured
def pause(name: str, for_s: float | None, reason: str, by: str) -> None:
    """Let no further call of a client leave; those that are under way come to their end.

    It holds at once, for every worker, until its time is over or `headgate client resume`. Nothing
    is lost: the calls wait in the backlog. A hold that ends later, the provider's for one, stays.

    \b
    Example:  headgate client pause acme --for 2h --reason "maintenance at the provider"
    Exit:     0 paused, 1 no store, 2 wrong usage
    """  # noqa: D301 -- click wants the character itself
    client = options.clients()[name]
    held_us = limits.pause(client, for_s=for_s or limits.FOREVER_S, by=by, reason=reason)
    click.echo(f"client {name} is paused {_until(client, held_us)}")


@command.command()
@click.argument("name")
@reasoned
@options.configured
def resume(name: str, reason: str, by: str) -> None:
    """Let a client go on: end its pause, an operator's or the provider's, and an open breaker.

    What waited is paced from empty buckets, not released at once. A limit or route that the
    provider holds for itself stays held.

    \b
    Example:  headgate client resume acme --reason "the provider is back"
    Exit:     0 it goes on, or nothing held it; 1 no store, 2 wrong usage
    """  # noqa: D301 -- click wants the character itself
    held = limits.resume(options.clients()[name], by=by, reason=reason)
    click.echo(f"client {name} goes on" if held else f"nothing held client {name}")


def _until(client: Client, held_us: int) -> str:
    if (held_us - store_now_us(client.store)) / 1e6 > limits.FOREVER_S / 2:
        return f"until: headgate client resume {client.name}"
    return f"until {datetime.fromtimestamp(held_us / 1e6, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
