"""How far a job has come: one look, or one look after another until it is finished."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from workers.clock import to_moment
from workers.errors import InputError, StoreAway, StoreReplaced
from workers.ledger.installation import where
from workers.ledger.job import Job
from workers.ledger.transaction import TransactionState
from workers.store.connection import to_us
from workers.store.reading import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from workers.clients import Client

#: The rate is measured over this many seconds.
RATE_S = 5.0
#: Why nothing moves in a job that is not accepted to its end, and in contacts of a campaign.
ACCEPTING: Final = (
    "work begins when the whole file is accepted; if its submit has ended, give the same submit "
    "command again: it goes on"
)
WAITING: Final = (
    "its contacts wait for their list, which campaign {1} of job {0} makes first: see "
    "`headgate watch {0}`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One job at one moment. Its rows are `waiting`, `in_flight` or counted in one final state."""

    job: str
    client: str
    kind: str
    name: str  #: of its file
    of: tuple[str, str] | None  #: contacts of a campaign: its job, and its row
    state: Literal["accepting", "waiting", "running", "finished"]  #: waiting: for its campaign
    rows: int  #: lines read so far, rejected ones included
    counts: Mapping[str, int]  #: rows in each of the six final states
    in_flight: int  #: rows whose call is out just now
    throttled: int  #: answers of 429
    #: rows ended per second of late; of a finished job, on the whole; None: not known yet
    rate_per_s: float | None
    at_us: int  #: the moment of this look; this and what follows in us since the epoch
    started_us: int
    finished_us: int | None

    @property
    def ended(self) -> int:
        """Rows in a final state."""
        return sum(self.counts.values())

    @property
    def worked(self) -> int:
        """Rows that ended by work: all but those rejected at intake."""
        return self.ended - self.counts["rejected"]

    @property
    def waiting(self) -> int:
        """Rows that neither ended nor are in flight."""
        return self.rows - self.ended - self.in_flight

    @property
    def eta_s(self) -> float | None:
        """Seconds until the last row ends at this rate; None when there is no rate to go by."""
        if self.state == "finished":
            return 0.0
        if self.state in {"accepting", "waiting"} or not self.rate_per_s:
            return None
        return (self.rows - self.ended) / self.rate_per_s

    @property
    def not_begun(self) -> str:
        """Why work on it has not begun; "" when it has."""
        if self.state == "waiting" and self.of:
            job, row = self.of
            return WAITING.format(job, row)
        return ACCEPTING if self.state == "accepting" else ""

    @property
    def all_succeeded(self) -> bool:
        """Whether every row has succeeded."""
        return self.state == "finished" and self.counts["succeeded"] == self.rows

    def as_dict(self) -> dict[str, Any]:
        """The look as programs get it: flat, times in ISO 8601."""
        rounded = {"rate_per_s": self.rate_per_s, "eta_s": self.eta_s}
        return {
            "job": self.job,
            "client": self.client,
            "kind": self.kind,
            "name": self.name,
            "of": {"job": self.of[0], "row": self.of[1]} if self.of else None,
            "state": self.state,
            "rows": self.rows,
            "waiting": self.waiting,
            "in_flight": self.in_flight,
            **self.counts,
            "throttled": self.throttled,
            **{name: None if value is None else round(value, 1) for name, value in rounded.items()},
            "started": iso(self.started_us),
            "finished": None if self.finished_us is None else iso(self.finished_us),
        }


def iso(time_us: int) -> str:
    """A moment as ISO 8601 in UTC, whole seconds."""
    return to_moment(time_us).isoformat(timespec="seconds").replace("+00:00", "Z")


