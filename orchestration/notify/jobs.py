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
#: Jobs that are read at a time: of years there may be millions, nearly all of one transaction.
PAGE: Final = 500
#: The stored name of when a job ended.
_FINISHED: Final = next(name for name, known in FIELDS.items() if known.attribute == "finished_us")


@dataclass(frozen=True, slots=True)
class Seen:
    """The jobs of a client at one moment."""

    new: Sequence[tuple[str, float]]  #: the first page of those that are new, and when they began
    ended: Sequence[str | None]  #: of each watched one: when it ended

    @classmethod
    def of(cls, replies: Sequence[Any]) -> Self:
        """What the store answers to `ask`."""
        new, *ended = replies
        return cls(new, ended)


def ask(pipe: Pipeline, client: Client, noted: Noted) -> None:
    """Ask for the client's new jobs, and whether those that are watched have ended."""
    newest_us = _newest_us(noted, client)
    pipe.zrangebyscore(client.keys.jobs, *_first_after(newest_us or 0), withscores=True)
    for job in _watched(noted, client):
        pipe.hget(client.keys.job(job), _FINISHED)


def note_ended(changes: Changes, noted: Noted, client: Client, seen: Seen) -> int:
    """Watch new jobs, and note which have ended, as far as there is room for their notices.

    Returns:
        How many notices that are: so much less room is left for other clients.

    Raises:
        StoreAway: the store gives no answer.
    """
    watched = zip(_watched(noted, client), seen.ended, strict=True)
    ended = [job for job, moment in watched if moment is not None][: noted.room]
    notices: list[Notice] = []
    for start in range(0, len(ended), PAGE):
        names = ended[start : start + PAGE]
        for name, job in zip(names, client.ledger.jobs(names), strict=True):
            if job is None or job.finished_us is not None:
                changes.watched[_name(client, name)] = None
                notices += _news(client, job)
    newest_us = _newest_us(noted, client)
    # What ended before anybody looked is no news.
    news_us = noted.now_us if newest_us is None else 0
    for page in _pages(client, seen.new):
        newest_us = round(page[-1][1])
        names = [name for name, _ in page if not name.startswith(OF_ONE_TRANSACTION)]
        for name, job in zip(names, client.ledger.jobs(names), strict=True):
            if job and job.finished_us is None and job.params.parent is None:
                changes.watched[_name(client, name)] = ""
            elif job and (job.finished_us or 0) >= news_us:
                notices += _news(client, job)
        if len(notices) >= noted.room:
            break  # the next look goes on here
    changes.notices += notices
    newest_us = noted.now_us if newest_us is None else newest_us
    if newest_us != _newest_us(noted, client):
        changes.watched[Name(NEWEST, (client.name,))] = str(newest_us)
    return len(notices)


def watch_again(client: Client, job: str) -> None:
    """Watch a job that a replay opened again, if anybody watches the client's jobs.

    Raises:
        StoreAway: the store gives no answer.
    """
    if job.startswith(OF_ONE_TRANSACTION):
        return
    outbox = Outbox(client.store, client.keys.namespace)
    outbox.watch_beside(Name(NEWEST, (client.name,)), _name(client, job), "")


def _first_after(moment_us: int) -> tuple[str, str, int, int]:
    """Which jobs are the first page of those that began later."""
    return f"({moment_us}", "+inf", 0, PAGE


def _pages(
    client: Client, page: Sequence[tuple[str, float]]
) -> Iterator[Sequence[tuple[str, float]]]:
    """This page of new jobs and all later ones; no moment begins on one and ends on another."""
    while page:
        is_full = len(page) >= PAGE
        if is_full:
            page = [one for one in page if one[1] < page[-1][1]] or page
        yield page
        if not is_full:
            return
        after = _first_after(round(page[-1][1]))
        page = client.store.zrangebyscore(  # type: ignore[assignment]
            client.keys.jobs, *after, withscores=True
        )


def _name(client: Client, job: str) -> Name:
    return Name(OPEN, (client.name, job))


def _watched(noted: Noted, client: Client) -> Iterator[str]:
    return (name.subject[1] for name in noted.of([OPEN], client.name))


def _newest_us(noted: Noted, client: Client) -> int | None:
    """When the newest known job began; None: nobody looked yet, or the clock was set back."""
    stored = noted.of([NEWEST], client.name).get(Name(NEWEST, (client.name,)), "")
    newest_us = number_of(stored, -1)
    return newest_us if 0 <= newest_us <= noted.now_us else None


def _news(client: Client, job: Job | None) -> Iterator[Notice]:
    """The notice that a job has ended, if that is one to tell of."""
    if job and job.finished_us is not None and job.params.parent is None:
        yield _end_of(client, job)


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
