"""`headgate audit`: what was done to clients, by whom and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from orchestration.cli import options
from workers import audit
from workers.overrides import told

if TYPE_CHECKING:
    from workers.audit import Entry

#: So many entries of a client are shown.
SHOWN: Final = 100


@click.command()
@click.argument("client", required=False)
@options.as_json
@options.configured
def command(client: str | None, as_json: bool) -> None:  # noqa: FBT001 -- as click
    """Show what was done to one CLIENT or to all: when, by whom, what, and the reason.

    The newest 100 entries of each client, the newest last. They are kept for 90 days.

    \b
    Example:  headgate audit acme
    Exit:     0 shown, 1 no store, 2 wrong usage
    """  # noqa: D301 -- click wants the character itself
    clients = options.clients()
    found = {}
    for name in [client] if client else clients.names():
        it = clients[name]
        found[name] = audit.read(it.store, it.keys, most=SHOWN)[::-1]
    if as_json:
        entries = {name: [it.as_dict() for it in its] for name, its in found.items()}
        click.echo(json.dumps({"clients": entries}))
        return
    for name, its in found.items():
        click.secho(f"client {name}", bold=True)
        for entry in its:
            click.echo(f"  {line(entry)}")
        if not its:
            click.echo("  nothing was done to it")


def line(it: Entry) -> str:
    """The entry on one line."""
    at = datetime.fromtimestamp(it.at_ms / 1000, UTC).astimezone()
    change = f"{_values(it.before)} → {_values(it.after)}" if it.before or it.after else ""
    parts = (f"{at:%Y-%m-%d %H:%M:%S}", it.by, it.action, it.subject, it.key, change, it.reason)
    return "  ".join(filter(None, parts))


def _values(text: str) -> str:
    """Values of a limit for people; what is no such thing, or was cut, as it is."""
    try:
        values = json.loads(text)
    except ValueError:
        return text or "-"
    return told(values) if isinstance(values, dict) else text
