"""The durable record: jobs, their pages of rows, and the transactions of the opened pages.

`workers.ledger.job` has the stored fields of a job, `workers.ledger.transaction` those of a
transaction.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from workers import failpoints
from workers.cache import weigh
from workers.errors import LedgerDamaged, StoreAway
from workers.ledger.batch import part_of
from workers.ledger.cache import LedgerCache
from workers.ledger.job import Job, JobParams
from workers.ledger.packing import pack, unpack
from workers.ledger.transaction import Transaction
from workers.store.connection import store_now_us
from workers.store.hashes import read_hashes
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workers.ledger.batch import Place
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: What the parameters of a job take in memory beside their values.
PARAMS_OVERHEAD: Final = 1_000

Row = dict[str, Any]
_Stored = TypeVar("_Stored")


@dataclass(frozen=True, slots=True)
class NewTransaction:
    """One transaction of a page that is being opened."""

    key: str
    flows: str  #: see `transaction.join_flows`
    guards: str  #: see `transaction.join_guards`
    steps: int
    index: int  #: of its entry in the page, from 0
    rows: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCounts:
    """What stands on one page of a job."""

    rejected: int = 0
    calls: int = 0  #: that its rows will make
    rows: int | None = None  #: in all; None: as many as entries


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far the contacts of a campaign are; the counts are rows."""

    rows: int
    ended: int  #: in a final state, those that were rejected at intake included
    rejected: int
    succeeded: int
    failed: int
    unknown: int
    elapsed_s: float  #: since work on them began
    finished: bool


class Replayed(StrEnum):
    """What came of a replay."""

    WAITS = "WAITS"  #: the transaction waits again
    NOT_DEAD = "NOT_DEAD"  #: it was not dead, or has died anew since: nothing was changed
    UNSURE = "UNSURE"  #: its last send may have been executed, and nothing guards a second one


class Recovered(StrEnum):
    """What becomes of a transaction after a restored backup."""

    SEND = "SEND"  #: it is sent again under its key
    LOOK = "LOOK"  #: it is looked up first
    UNKNOWN = "UNKNOWN"  #: it ends, for nothing guards a second send
    LEASE = "LEASE"  #: it was out; the sweep treats it as one whose worker died
    MARKED = "MARKED"  #: an earlier run for this backup has marked it
    ENDED = "ENDED"  #: it had ended by then
    DAMAGED = "DAMAGED"  #: it cannot be read, and stays as it is; `headgate doctor` shows it


def _read(
    read: Callable[[str, Mapping[str, str]], _Stored | None],
    name: str,
    stored: Mapping[str, str],
) -> _Stored | None:
    """What is stored under this name; None where it cannot be read."""
    try:
        return read(name, stored)
    except (AttributeError, TypeError, ValueError):
        return None


