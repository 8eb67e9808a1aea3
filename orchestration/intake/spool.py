"""Pages that were checked and wait to be accepted, in a temporary file that only we can open."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final

from workers.ledger.batch import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workers.ledger.ledger import Row

#: Most transactions of a page, and most bytes of its JSON unless one alone has more.
PAGE_ENTRIES: Final = 250
PAGE_BYTES: Final = 256_000

_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


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
        self.packed = 0  #: bytes that all pages take in the store, about

    @property
    def digest(self) -> str:
        """SHA-256 of all pages, hexadecimal: what the file came to under this configuration."""
        return self._sha.hexdigest()

    def add(self, entries: Sequence[Row], calls: int) -> None:
        """Append what belongs on one page and makes so many calls."""
        texts = [_encode(it).encode() for it in entries]
        size = sum(map(len, texts))
        full = len(self._entries) + len(texts) > PAGE_ENTRIES or self._size + size > PAGE_BYTES
        if self._entries and full:
            self.finish()
        self._entries += texts
        self._size += size
        self._rows += sum(len(rows_of(it)) for it in entries)
        self._rejected += sum("error" in it for it in entries)
        self._calls += calls

    def finish(self) -> None:
        """End the page that is being filled."""
        if not self._entries:
            return
        counts = b"%d,%d,%d" % (self._rows, self._rejected, self._calls)
        page = b"[%b,[%b]]\n" % (counts, b",".join(self._entries))
        self._sha.update(page)
        self.packed += len(zlib.compress(page, 1))  # quick, and hardly more than the store's
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
        """Forget all pages."""
        self._file.close()
