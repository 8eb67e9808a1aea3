"""What happened to a transaction, or to all of a job: sends, look-ups, fresh keys, holds, changes.

Each is told by the streams `audit` and `attempts` of its client, which keep the newest only. What
a row holds is in neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestration.views.pages import page_of, rows_told
from workers.errors import UsageError
from workers.ledger import attempts, audit

if TYPE_CHECKING:
    from workers.clients import Client
    from workers.ledger.attempts import Attempt
    from workers.ledger.audit import Entry


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    at_us: int  #: by the store's clock
    it: Entry | Attempt

    def as_dict(self) -> dict[str, Any]:
        """As programs get it."""
        return {**self.it.as_dict(), "at_us": self.at_us}


def history(client: Client, job: str, key: str = "") -> list[Event]:
    """What happened to a job or to one of its transactions, the oldest first.

    What was done to the client as a whole meanwhile (a pause, another limit) is part of it.

    Args:
        client: Whose it is.
        job: The job.
        key: One of its transactions; "" = all.
    """
    about = client.ledger.job(job)
    began_ms = int(about["began_us"]) // 1000
    ended_ms = int(about["finished_us"]) // 1000 if "finished_us" in about else None
    events = [
        Event(int(it.facts.get("us", it.at_ms * 1000)), it)
        for it in audit.since(client.store, client.keys, began_ms)
        if (it.key == key if key else it.facts.get("job", it.subject) == job)
        or (not it.key and it.subject != job and (ended_ms is None or it.at_ms <= ended_ms))
    ]
    sent = attempts.read(client.store, client.keys, job=job, key=key)
    events += [Event(it.at_us, it) for it in sent]
    return sorted(events, key=lambda it: it.at_us)


def key_of_line(client: Client, job: str, line: int) -> str:
    """The idempotency key of a line of a job's file.

    Raises:
        UsageError: the file has no such row, or it was rejected.
    """
    for page in range(int(client.ledger.job(job).get("pages", 0))):
        for row, key, _ in rows_told(client, job, page_of(client, job, page) or []):
            if row["line"] == line:
                return key
    raise UsageError(
        f"job {job} has no transaction for line {line}; `headgate report {job}` lists its rows"
    )
