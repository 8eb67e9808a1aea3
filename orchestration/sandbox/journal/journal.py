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
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import encode_json
from orchestration.sandbox.journal.entry import JournalEntry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestration.sandbox.config import JsonObject


class Journal:
    """Entries in memory and in `file`; what the file already holds is read first."""

    def __init__(self, file: Path | None) -> None:
        self.entries: list[JournalEntry] = []
        self._effects_before = array("Q", [0])  # effects up to entry n: locates a page of them
        self._fd: int | None = None
        if file is not None:
            for entry in _read(file) if file.exists() else ():
                self.add(entry)
            self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            _cut_torn_record(self._fd)

    def add(self, entry: JournalEntry) -> None:
        """Record one request; when this returns, a kill of the process cannot lose it."""
        self.entries.append(entry)
        effects = len(entry.created) + len(entry.updated)
        self._effects_before.append(self._effects_before[-1] + effects)
        if self._fd is not None:
            data = encode_json(entry.as_json()) + b"\n"
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

    def counts(self) -> dict[str, int]:
        """Return how many requests and effects there are; cheap at any size."""
        return {"entries": len(self.entries), "effects": self._effects_before[-1]}

    def requests(self, after: int, limit: int) -> list[JsonObject]:
        """Return up to `limit` entries whose `seq` (from 1) is greater than `after`."""
        page = islice(self.entries, after, after + limit)
        return [{"seq": seq, **entry.as_json()} for seq, entry in enumerate(page, after + 1)]

    def effects(self, after: int, limit: int) -> list[JsonObject]:
        """Return up to `limit` effects whose `seq` (from 1) is greater than `after`."""
        index = bisect_right(self._effects_before, after) - 1
        if index >= len(self.entries):
            return []
        page: list[JsonObject] = []
        seq = self._effects_before[index]
        for entry in islice(self.entries, index, None):
            for name in entry.created + entry.updated:
                seq += 1
                if seq > after:
                    page.append(_effect(seq, name, entry))
                if len(page) == limit:
                    return page
        return page


def _effect(seq: int, business_id: str, entry: JournalEntry) -> JsonObject:
    return {
        "seq": seq,
        "t_us": entry.t_us,
        "method": entry.method,
        "path": entry.path,
        "business_id": business_id,
        "key": entry.key,
        **({"md5": entry.md5, "size": entry.size} if entry.md5 else {}),
    }


def _read(file: Path) -> Iterator[JournalEntry]:
    with file.open(encoding="utf-8") as records:
        for record in records:
            if not record.endswith("\n"):
                return  # killed in the middle of a write
            yield JournalEntry.from_json(json.loads(record))


def _cut_torn_record(fd: int) -> None:
    size = os.fstat(fd).st_size
    tail = os.pread(fd, 1 << 20, max(0, size - (1 << 20)))
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(fd, size - len(tail) + tail.rfind(b"\n") + 1)
