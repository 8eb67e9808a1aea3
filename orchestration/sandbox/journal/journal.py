"""The sandbox's own record of every request: in memory, and on disk as one JSON object a line.

Entries stand in the order of their answers; `t_us` is the arrival. Each is written before its
answer leaves, so that a kill loses nothing that a caller has seen.
"""

from __future__ import annotations

import json
import os
from array import array
from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestration.sandbox.calls.call import encode
from orchestration.sandbox.journal.report import report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from orchestration.sandbox.config.config import Limit
    from orchestration.sandbox.quota.limits import Scope


class Entry(NamedTuple):
    """One request."""

    t_us: int  #: arrival, wall clock, microseconds since the Unix epoch
    client: str  #: OAuth client id; "" when it is not known
    method: str
    path: str
    key: str  #: idempotency key; "" without one
    status: int  #: as sent; 0: the connection was closed without an answer
    #: effect, repeat, replay, refused, unauthorised, fault, read, url (a signed URL was given out),
    #: error, token, or leak (credentials of the API came to the host of the signed URLs)
    kind: str
    fault: str = ""  #: kind of the fault that hit it, or "storm"
    created: tuple[str, ...] = ()  #: business ids of effects that made something
    updated: tuple[str, ...] = ()  #: business ids of effects that changed something
    repeated: tuple[str, ...] = ()  #: business ids that were there already: no effect
    queued: tuple[str, ...] = ()  #: contacts that were put into the queue to be dialled
    work_us: int = 0  #: from the arrival to this entry
    refused_by: str = ""  #: name of the limit that refused it
    ahead_us: int = 0  #: how far the clock of lifetimes was ahead of `t_us`
    host: str = ""  #: "transfers": it came to the host of the signed URLs; "": to the API
    md5: str = ""  #: of a file that arrived, hexadecimal
    size: int = 0  #: bytes of a file, as far as it came

    def as_json(self) -> dict[str, Any]:
        """Return the entry as an object without its empty parts."""
        return {name: value for name, value in self._asdict().items() if value or name == "status"}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Entry:
        """Undo `as_json`."""
        lists = ("created", "updated", "repeated", "queued")
        known = {**raw, **{name: tuple(raw.get(name, ())) for name in lists}}
        return cls(**{"client": "", "method": "", "path": "", "key": "", **known})


class Journal:
    """Entries in memory and in `file`; what the file already holds is read first."""

    def __init__(self, file: Path | None, limits: Sequence[Limit] = ()) -> None:
        self.entries: list[Entry] = []
        self.limits: tuple[Limit, ...] = tuple(limits)  #: in force, for the report
        self._effects_before = array("Q", [0])  # effects up to entry n: finds a page of them
        self._fd: int | None = None
        if file is not None:
            for entry in _read(file) if file.exists() else ():
                self.add(entry)
            self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            _cut_torn_line(self._fd)

    def add(self, entry: Entry) -> None:
        """Record one request; when this returns, a kill of the process cannot lose it."""
        self.entries.append(entry)
        effects = len(entry.created) + len(entry.updated)
        self._effects_before.append(self._effects_before[-1] + effects)
        if self._fd is not None:
            data = encode(entry.as_json()) + b"\n"
            while data:
                data = data[os.write(self._fd, data) :]

    def clear(self) -> None:
        """Forget everything, on disk too."""
        self.entries = []
        self._effects_before = array("Q", [0])
        if self._fd is not None:
            os.ftruncate(self._fd, 0)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def report(self, others: Mapping[Scope, list[int]] | None = None) -> dict[str, Any]:
        """Return the totals, see `report.report`; safe to call from another thread."""
        return report(self.entries[:], self.limits, others or {})

    def counts(self) -> dict[str, int]:
        """Return how many requests and effects there are; cheap at any size."""
        return {"entries": len(self.entries), "effects": self._effects_before[-1]}

    def requests(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Return up to `limit` entries whose `seq` (from 1) is greater than `after`."""
        page = islice(self.entries, after, after + limit)
        return [{"seq": seq, **entry.as_json()} for seq, entry in enumerate(page, after + 1)]

    def effects(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Return up to `limit` effects whose `seq` (from 1) is greater than `after`."""
        index = bisect_right(self._effects_before, after) - 1
        if index >= len(self.entries):
            return []
        seq, page = self._effects_before[index], list[dict[str, Any]]()
        for entry in islice(self.entries, index, None):
            for name in entry.created + entry.updated:
                seq += 1
                if seq > after:
                    page.append(
                        {
                            "seq": seq,
                            "t_us": entry.t_us,
                            "method": entry.method,
                            "path": entry.path,
                            "business_id": name,
                            "key": entry.key,
                            **({"md5": entry.md5, "size": entry.size} if entry.md5 else {}),
                        }
                    )
                if len(page) == limit:
                    return page
        return page


def _read(file: Path) -> Iterator[Entry]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return  # killed in the middle of a write
            yield Entry.from_json(json.loads(line))


def _cut_torn_line(fd: int) -> None:
    size = os.fstat(fd).st_size
    tail = os.pread(fd, 1 << 20, max(0, size - (1 << 20)))
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(fd, size - len(tail) + tail.rfind(b"\n") + 1)
