"""`headgate limits`: the limits that hold now, and those changed while the fleet runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import click

from orchestration.cli import options
from orchestration.cli.changes import reasoned
from orchestration.cli.config import limit_lines, limits_of
from orchestration.operate import limits as operate_limits
from workers.errors import UsageError
from workers.governor import overrides
from workers.governor.overrides import format_values
from workers.settings.limits import Shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.clients import Client


@click.group(invoke_without_command=True)
@options.configured
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the limits of clients, and change them for the whole fleet at once."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@command.command("list")
@click.argument("client", required=False)
@options.as_json
@options.configured
def list_(client: str | None = None, as_json: bool = False) -> None:  # noqa: FBT001, FBT002 -- as click
    """Show the limits that hold now, of one CLIENT or of all, and what of them is set live.

    \b
    Example:  headgate limits list acme
    Exit:     0 shown, 1 no store, 2 wrong usage, or what is set live does not go together with
              the configuration
    """  # noqa: D301 -- click wants the character itself
    clients = options.clients()
    names = [client] if client else clients.names()
    found = {name: list(_limits(clients[name])) for name in names}
    if as_json:
        click.echo(json.dumps({"clients": found}))
        return
    if not found:
        click.echo("there are no clients; add one to the configuration", err=True)
    for name, limits in found.items():
        click.secho(f"client {name}", bold=True)
        for it in limits:
            for line in limit_lines(it):
                click.echo(f"  {line}")
            if it["live"]:
                click.secho(f"  {'':18}{_live(it['live'])}", fg="yellow")
        if not limits:
            click.echo("  no limits")


@command.command("set")
@click.argument("client")
@click.argument("limit")
@click.option("--count", type=int, metavar="N", help="Calls per window, or at once.")
@click.option("--window", "window_s", type=float, metavar="S", help="The window in seconds.")
@click.option("--rate", type=float, metavar="R", help="Calls per second, instead of what follows.")
@click.option("--burst", type=int, metavar="B", help="Tokens of a burst, instead of what follows.")
@click.option("--reserve", type=int, metavar="R", help="Tokens that only urgent calls may take.")
@click.option("--shape", type=click.Choice(get_args(Shape)), help="How the provider counts.")
@click.option("--match", metavar="PATTERN", help='Which calls: "POST /api/v2/*", all: "* *".')
@reasoned
@options.configured
def set_(client: str, limit: str, reason: str, by: str, **given: Any) -> None:  # noqa: ANN401 -- options
    """Let values of a LIMIT stand above the configuration's, at once and until they are unset.

    A tenant's own limit is TENANT/NAME. A limit that is not in the configuration is added, if it
    comes with --count, --shape and --match. Values that no bucket can keep are refused.

    \b
    Example:  headgate limits set acme app --count 100 --reason "the provider asked for less"
    Add:      headgate limits set acme exports --count 100 --window 60 --shape fixed_window
                --match "POST /exports/*" --reason "its 429s say so"
    Exit:     0 it holds, 1 no store, 2 wrong usage or value
    """  # noqa: D301 -- click wants the character itself
    values = {name: value for name, value in given.items() if value is not None}
    if not values:
        raise UsageError(
            "nothing to set; give one of --count, --window, --rate, --burst, --reserve, --shape, "
            "--match"
        )
    it = options.clients()[client]
    operate_limits.set_limit(it, limit, values, by=by, reason=reason)
    _show(it, limit)


@command.command()
@click.argument("client")
@click.argument("limits", metavar="LIMIT...", nargs=-1, required=True)
@reasoned
@options.configured
def unset(client: str, limits: tuple[str, ...], reason: str, by: str) -> None:
    """Let the configuration's values of a LIMIT hold again; one that was added live goes.

    \b
    Example:  headgate limits unset acme app --reason "the provider is well again"
    Exit:     0 done, 1 no store, 2 wrong usage
    """  # noqa: D301 -- click wants the character itself
    it = options.clients()[client]
    operate_limits.unset_limits(it, limits, by=by, reason=reason)
    for limit in dict.fromkeys(limits):
        _show(it, limit)


def _limits(client: Client) -> Iterator[dict[str, Any]]:
    """Each limit that holds now, as `limits_of` has it, and what is set live of it."""
    _, settings = client.look()
    set_live = overrides.read(client.store, client.keys).limits
    configured = {it["name"]: it for it in limits_of(client.configured)}
    for it in limits_of(settings):
        one = set_live.get(it["name"])
        yield {**it, "live": one and _told(one, configured.get(it["name"]))}


def _told(it: overrides.Override, configured: dict[str, Any] | None) -> dict[str, Any]:
    was = {name: configured.get(name) for name in it.values} if configured else None
    return {"values": it.values, "instead_of": was, "by": it.by, "reason": it.reason}


def _live(it: dict[str, Any]) -> str:
    instead = f" instead of {format_values(it['instead_of'])}" if it["instead_of"] else ""
    return f"set live by {it['by']}: {format_values(it['values'])}{instead} ({it['reason']})"


def _show(client: Client, limit: str) -> None:
    for it in _limits(client):
        if it["name"] == limit:
            for line in limit_lines(it):
                click.echo(line)
            return
    click.echo(f"limit {limit} is gone")
