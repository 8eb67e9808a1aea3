"""From a file to checked pages; nothing is accepted yet."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from tempfile import gettempdir
from typing import TYPE_CHECKING, Final

from orchestration.intake.packing import Packer
from orchestration.intake.seen import First, Repeats
from orchestration.intake.spool import Spool
from tasks import KINDS
from workers.answer.guards import Guard
from workers.errors import HeadgateError, InputError
from workers.ledger.identity import payload_hash
from workers.settings.limits import bucket_of, matching
from workers.store.connection import fsync_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestration.intake.packing import Member
    from orchestration.intake.readers.source import Source
    from orchestration.intake.submission import Submission
    from tasks.kind import StepPlan
    from workers.clients import Client
    from workers.ledger.ledger import Row

#: Guards that rest on what the store remembers of a send.
FORGETFUL: Final = {Guard.NONE: "none", Guard.LOOKUP: "lookup"}
#: Reasons of rejected rows that are kept to be shown.
SHOWN: Final = 20


@dataclass(slots=True)
class Checked:
    """A file that was read to its end: its pages, and what they come to."""

    file: str  #: its name, safe to print
    job: str = ""  #: the name that its content gives the job
    spool: Spool = field(default_factory=Spool)
    rows: int = 0
    rejected: int = 0
    joined: int = 0
    calls: int = 0
    reasons: list[tuple[int, str]] = field(default_factory=list)  #: line and reason, the first ones
    per_limit: Counter[str] = field(default_factory=Counter)  #: calls that each limit is charged

    def duration_s(self, it: Submission) -> float:
        """Seconds that the calls take at the governed rate; the slowest limit decides."""
        limits = it.client.settings().limits
        rates = ((one.name, bucket_of(one).rate or math.inf) for one in limits)
        return max((self.per_limit[name] / rate for name, rate in rates), default=0.0)


@contextmanager
def check(it: Submission) -> Iterator[Checked]:
    """Read the whole file, check each row, and lend the result.

    Raises:
        InputError: the file as a whole cannot be accepted; a bad row is no error, it is rejected.
        HeadgateError: there is no room for temporary files.
    """
    source = it.source()
    checked = Checked(source.name)
    with closing(checked.spool):
        try:
            _read(it, source, checked)
        except (OSError, sqlite3.Error) as error:  # those of the file itself are input errors
            raise HeadgateError(
                f"temporary files cannot be written in {gettempdir()} ({error}); free some space "
                f"or set TMPDIR"
            ) from None
        if not checked.rows:
            raise InputError(f"{checked.file} has no rows; nothing can be submitted")
        names = json.dumps([*it.identity, source.digest]).encode()
        checked.job = f"c-{hashlib.sha256(names).hexdigest()[:12]}"
        yield checked


def _read(it: Submission, source: Source, checked: Checked) -> None:
    kind, params = KINDS[it.kind], it.params
    entered = _Entered(it, checked)
    packer = Packer(it.packing, lambda row: kind.size(row, params), entered.add)
    with closing(Repeats()) as repeats:
        for given in it.rows(source):
            row = given if "error" in given else _compared(given, repeats, packer.place(given))
            checked.rows += 1
            if "error" in row:
                checked.rejected += 1
                if len(checked.reasons) < SHOWN:
                    checked.reasons.append((row["line"], row["error"]))
            elif "joins" in row:
                checked.joined += 1
            else:
                packer.add(row)
                continue
            packer.pass_by(row)
    packer.finish()
    checked.spool.finish()
    checked.per_limit = entered.per_limit()


class _Entered:
    """Enters rows and batches in the pages, and counts their calls."""

    def __init__(self, it: Submission, checked: Checked) -> None:
        self._kind, self._settings, self._params = KINDS[it.kind], it.client.settings(), it.params
        self._unguarded = may_be_unguarded(it.client)
        self._checked = checked
        self._charged: Counter[tuple[str, ...]] = Counter()
        self._limits_of = lru_cache(maxsize=1024)(self._matching)

    def add(self, entries: list[Row]) -> None:
        """Enter what stands on one page together."""
        calls = 0
        for entry in entries:
            if "error" in entry or "joins" in entry:
                continue
            planned = self._kind.plan(entry, self._params, self._settings)
            if not self._unguarded and (weak := weak_guard(planned)):
                raise forgotten(weak, f"{self._checked.file}, line {entry['line']}")
            for one in planned:
                if one.local:
                    continue  # it costs no quota
                calls += one.parts
                self._charged[self._limits_of(one.route)] += one.parts
        self._checked.calls += calls
        self._checked.spool.add(entries, calls)

    def per_limit(self) -> Counter[str]:
        """Calls that each limit is charged."""
        counts = Counter[str]()
        for names, count in self._charged.items():
            counts.update(dict.fromkeys(names, count))
        return counts

    def _matching(self, route: str) -> tuple[str, ...]:
        return tuple(limit.name for limit in matching(self._settings.limits, route))


def may_be_unguarded(client: Client) -> bool:
    """Whether the store remembers every send, or its operator takes it as it is."""
    settings = client.fleet.store
    return settings.accept_everysec or fsync_of(client.store, settings) == "always"


def weak_guard(planned: Iterable[StepPlan]) -> str:
    """A guard of these calls that rests on what the store remembers of a send; "" = none."""
    weak = {one.guard for one in planned} & FORGETFUL.keys()
    return FORGETFUL[min(weak)] if weak else ""


def forgotten(guard: str, place: str) -> InputError:
    """Why such a guard is refused where the store may forget."""
    return InputError(
        f"{place}: guard {guard}, while the store may lose its last second (appendfsync everysec); "
        f"set appendfsync always, or store.accept_everysec = true"
    )


def _compared(row: Row, repeats: Repeats, place: Member) -> Row:
    """The row, or what a row comes to that repeats the id of an earlier one."""
    line, row_id = row["line"], row["id"]
    payload = payload_hash({name: it for name, it in row.items() if name not in {"line", "id"}})
    first = repeats.first(row_id, First(line, payload, *place))
    if first.line == line:
        return row
    if first.payload == payload:
        return {"line": line, "id": row_id, "joins": first.line, "of": first.of, "at": first.at}
    reason = f"line {line} has the id of line {first.line} and another payload"
    return {"line": line, "id": row_id, "error": reason}
