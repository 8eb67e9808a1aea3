"""`headgate limits`: the limits that hold now, and those changed while the fleet runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import click

from orchestration.cli import options
from orchestration.cli.changes import reasoned
from orchestration.cli.limit_table import describe_limits, format_limit
from orchestration.operate.limits import apply_configuration, set_limit, unset_limits
from orchestration.views.workers import Roster, workers_of
from workers.errors import UsageError
from workers.governor import overrides
from workers.settings.limits import Shape
from workers.store.connection import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.clients import Client


@click.group(invoke_without_command=True)
@options.configured
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the limits of clients, and change them for the whole fleet at once.

    Without a further command, it lists the limits of all clients.

    \b
    Example:  headgate limits --config acme.toml
    Exit:     0 shown, 1 no store, 2 wrong usage or configuration
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_limits)


@command.command("list")
@click.argument("client", required=False)
@options.as_json
@options.configured
def list_limits(client: str | None = None, *, as_json: bool = False) -> None:
    """Show the limits that hold now, of one CLIENT or of all, and which values are set live.

    \b
    Example:  headgate limits list acme
    Exit:     0 shown, 1 no store, 2 wrong usage, or what is set live does not go together with
              the configuration
    """
    clients = options.clients()
    names = [client] if client else clients.names()
    limits = {name: list(_describe_live(clients[name])) for name in names}
    if as_json:
        click.echo(json.dumps({"clients": limits}))
        return
    if not limits:
        click.echo("there are no clients; add one to the configuration", err=True)
    store = clients.settings.store
    roster = Roster.of(open_store(store), store.namespace) if limits else None
    for name, of_client in limits.items():
        click.secho(f"client {name}", bold=True)
        for limit in of_client:
            for line in format_limit(limit):
                click.echo(f"  {line}")
            if limit["live"]:
                click.secho(f"  {'':18}{_format_live(limit['live'])}", fg="yellow")
        if not of_client:
            click.echo("  no limits")
        for problem in workers_of(clients[name], roster).problems:
            click.secho(f"  problem: {problem}", fg="yellow")


@command.command("set")
@click.argument("client")
@click.argument("limit")
@click.option("--count", type=int, metavar="N", help="Calls per window, or at once.")
@click.option("--window", "window_s", type=float, metavar="S", help="The window in seconds.")
@click.option(
    "--rate", type=float, metavar="R", help="Calls per second; default: what count and window give."
)
@click.option(
    "--burst", type=int, metavar="B", help="Tokens of a burst; default: what count and window give."
)
@click.option("--reserve", type=int, metavar="R", help="Tokens that only urgent calls may take.")
@click.option("--shape", type=click.Choice(get_args(Shape)), help="How the provider counts.")
@click.option("--match", metavar="PATTERN", help='Which calls: "POST /api/v2/*", all: "* *".')
@reasoned
@options.configured
def set_values(
    client: str, limit: str, reason: str, by: str, **options_given: str | float | None
) -> None:
    """Set values of a LIMIT live: they hold at once, above the configuration, until they are unset.

    A tenant's own limit is TENANT/NAME. The command adds a limit that the configuration lacks when
    --count, --shape and --match describe it. It refuses values that no bucket can keep.

    \b
    Example:  headgate limits set acme app --count 100 --reason "the provider asked for less"
    Add:      headgate limits set acme exports --count 100 --window 60 --shape fixed_window
                --match "POST /exports/*" --reason "its 429s say so"
    Exit:     0 it holds, 1 no store, 2 wrong usage or value
    """
    values = {name: value for name, value in options_given.items() if value is not None}
    if not values:
        raise UsageError(
            "nothing to set; give one of --count, --window, --rate, --burst, --reserve, --shape, "
            "--match"
        )
    target = options.clients()[client]
    set_limit(target, limit, values, by=by, reason=reason)
    _show(target, limit)


@command.command("unset")
@click.argument("client")
@click.argument("limits", metavar="LIMIT...", nargs=-1, required=True)
@reasoned
@options.configured
def unset_values(client: str, limits: tuple[str, ...], reason: str, by: str) -> None:
    """Let the configuration's values of a LIMIT hold again; a limit that was added live is removed.

    \b
    Example:  headgate limits unset acme app --reason "the provider is well again"
    Exit:     0 done, 1 no store, 2 wrong usage
    """
    target = options.clients()[client]
    unset_limits(target, limits, by=by, reason=reason)
    for limit in dict.fromkeys(limits):
        _show(target, limit)


@command.command("apply")
@click.argument("digest")
@reasoned
@options.configured
def apply_limits(digest: str, reason: str, by: str) -> None:
    """End a difference between workers: the limits of one configuration hold for all of them.

    DIGEST is that of a configuration which a live worker has, as `headgate status` names it. It
    overrules every other one that was seen until now, also where that one comes back later on.

    \b
    Example:  headgate limits apply 3f9c0a52be71 --reason "the provider lowered our quota"
    Exit:     0 it holds, 1 no store, 2 wrong usage
    """
    apply_configuration(options.clients(), digest, by=by, reason=reason)
    click.echo(f"the limits of configuration {digest} hold")


def _describe_live(client: Client) -> Iterator[dict[str, Any]]:
    """Each limit that holds now, as `describe_limits` has it, and what is set live of it."""
    _, settings = client.look()
    set_live = overrides.read(client.store, client.keys).limits
    agreed = overrides.read(client.store, client.keys).agreed(client.configured)
    configured = {limit["name"]: limit for limit in describe_limits(agreed)}
    for limit in describe_limits(settings):
        live = set_live.get(limit["name"])
        yield {**limit, "live": live and _describe_override(live, configured.get(limit["name"]))}


def _describe_override(
    live: overrides.Override, configured: dict[str, Any] | None
) -> dict[str, Any]:
    before = None
    if configured:  # a rate that nobody stated followed from the calibration
        rate = configured["rate_per_s"]
        stated = {**configured, "rate": rate and round(rate, 3)}
        before = {name: stated.get(name) for name in live.values}
    return {"values": live.values, "instead_of": before, "by": live.by, "reason": live.reason}


def _format_live(live: dict[str, Any]) -> str:
    values = overrides.format_values(live["values"])
    every = (live["instead_of"] or {}).items()
    replaced = {name: value for name, value in every if value is not None}
    before = f" instead of {overrides.format_values(replaced)}" if replaced else ""
    return f"set live by {live['by']}: {values}{before} ({live['reason']})"


def _show(client: Client, name: str) -> None:
    for limit in _describe_live(client):
        if limit["name"] == name:
            for line in format_limit(limit):
                click.echo(line)
            return
    click.echo(f"limit {name} is gone")
