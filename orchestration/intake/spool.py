"""From rows to pages: rows are packed into batches, batches into pages, pages wait in a file.

Rows that a provider takes in one call become a batch, by count and by the bytes of the call's body.
What stands between them in the file, rejected rows and those that join an earlier one, is entered
with the batch. The pages wait to be accepted in a temporary file that only this process can open.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from operator import itemgetter
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final, NamedTuple

from workers.ledger.batch import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tasks.kind import Packing
    from workers.ledger.ledger import Row

#: Most transactions of a page, and most bytes of its JSON unless one transaction alone has more.
PAGE_ENTRIES: Final = 250
PAGE_BYTES: Final = 256_000

_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


class Member(NamedTuple):
    """The place of a row in its batch."""

    of: str  #: id of the batch: that of its first row
    at: int  #: from 0


class Packer:
    """Gathers rows until a batch is full.

    Args:
        packing: Most rows of a batch, and most bytes of the body of its call.
        weigh: How many bytes of that a row takes.
        emit: Takes the entries that belong together, a batch the first of them.
    """

    def __init__(
        self, packing: Packing, weigh: Callable[[Row], int], emit: Callable[[list[Row]], None]
    ) -> None:
        self._packing = packing
        self._weigh = weigh
        self._emit = emit
        self._batch: list[Row] = []
        self._beside: list[Row] = []
        self._size = 0

    def place(self, row: Row) -> Member:
        """Where the row will stand if it is the next one to be added."""
        if self._batch and self._fits(self._weigh(row)):
            return Member(self._batch[0]["id"], len(self._batch))
        return Member(row["id"], 0)

    def add(self, row: Row) -> None:
        """Add a good row."""
        weight = self._weigh(row)
        if not self._fits(weight):
            self.finish()
        self._batch.append(row)
        self._size += weight

    def pass_by(self, row: Row) -> None:
        """Add a row that is not sent."""
        if len(self._beside) >= self._packing.rows:
            self.finish()
        self._beside.append(row)

    def finish(self) -> None:
        """Enter what was gathered."""
        batch = self._batch
        if len(batch) > 1:
            batch = [{"line": batch[0]["line"], "id": batch[0]["id"], "rows": batch}]
        if batch or self._beside:
            self._emit(sorted([*batch, *self._beside], key=itemgetter("line")))
        self._batch, self._beside, self._size = [], [], 0

    def _fits(self, weight: int) -> bool:
        # The brackets around all rows take 2 bytes, a comma less than `weigh` counts.
        return (
            len(self._batch) < self._packing.rows and self._size + weight + 1 <= self._packing.size
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Rows that are accepted together."""

    number: int  #: from 0
    rows: int
    rejected: int
    calls: int
    entries: list[Row]  #: rows, and batches of them


class Spool:
    """The pages of one file, written once and then read in their order."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 -- closed by close()
        self._sha = hashlib.sha256()
        self._entries: list[bytes] = []
        self._size = self._rows = self._rejected = self._calls = 0
        self.packed = 0  #: bytes that all pages take in the store, roughly

    @property
    def digest(self) -> str:
        """SHA-256 of all pages, hexadecimal: what the file came to under this configuration."""
        return self._sha.hexdigest()

    def add(self, entries: Sequence[Row], calls: int) -> None:
        """Append what belongs on one page and makes so many calls."""
        texts = [_encode(entry).encode() for entry in entries]
        size = sum(map(len, texts))
        full = len(self._entries) + len(texts) > PAGE_ENTRIES or self._size + size > PAGE_BYTES
        if self._entries and full:
            self.finish()
        self._entries += texts
        self._size += size
        self._rows += sum(len(rows_of(entry)) for entry in entries)
        self._rejected += sum("error" in entry for entry in entries)
        self._calls += calls

    def finish(self) -> None:
        """End the page that is being filled."""
        if not self._entries:
            return
        counts = b"%d,%d,%d" % (self._rows, self._rejected, self._calls)
        page = b"[%b,[%b]]\n" % (counts, b",".join(self._entries))
        self._sha.update(page)
        # Level 1 is quick, and its result hardly larger than what the store keeps.
        self.packed += len(zlib.compress(page, 1))
        self._file.write(page)
        self._file.flush()
        self._entries.clear()
        self._size = self._rows = self._rejected = self._calls = 0

    def pages(self, start: int) -> Iterator[Page]:
        """The pages from this number on."""
        self._file.seek(0)
        for number, line in enumerate(self._file):
            if number >= start:
                yield Page(number, *json.loads(line))

    def close(self) -> None:
        """Remove all pages."""
        self._file.close()
