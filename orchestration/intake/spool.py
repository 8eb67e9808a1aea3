"""Pages that were checked and wait to be accepted, in a temporary file that only we can open."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.ledger import Row

#: Most rows of a page, and most bytes of its JSON unless one row alone has more.
PAGE_ROWS: Final = 250
PAGE_BYTES: Final = 256_000

_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Page:
    """Rows that are accepted together."""

    number: int  #: from 0
    rejected: int
    calls: int
    rows: list[Row]


class Spool:
    """The pages of one file, written once and then read in their order."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 -- closed by close()
        self._sha = hashlib.sha256()
        self._rows: list[bytes] = []
        self._size = self._rejected = self._calls = 0
        self.packed = 0  #: bytes that all pages take in the store, about

    @property
    def digest(self) -> str:
        """SHA-256 of all pages, hexadecimal: what the file came to under this configuration."""
        return self._sha.hexdigest()

    def add(self, row: Row, calls: int) -> None:
        """Append a row that makes so many calls."""
        text = _encode(row).encode()
        if len(self._rows) == PAGE_ROWS or (self._rows and self._size + len(text) > PAGE_BYTES):
            self.finish()
        self._rows.append(text)
        self._size += len(text)
        self._rejected += "error" in row
        self._calls += calls

    def finish(self) -> None:
        """End the page that is being filled."""
        if not self._rows:
            return
        page = b"[%d,%d,[%b]]\n" % (self._rejected, self._calls, b",".join(self._rows))
        self._sha.update(page)
        self.packed += len(zlib.compress(page, 1))  # quick, and hardly more than the store's
        self._file.write(page)
        self._file.flush()
        self._rows.clear()
        self._size = self._rejected = self._calls = 0

    def pages(self, start: int) -> Iterator[Page]:
        """The pages from this number on."""
        self._file.seek(0)
        for number, line in enumerate(self._file):
            if number >= start:
                yield Page(number, *json.loads(line))

    def close(self) -> None:
        """Forget all pages."""
        self._file.close()