def snapshot(client: Client, job: str, before: Progress | None = None) -> Progress:
    """The job as it stands now, in three round trips.

    Args:
        client: Whose job it is.
        job: Its name.
        before: An earlier look; the rate is what happened since. None: no rate yet.

    Raises:
        InputError: the client has no job of this name.
        StoreAway: the store gives no answer.
        StoreReplaced: it is not, or no longer, the store of this installation.
    """
    client.installation.check()
    pipe = client.store.pipeline(transaction=False)
    pipe.hgetall(client.keys.job(job))
    pipe.zscore(client.keys.jobs, job)
    pipe.time()
    # All that is out, of all jobs: by design little more than the threads of the fleet.
    pipe.zrange(client.keys.deadlines, 0, -1)
    hash_, accepted_us, now, out = pipe.execute()
    stored = Job.from_hash(job, hash_)
    if stored is None:
        raise InputError(
            f"client {client.name} has no job {job!r} in the store {where(client.fleet.store)}; "
            f"`headgate jobs` lists all"
        )
    sent = [
        transaction.rows
        for transaction in (client.ledger.transactions(out) if out else ())
        if transaction and transaction.job == job and transaction.state is TransactionState.SENT
    ]
    look = _progress(client, stored, accepted_us or to_us(now), to_us(now))
    in_flight = min(sum(sent), look.rows - look.ended)
    return replace(look, in_flight=in_flight, rate_per_s=_rate_per_s(stored, look, before))


def all_jobs(client: Client) -> list[Progress]:
    """Every job of the client, the newest first, without what is in flight."""
    pipe = client.store.pipeline(transaction=False)
    pipe.zrange(client.keys.jobs, 0, -1, desc=True, withscores=True)
    pipe.time()
    accepted, now = pipe.execute()
    looks = []
    stored = client.ledger.jobs([name for name, _ in accepted])
    for job, (_, accepted_us) in zip(stored, accepted, strict=True):
        if job:
            look = _progress(client, job, accepted_us, to_us(now))
            looks.append(replace(look, rate_per_s=_rate_per_s(job, look, None)))
    return looks


def follow(
    client: Client,
    job: str,
    *,
    every_s: float = 1.0,
    away: Callable[[StoreAway], None] | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Progress]:
    """Look again every `every_s` seconds, up to and including the look at the finished job.

    Args:
        client: Whose job it is.
        job: Its name.
        every_s: Seconds between two looks.
        away: Called with the error of each look that the store did not answer; None: the error is
            raised. That the store was replaced is raised in any case.
        wait: Sleeps; tests pass their own.
    """
    seen = deque[Progress]()
    while True:
        try:
            now = snapshot(client, job, seen[0] if seen else None)
        except StoreAway as error:
            if away is None or isinstance(error, StoreReplaced):
                raise
            away(error)
        else:
            yield now
            if now.state == "finished":
                return
            seen.append(now)
            while len(seen) > 1 and now.at_us - seen[0].at_us >= RATE_S * 1e6:
                seen.popleft()
        wait(every_s)


def _progress(client: Client, job: Job, accepted_us: float, now_us: int) -> Progress:
    """A look that knows of no rate, and of nothing in flight."""
    state: Literal["accepting", "waiting", "running", "finished"] = "accepting"
    if job.finished_us is not None:
        state = "finished"
    elif job.started:
        state = "running"
    elif job.params.parent:
        state = "waiting"
    return Progress(
        job=job.name,
        client=client.name,
        kind=job.params.kind,
        name=job.source,
        of=job.params.parent,
        state=state,
        rows=job.rows,
        counts=job.counts,
        in_flight=0,
        throttled=job.throttled,
        rate_per_s=None,
        at_us=now_us,
        started_us=number_of(accepted_us),
        finished_us=job.finished_us,
    )


def _rate_per_s(job: Job, look: Progress, before: Progress | None) -> float | None:
    """Rows that ended by work per second, on the whole or since an earlier look."""
    if job.finished_us is not None:
        return look.worked * 1e6 / max(1, job.finished_us - job.started_us)
    if before and look.at_us > before.at_us:
        # Dead letters that are replayed meanwhile are no longer ended.
        return max(0, look.worked - before.worked) * 1e6 / (look.at_us - before.at_us)
    return None
