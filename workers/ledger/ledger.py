"""The durable record: jobs, their pages of rows, and the transactions of the opened pages.

A transaction is one hash under its idempotency key. Names are short, because a hash stays in the
store's compact form only while it is small:

| field | meaning |
| --- | --- |
| s | state: w in the line, r rung, t Celery's countdown runs, s sent; or a final word; split: |
| | its rows are those of two other transactions now |
| k, n | step that is next or out, and number of steps |
| fl | flow of each step, comma between them; one name when all are the same; where a step has a |
| | look-up, two with > between them: the first is that of its next call |
| g | guard of each step, one letter each (k, u, l, n; r = a read); one when all are the same |
| j, p | job, and the place of the payload, see `workers.ledger.batch` |
| r | rows of the file that share it; absent = 1 |
| r:0, r:1, … | how often further lines of the file repeat the first, second, … of its rows |
| h | of a batch that was split: the row with which its second half begins, and both keys |
| t1, f | first send under its key, in us since the epoch; fence of the newest grant |
| t2 | when the newest answer to a send came; absent after a success |
| gn, g0 | generation of its key, see lua/rotate.lua; that with which its step, or replay, |
| | began; absent = 1 |
| pt | calls of this step that are done: its parts, or polls; absent = 0 |
| at, th, cr | attempts of this step, answers of 429, workers that died under it |
| cc | while it is out: limits of how many calls may be, in which it has a place, + between |
| m | what the next call of this step must know, see `workers.answer.guards`; l… = it is the |
| | look-up, o = its key is refused, s = it is to be split |
| u | 1 while an earlier send of this step may have been executed |
| st, id, co, e | newest status, id at the provider, correlation id, and error sentence |
| an | answers of finished steps, one line of JSON each |
| ids | of several steps: the provider's id of each that is finished, a line each, empty = none |
| b | moment of the backup after which each step to come may have been sent, see lua/recover.lua |
| d | of a transaction that ended without success: its entry among the dead letters |
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from workers import failpoints
from workers.ledger.batch import rows_of, taken
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workers.ledger.batch import Place
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: The states in which every row ends.
FINAL: Final = ("succeeded", "failed", "unknown", "cancelled", "expired", "rejected")
#: In which nothing more happens to a transaction.
ENDED: Final = (*FINAL, "split")
#: Those of a dead letter, which a replay takes back.
DEAD: Final = ("failed", "unknown")
#: Rows of pages that one process keeps unpacked, and jobs that it knows.
CACHED_ROWS, CACHED_JOBS = 8000, 1000

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """One transaction of a page that is being opened."""

    key: str
    flows: str
    guards: str
    steps: int
    index: int
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Loading:
    """How far the contacts of a campaign are; the counts are rows."""

    rows: int
    ended: int  #: those that were rejected at intake included
    rejected: int
    succeeded: int
    failed: int
    unknown: int
    elapsed_s: float  #: since they were released
    finished: bool


class Replayed(StrEnum):
    """What a replay came to."""

    WAITS = "WAITS"  #: the transaction waits again
    NOT_DEAD = "NOT_DEAD"  #: it was not dead, or is so anew: nothing was changed
    UNSURE = "UNSURE"  #: its last send may have been executed, and nothing guards a second one


class Recovered(StrEnum):
    """What becomes of a transaction after a restored backup."""

    SEND = "SEND"  #: it is sent again under its key
    LOOK = "LOOK"  #: it is looked up first
    UNKNOWN = "UNKNOWN"  #: it ends, for nothing guards a second send
    LEASE = "LEASE"  #: it was out; the sweep takes it as of a worker that died
    MARKED = "MARKED"  #: an earlier run for this backup has done it
    ENDED = "ENDED"  #: it had ended by then


def pack(entries: Sequence[Row]) -> bytes:
    """A page as it is stored."""
    return zlib.compress(json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode())


def unpack(page: bytes) -> list[Row]:
    """The entries of a stored page."""
    return json.loads(zlib.decompress(page))  # type: ignore[no-any-return]


def _rows(page: Sequence[Row]) -> int:
    return sum(len(rows_of(entry)) for entry in page)


class Ledger:
    """Jobs and transactions of one client."""

    def __init__(
        self, store: Store, keys: ClientKeys, clock: Callable[[], int] | None = None
    ) -> None:
        self._store = store
        self._keys = keys
        self._run = Scripts(store, keys, clock)
        self._pages: OrderedDict[tuple[str, int], list[Row]] = OrderedDict()
        self._jobs: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = Lock()

    def begin(self, job: str, about: Mapping[str, str | int]) -> dict[str, str]:
        """Create the job unless it is there; returns its hash as it stands now."""
        self._run("begin", job, *(it for pair in about.items() for it in pair))
        return self.job(job)

    def accept(  # noqa: PLR0913 -- a page and its counts
        self,
        job: str,
        page: int,
        entries: Sequence[Row],
        *,
        rejected: int,
        calls: int,
        rows: int | None = None,
    ) -> int:
        """Store page number `page`; returns how many pages the job has now.

        Args:
            job: The job.
            page: 0-based number of the page.
            entries: Its rows, and batches of rows.
            rejected: How many of its rows are rejected.
            calls: Calls that they will make.
            rows: How many rows there are in all; None: as many as entries.
        """
        rows = len(entries) if rows is None else rows
        pages = int(self._run("accept", job, page, rows, rejected, calls, pack(entries)))
        failpoints.reach("accepted")
        return pages

    def close(self, job: str) -> int:
        """Let work on the job begin; returns its number of rows."""
        return int(self._run("close", job))

    def release(self, job: str, contact_list: str, rows: int) -> Loading | None:
        """Let work on the contacts of a campaign begin, unless it has; returns how far it is.

        Args:
            job: The job of the contacts, accepted to its end and not closed.
            contact_list: The provider's id of their list.
            rows: So many the job has when it is whole; None is returned when it is not, and nothing
                was done.
        """
        told = self._run("release", job, contact_list, rows)
        failpoints.reach("released")
        if not told:
            return None
        names = ("rows", "ended", "rejected", "succeeded", "failed", "unknown")
        counts = dict(zip(names, told, strict=False))
        return Loading(**counts, elapsed_s=told[-2] / 1e6, finished=bool(told[-1]))

    def open(
        self,
        job: str,
        page: int,
        flows: Mapping[str, str],
        opened: Sequence[Opened],
        joined: Sequence[tuple[str, int]],
    ) -> bool:
        """Put the transactions of a page into their lines; False when somebody else did.

        Args:
            job: The job.
            page: Number of the page.
            flows: Flow → its definition, for flows that may be new.
            opened: The transactions.
            joined: Of each further row that joins one: its key, and which of its rows, from 0.
        """
        args: list[str | int] = []
        for it in opened:
            args += (it.key, it.flows, it.guards, it.steps, it.index, it.rows)
        reply = self._run("open", job, page, json.dumps(flows), json.dumps(list(joined)), *args)
        failpoints.reach("page_opened")
        return bool(reply)

    def replay(
        self, key: str, letter: str, entry: Sequence[str], *, not_executed: bool = False
    ) -> Replayed:
        """Let a dead transaction wait again, under its key, at the step where it stopped.

        Args:
            key: The transaction.
            letter: Its entry among the dead letters, as its hash has it in `d`.
            entry: What the audit says of it, see `workers.ledger.audit.addition`.
            not_executed: A person states that the provider did not execute its last send.
        """
        replayed = Replayed(self._run("replay", key, letter, int(not_executed), *entry))
        failpoints.reach("replayed")
        return replayed

    def recover(
        self, job: str, at_us: int, keys: Sequence[str], *, dry: bool = False
    ) -> list[Recovered]:
        """Mark what may have been sent after the backup from which the store was restored.

        Args:
            job: Its pages that are not open yet are marked too.
            at_us: The moment of the backup, in us since the epoch.
            keys: Transactions of the job.
            dry: Only tell what would be done.

        Returns:
            What becomes of each transaction.
        """
        words = self._run("recover", job, at_us, int(dry), *keys)
        failpoints.reach("recovered")
        return [Recovered(it) for it in words]

    def job(self, job: str) -> dict[str, str]:
        """The job's hash as it stands now; empty when there is none of this name."""
        return self._store.hgetall(self._keys.job(job))  # type: ignore[return-value]

    def about(self, job: str) -> dict[str, Any]:
        """What never changes in a closed job (kind, tenant, lane, parameters); kept in the process.

        The contacts of a campaign learn their list when they are released, and closed with it.
        """
        known = self._jobs.get(job)
        if known is None:
            fields = ("kind", "about", "list", "closed")
            kind, about, contact_list, closed = self._store.hmget(self._keys.job(job), *fields)
            known = {"kind": kind, **json.loads(about or "{}")}
            if contact_list:
                known["list"] = contact_list
            if not closed:
                return known
            with self._lock:
                self._jobs[job] = known
                if len(self._jobs) > CACHED_JOBS:
                    self._jobs.popitem(last=False)  # it is read again, if ever
        return known

    def page(self, job: str, page: int) -> list[Row]:
        """The entries of a page, rows and batches; the newest stay unpacked in the process."""
        place = (job, page)
        with self._lock:
            if rows := self._pages.get(place):
                self._pages.move_to_end(place)
                return rows
        name = self._keys.page(job, page)
        raw: bytes = self._store.execute_command("GET", name, NEVER_DECODE=True)
        rows = unpack(raw)
        with self._lock:
            self._pages[place] = rows
            while len(self._pages) > 1 and sum(map(_rows, self._pages.values())) > CACHED_ROWS:
                self._pages.popitem(last=False)
        return rows

    def row(self, job: str, place: Place) -> Row:
        """What a transaction sends: a row, or a batch of them."""
        return taken(self.page(job, place.page)[place.index], place)

    def transaction(self, key: str) -> dict[str, str]:
        """One transaction's hash; empty when there is none."""
        return self._store.hgetall(self._keys.transaction(key))  # type: ignore[return-value]

    def transactions(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """Many transactions' hashes in one round trip, in the order of `keys`."""
        pipe = self._store.pipeline(transaction=False)
        for key in keys:
            pipe.hgetall(self._keys.transaction(key))
        return pipe.execute()
