"""Which jobs have ended. Watched are the open ones, and how far a client's jobs are known.

A job of one transaction is left out: the code that submitted it can wait for it. So are the
contacts of a campaign, which end with their campaign's job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from orchestration.notify.events import EventType, Notice
from orchestration.notify.outbox import Name, Outbox
from orchestration.text import format_count
from orchestration.views.progress import iso
from workers.ledger.job import FIELDS, OF_ONE_TRANSACTION
from workers.store.reading import number_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestration.notify.outbox import Changes, Noted
    from workers.clients import Client
    from workers.ledger.job import Job
    from workers.store.connection import Pipeline

#: Kinds of what is watched: a job that is open, and when the newest known job of a client began.
OPEN: Final = "job"
NEWEST: Final = "newest_job"
#: The stored name of when a job ended.
_FINISHED: Final = next(name for name, known in FIELDS.items() if known.attribute == "finished_us")


@dataclass(frozen=True, slots=True)
class Seen:
    """The jobs of a client at one moment."""

    new: Sequence[tuple[str, float]]  #: those that began since the newest known one, and when
    ended: Sequence[str | None]  #: of each watched one: when it ended

    @classmethod
    def of(cls, replies: Sequence[Any]) -> Self:
        """What the store answers to `ask`."""
        new, *ended = replies
        return cls(new, ended)


def ask(pipe: Pipeline, client: Client, noted: Noted) -> None:
    """Ask for the client's new jobs, and whether those that are watched have ended."""
    newest_us = _newest_us(noted, client)
    pipe.zrangebyscore(client.keys.jobs, f"({newest_us or 0}", "+inf", withscores=True)
    for job in _watched(noted, client):
        pipe.hget(client.keys.job(job), _FINISHED)


def note_ended(changes: Changes, noted: Noted, client: Client, seen: Seen) -> None:
    """Watch new jobs, and note which have ended.

    Raises:
        StoreAway: the store gives no answer.
    """
    watched = zip(_watched(noted, client), seen.ended, strict=True)
    ended = [job for job, moment in watched if moment is not None]
    new = [job for job, _ in seen.new if not job.startswith(OF_ONE_TRANSACTION)]
    is_first = _newest_us(noted, client) is None  # what ended before is no news
    for name, job in zip([*ended, *new], client.ledger.jobs([*ended, *new]), strict=True):
        has_ended = job is None or job.finished_us is not None
        changes.watched[_name(client, name)] = None if has_ended else ""
        is_news = name in ended or not is_first
        if is_news and has_ended and job and job.params.parent is None:
            changes.notices.append(_end_of(client, job))
    if seen.new or is_first:
        newest_us = max((round(moment) for _, moment in seen.new), default=noted.now_us)
        changes.watched[Name(NEWEST, (client.name,))] = str(newest_us)


def watch_again(client: Client, job: str) -> None:
    """Watch a job that a replay opened again, if anybody watches the client's jobs.

    Raises:
        StoreAway: the store gives no answer.
    """
    if job.startswith(OF_ONE_TRANSACTION):
        return
    outbox = Outbox(client.store, client.keys.namespace)
    outbox.watch_beside(Name(NEWEST, (client.name,)), _name(client, job), "")


def _name(client: Client, job: str) -> Name:
    return Name(OPEN, (client.name, job))


def _watched(noted: Noted, client: Client) -> Iterator[str]:
    return (name.subject[1] for name in noted.of([OPEN], client.name))


def _newest_us(noted: Noted, client: Client) -> int | None:
    """When the newest known job began; None: nobody looked yet, or the clock was set back."""
    stored = noted.of([NEWEST], client.name).get(Name(NEWEST, (client.name,)), "")
    newest_us = number_of(stored, -1)
    return newest_us if 0 <= newest_us <= noted.now_us else None


def _end_of(client: Client, job: Job) -> Notice:
    finished_us = job.finished_us or 0
    counts = {state: count for state, count in job.counts.items() if count}
    what = ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "nothing to do"
    return Notice.of(
        EventType.JOB_ENDED,
        (client.name, job.name),
        finished_us,
        f"job {job.name} of client {client.name} has ended: {what}, of "
        f"{format_count(job.rows, 'row')}",
        client=client.name,
        job=job.name,
        kind=job.params.kind,
        rows=job.rows,
        **job.counts,
        started=iso(job.started_us),
        ended=iso(finished_us),
    )