class Ledger:
    """Jobs and transactions of one client.

    Args:
        store: Where they are.
        keys: Their names there.
        clock: Microseconds since the epoch, for tests that hold the clock.
        cache: What the process keeps of this store; None: a cache of its own.
    """

    def __init__(
        self,
        store: Store,
        keys: ClientKeys,
        clock: Callable[[], int] | None = None,
        cache: LedgerCache | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._run = Scripts(store, keys, clock)
        self._prefix = keys.prefix
        cache = cache or LedgerCache()
        self._pages, self._params = cache.pages, cache.params

    def begin(self, job: Job) -> Job:
        """Create the job unless it is there; returns it as it stands now.

        Raises:
            StoreAway: the store gives no answer, or lost the job meanwhile.
        """
        self._run("begin", job.name, *(text for pair in job.to_hash().items() for text in pair))
        begun = self.job(job.name)
        if begun is None:
            raise StoreAway(f"the store lost job {job.name} meanwhile")
        return begun

    def accept(self, job: str, page: int, entries: Sequence[Row], counts: PageCounts) -> int:
        """Store page number `page`, from 0; returns how many pages the job has now.

        Args:
            job: The job.
            page: The number of the page.
            entries: Its rows, and batches of rows.
            counts: Of these rows.
        """
        rows = len(entries) if counts.rows is None else counts.rows
        args = (rows, counts.rejected, counts.calls, pack(entries))
        pages = int(self._run("accept", job, page, *args))
        failpoints.reach("accepted")
        return pages

    def start(self, job: str) -> int:
        """Let work on the job begin; returns its number of rows."""
        return int(self._run("start", job))

    def start_load(self, job: str, contact_list: str, rows: int) -> LoadProgress | None:
        """Let work on the contacts of a campaign begin, unless it has; returns how far it is.

        Args:
            job: The job of the contacts, accepted to its end and not started.
            contact_list: The provider's id of their list.
            rows: How many rows the job has when it is whole.

        Returns:
            How far the contacts are; None when the job is not whole: then nothing was done.
        """
        reply = self._run("start_load", job, contact_list, rows)
        failpoints.reach("released")
        if not reply:
            return None
        *counts, elapsed_us, finished = reply
        names = ("rows", "ended", "rejected", "succeeded", "failed", "unknown")
        return LoadProgress(
            **dict(zip(names, counts, strict=True)),
            elapsed_s=elapsed_us / 1e6,
            finished=bool(finished),
        )

    def open(
        self,
        job: str,
        page: int,
        flows: Mapping[str, str],
        opened: Sequence[NewTransaction],
        joined: Sequence[tuple[str, int]],
    ) -> bool:
        """Put the transactions of a page into the backlog; False when somebody else did.

        Args:
            job: The job.
            page: Number of the page.
            flows: Flow → its definition, for flows that may be new.
            opened: The transactions.
            joined: Of each row that repeats an earlier one: the key of the transaction that it
                joins, and which of the rows of that one it repeats, from 0.
        """
        args: list[str | int] = []
        for new in opened:
            args += (new.key, new.flows, new.guards, new.steps, new.index, new.rows)
        reply = self._run("open", job, page, json.dumps(flows), json.dumps(list(joined)), *args)
        failpoints.reach("page_opened")
        return bool(reply)

    def replay(
        self, key: str, letter: str, entry: Sequence[str], *, not_executed: bool = False
    ) -> Replayed:
        """Let a dead transaction wait again, under its key, at the step where it stopped.

        Args:
            key: The transaction.
            letter: Its entry among the dead letters, see `Transaction.dead_letter`.
            entry: What the audit says of the replay, see `workers.ledger.audit.addition`.
            not_executed: A person states that the provider did not execute its last send.
        """
        replayed = Replayed(self._run("replay", key, letter, int(not_executed), *entry))
        failpoints.reach("replayed")
        return replayed

    def discard(self, key: str, letter: str, entry: Sequence[str]) -> bool:
        """Settle a dead transaction without sending: it keeps its state, and no replay is left.

        Args:
            key: The transaction.
            letter: Its entry among the dead letters, see `Transaction.dead_letter`.
            entry: What the audit says of it, see `workers.ledger.audit.addition`.

        Returns:
            False: it was not dead, or has died anew since; nothing was changed.
        """
        return bool(self._run("discard", key, letter, *entry) == "DISCARDED")

    def recover(
        self, job: str, at_us: int, keys: Sequence[str], *, dry: bool = False
    ) -> list[Recovered]:
        """Mark what may have been sent after the backup from which the store was restored.

        Args:
            job: Its pages that are not open yet are marked too.
            at_us: The moment of the backup, in us since the epoch.
            keys: Transactions of the job.
            dry: Only say what would be done.

        Returns:
            What becomes of each transaction.
        """
        words = self._run("recover", job, at_us, int(dry), *keys)
        failpoints.reach("recovered")
        return [Recovered(word) for word in words]

    def trust(self) -> None:
        """Let the client go on with what was recovered, however old its store is."""
        self._run("trust")

    def job(self, job: str) -> Job | None:
        """The job as it stands now; None when there is none of this name.

        Raises:
            LedgerDamaged: what is stored of it cannot be read.
            SchemaUnknown: another release stored it.
        """
        stored: dict[str, str] = self._store.hgetall(self._keys.job(job))  # type: ignore[assignment]
        try:
            return Job.from_hash(job, stored)
        except (AttributeError, TypeError, ValueError):
            raise LedgerDamaged(f"job {job} cannot be read; headgate doctor looks at it") from None

    def job_names(self) -> list[str]:
        """The names of all jobs, the oldest first."""
        return self._store.zrange(self._keys.jobs, 0, -1)  # type: ignore[return-value]

    def jobs(self, names: Sequence[str]) -> list[Job | None]:
        """Many jobs in one round trip, in the order of `names`; None: not there, or damaged."""
        stored = read_hashes(self._store, [self._keys.job(name) for name in names])
        return [_read(Job.from_hash, *pair) for pair in zip(names, stored, strict=True)]

    def job_params(self, job: str) -> JobParams:
        """What the steps of a job need to know beside their rows; kept in the process.

        It never changes once the job has started. The contacts of a campaign learn their list when
        they start.

        Those of a job that is lost are of no kind.
        """
        place = (self._prefix, job)
        known = self._params.get(place)
        if known is not None:
            return known
        stored = self.job(job)
        if stored is None:
            return JobParams(kind="")
        params = stored.step_params
        if stored.started:
            size = PARAMS_OVERHEAD + weigh(params.to_json().encode())
            self._params.put(place, params, size)
        return params

    def page(self, job: str, page: int) -> list[Row]:
        """The entries of a page, rows and batches; those used last stay unpacked.

        Raises:
            LedgerDamaged: it is missing, or cannot be read.
        """
        place = (self._prefix, job, page)  # quicker than its name in the store
        if rows := self._pages.get(place):
            return rows
        name = self._keys.page(job, page)
        raw: bytes = self._store.execute_command("GET", name, NEVER_DECODE=True)
        try:
            rows, size = unpack(raw)
        except (TypeError, ValueError, zlib.error):
            raise LedgerDamaged(
                f"page {page} of the rows of job {job} is missing or damaged; headgate doctor "
                f"looks at it"
            ) from None
        self._pages.put(place, rows, size)
        return rows

    def note_damage(self, name: str, why: str) -> None:
        """Note what cannot be read, by its name behind the client's prefix, for a person to see."""
        note = f"{store_now_us(self._store)} {why}"
        self._store.hsetnx(self._keys.damaged, name, note)

    def rows(self, job: str) -> list[Row]:
        """The entries of all pages of a job, in their order; for jobs of modest size."""
        stored = self.job(job)
        pages = range(stored.pages if stored else 0)
        return [entry for page in pages for entry in self.page(job, page)]

    def row(self, job: str, place: Place) -> Row:
        """What a transaction sends: a row, or a batch of them."""
        return part_of(self.page(job, place.page)[place.index], place)

    def transaction(self, key: str) -> Transaction | None:
        """The transaction of this key; None when there is none."""
        (transaction,) = self.transactions([key])
        return transaction

    def transactions(self, keys: Sequence[str]) -> list[Transaction | None]:
        """Many transactions in one round trip, in the order of `keys`; None: not there, damaged."""
        stored = read_hashes(self._store, [self._keys.transaction(key) for key in keys])
        return [_read(Transaction.from_hash, *pair) for pair in zip(keys, stored, strict=True)]
