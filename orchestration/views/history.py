"""What happened to a transaction, or to a job: sends, look-ups, fresh keys, holds, changes.

The streams `audit` and `attempts` of the client tell of it. They keep only their newest entries,
and neither holds the content of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from orchestration.views.pages import read_page, rows_of_page
from workers.errors import UsageError
from workers.ledger import attempts, audit
from workers.store.reading import number_of

if TYPE_CHECKING:
    from workers.clients import Client
    from workers.ledger.attempts import Attempt
    from workers.ledger.audit import Entry
    from workers.ledger.job import Job


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    at_us: int  #: by the store's clock
    source: Entry | Attempt

    def as_dict(self) -> dict[str, Any]:
        """The event as programs get it."""
        return {**self.source.as_dict(), "at_us": self.at_us}


def history(client: Client, job: Job, key: str = "") -> list[Event]:
    """What happened to a job or to one of its transactions, the oldest first.

    Meanwhile the client as a whole may have been paused, or its limits changed; that is part of it.

    Args:
        client: Whose it is.
        job: The job.
        key: One of its transactions; "" = all.
    """

    def concerns(entry: Entry) -> bool:
        if key and entry.key:
            return entry.key == key
        if not key and entry.facts.get("job", entry.subject) == job.name:
            return True
        ended_ms = None if job.finished_us is None else job.finished_us // 1000
        of_client = not entry.key and entry.subject != job.name
        return of_client and (ended_ms is None or entry.at_ms <= ended_ms)

    entries = audit.since(client.store, client.keys, job.began_us // 1000)
    events = [
        Event(number_of(entry.facts.get("us", ""), entry.at_ms * 1000), entry)
        for entry in entries
        if concerns(entry)
    ]
    sent = attempts.read(client.store, client.keys, job, key)
    events += [Event(attempt.at_us, attempt) for attempt in sent]
    return sorted(events, key=attrgetter("at_us"))


def key_of_line(client: Client, job: Job, line: int) -> str:
    """The idempotency key of a line of a job's file.

    Raises:
        UsageError: the file has no such row, or it was rejected.
    """
    for page in range(job.pages):
        for row, key, _ in rows_of_page(client, job.name, read_page(client, job.name, page) or []):
            if row["line"] == line:
                return key
    raise UsageError(
        f"job {job.name} has no transaction for line {line}; `headgate report {job.name}` lists "
        f"its rows"
    )
