"""`headgate audit`: what was done to clients, jobs and transactions, by whom and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from orchestration.cli import options
from orchestration.text import printable
from orchestration.views.find import find_job, find_transactions, is_key
from orchestration.views.history import history, key_of_line
from orchestration.views.steps import state_of
from workers.errors import UsageError
from workers.governor.overrides import format_values
from workers.ledger import audit
from workers.ledger.audit import Entry

if TYPE_CHECKING:
    from workers.clients import Client, Clients
    from workers.ledger.attempts import Attempt
    from workers.ledger.job import Job

#: So many entries are shown.
SHOWN: Final = 100


@click.command()
@click.argument("what", required=False, metavar="[CLIENT|JOB|JOB:LINE|KEY]")
@options.as_json
@options.configured
def command(what: str | None, as_json: bool) -> None:  # noqa: FBT001 -- as click
    """Show what was done: when, by whom, what, and the reason.

    Of a CLIENT, or of all: what people changed, and keys that were replaced; the newest 100 entries
    of each, the newest last. Of a JOB, one LINE of its file or one idempotency KEY: each send
    and look-up that was no plain success too, and what was done to the client meanwhile.

    \b
    Example:  headgate audit acme
              headgate audit c-5f0c7a521c9e:17
    Exit:     0 shown, 1 no store, 2 no such thing or wrong usage
    """  # noqa: D301 -- click wants the character itself
    clients = options.clients()
    if what is not None and what not in clients.names():
        _show_history(clients, what, as_json=as_json)
    else:
        _show_clients(clients, [what] if what else clients.names(), as_json=as_json)


def _show_clients(clients: Clients, names: list[str], *, as_json: bool) -> None:
    by_client = {}
    for name in names:
        client = clients[name]
        by_client[name] = audit.read(client.store, client.keys, most=SHOWN)[::-1]
    if as_json:
        shown = {
            name: [entry.as_dict() for entry in entries] for name, entries in by_client.items()
        }
        click.echo(json.dumps({"clients": shown}))
        return
    for name, entries in by_client.items():
        click.secho(f"client {name}", bold=True)
        for entry in entries:
            click.echo(f"  {line(entry)}")
        if not entries:
            click.echo("  nothing was done to it")


def _show_history(clients: Clients, what: str, *, as_json: bool) -> None:
    client, job, key = _find(clients, what)
    events = history(client, job, key)
    if as_json:
        head = {"client": client.name, "job": job.name, "key": key or None}
        click.echo(json.dumps({**head, "events": [event.as_dict() for event in events]}))
        return
    state = f"  {state_of(client.ledger.transaction(key))}" if key else ""
    click.secho(f"{f'transaction {key}  ' if key else ''}job {job.name}{state}", bold=True)
    for event in events[-SHOWN:]:
        source = event.source
        text = line(source) if isinstance(source, Entry) else _attempt(source, of_job=not key)
        click.echo(f"  {printable(text)}")
    if not events:
        click.echo("  nothing happened but plain successes, answers of 429 and waiting")
    elif len(events) > SHOWN:
        click.echo(f"the newest {SHOWN} of {len(events):,}; --json shows all", err=True)


def _find(clients: Clients, what: str) -> tuple[Client, Job, str]:
    """The client, the job, and the key of a transaction or ""."""
    if is_key(what):
        client, transaction = find_transactions(clients, [what])[what]
        if job := client.ledger.job(transaction.job):
            return client, job, what
        raise UsageError(f"job {transaction.job} of this transaction is lost")
    name, colon, number = what.rpartition(":")
    if colon and number.isascii() and number.isdigit():
        client, job = find_job(clients, name)
        return client, job, key_of_line(client, job, int(number))
    try:
        return *find_job(clients, what), ""
    except UsageError:
        raise UsageError(
            f"there is no client, job or transaction {what!r}; `headgate jobs` lists the jobs, "
            f"and their reports the keys"
        ) from None


def _attempt(it: Attempt, *, of_job: bool) -> str:
    at = datetime.fromtimestamp(it.at_us / 1e6, UTC).astimezone()
    correlation = f"correlation {it.correlation}" if it.correlation else ""
    said = " ".join(filter(None, (it.outcome.replace("_", " "), it.status)))
    key = it.key if of_job else ""
    parts = (
        f"{at:%Y-%m-%d %H:%M:%S}",
        f"{it.what} of step {it.step}" + (f", call {it.part + 1}" if it.part else ""),
        key,
        said,
        it.text,
        correlation,
    )
    return "  ".join(filter(None, parts))


def line(it: Entry) -> str:
    """The entry on one line."""
    at = datetime.fromtimestamp(it.at_ms / 1000, UTC).astimezone()
    change = f"{_values(it.before)} → {_values(it.after)}" if it.before or it.after else ""
    facts = ", ".join(_fact(name, text) for name, text in it.facts.items())
    parts = (
        f"{at:%Y-%m-%d %H:%M:%S}",
        it.by,
        it.action,
        it.subject,
        it.key,
        change,
        it.reason,
        facts,
    )
    return "  ".join(filter(None, parts))


def _fact(name: str, text: str) -> str:
    """A fact for people; moments are in us since the epoch."""
    if name.endswith("_us") and text.isdigit():
        text = f"{datetime.fromtimestamp(int(text) / 1e6, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    return f"{name.removesuffix('_us').replace('_', ' ')} {text or '-'}"


def _values(text: str) -> str:
    """Values of a limit for people; what is no such thing, or was cut, as it is."""
    try:
        values = json.loads(text)
    except ValueError:
        return text or "-"
    return format_values(values) if isinstance(values, dict) else text
