"""`headgate audit`: what was done to clients, jobs and transactions, by whom and why."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import click

from orchestration.cli import options
from orchestration.text import escape_controls, format_moment
from orchestration.views.find import find_job, find_transactions, is_key
from orchestration.views.history import history, key_of_line
from orchestration.views.steps import state_of
from workers.errors import UsageError
from workers.governor import overrides
from workers.ledger import audit
from workers.ledger.audit import Entry
from workers.store.reading import is_number, number_of, read_json

if TYPE_CHECKING:
    from workers.clients import Client, Clients
    from workers.ledger.attempts import Attempt
    from workers.ledger.job import Job

#: Entries that are printed for people.
_PRINTED: Final = 100


@click.command()
@click.argument("what", required=False, metavar="[CLIENT|JOB|JOB:LINE|KEY]")
@options.as_json
@options.configured
def command(what: str | None, *, as_json: bool) -> None:
    """Show what was done: when, by whom, what, and the reason.

    For a CLIENT, or for all when none is named, it shows what people changed and which keys were
    replaced: the newest 100 entries of each client, the newest last. For a JOB, one LINE of its
    file or one idempotency KEY, it also shows each send and look-up that was no plain success, and
    what was done to the client meanwhile.

    \b
    Example:  headgate audit acme
              headgate audit c-5f0c7a521c9e:17
    Exit:     0 shown, 1 no store, 2 no such thing or wrong usage
    """
    clients = options.clients()
    if what is not None and what not in clients.names():
        _show_history(clients, what, as_json=as_json)
    else:
        _show_clients(clients, [what] if what else clients.names(), as_json=as_json)


def _show_clients(clients: Clients, names: list[str], *, as_json: bool) -> None:
    opened = [clients[name] for name in names]
    entries = {
        client.name: audit.read(client.store, client.keys, most=_PRINTED)[::-1] for client in opened
    }
    if as_json:
        lists = {name: [entry.as_dict() for entry in listed] for name, listed in entries.items()}
        click.echo(json.dumps({"clients": lists}))
        return
    for name, listed in entries.items():
        click.secho(f"client {name}", bold=True)
        for entry in listed:
            click.echo(f"  {format_entry(entry)}")
        if not listed:
            click.echo("  nothing was done to it")


def _show_history(clients: Clients, what: str, *, as_json: bool) -> None:
    client, job, key = _find_subject(clients, what)
    events = history(client, job, key)
    if as_json:
        subject = {"client": client.name, "job": job.name, "key": key or None}
        click.echo(json.dumps({**subject, "events": [event.as_dict() for event in events]}))
        return
    state = f"  {state_of(client.ledger.transaction(key))}" if key else ""
    click.secho(f"{f'transaction {key}  ' if key else ''}job {job.name}{state}", bold=True)
    for event in events[-_PRINTED:]:
        click.echo(f"  {escape_controls(_format_event(event.source, with_key=not key))}")
    if not events:
        click.echo("  nothing happened but plain successes, answers of 429 and waiting")
    elif len(events) > _PRINTED:
        click.echo(f"the newest {_PRINTED} of {len(events):,}; --json shows all", err=True)


def _find_subject(clients: Clients, what: str) -> tuple[Client, Job, str]:
    """The client, the job, and the key of a transaction or ""."""
    if is_key(what):
        client, transaction = find_transactions(clients, [what])[what]
        if job := client.ledger.job(transaction.job):
            return client, job, what
        raise UsageError(f"job {transaction.job} of this transaction is lost")
    name, colon, number = what.rpartition(":")
    if colon and re.fullmatch(r"[0-9]{1,15}", number):
        client, job = find_job(clients, name)
        return client, job, key_of_line(client, job, int(number))
    try:
        return *find_job(clients, what), ""
    except UsageError:
        raise UsageError(
            f"there is no client, job or transaction {what!r}; `headgate jobs` lists the jobs, "
            f"and their reports the keys"
        ) from None


def _format_event(happened: Entry | Attempt, *, with_key: bool) -> str:
    if isinstance(happened, Entry):
        return format_entry(happened)
    return _format_attempt(happened, with_key=with_key)


def _format_attempt(attempt: Attempt, *, with_key: bool) -> str:
    part = f", call {attempt.part + 1}" if attempt.part else ""
    parts = (
        format_moment(attempt.at_us),
        f"{attempt.what} of step {attempt.step}{part}",
        attempt.key if with_key else "",
        " ".join(filter(None, (attempt.outcome.replace("_", " "), attempt.status))),
        attempt.text,
        f"correlation {attempt.correlation}" if attempt.correlation else "",
    )
    return "  ".join(filter(None, parts))


def format_entry(entry: Entry) -> str:
    """An entry of the audit on one line."""
    change = ""
    if entry.before or entry.after:
        change = f"{_format_values(entry.before)} → {_format_values(entry.after)}"
    parts = (
        format_moment(entry.at_ms * 1000),
        entry.by,
        entry.action,
        entry.subject,
        entry.key,
        change,
        entry.reason,
        ", ".join(_format_fact(name, text) for name, text in entry.facts.items()),
    )
    return "  ".join(filter(None, parts))


def _format_fact(name: str, text: str) -> str:
    """A fact for people; moments are in us since the epoch."""
    if name.endswith("_us") and is_number(text):
        text = format_moment(number_of(text))
    return f"{name.removesuffix('_us').replace('_', ' ')} {text or '-'}"


def _format_values(text: str) -> str:
    """The values of a limit for people; a text that is not JSON, or was cut, stays as it is."""
    try:
        values = read_json(text)
    except ValueError:
        return text or "-"
    return overrides.format_values(values) if isinstance(values, dict) else text
