"""Which row came first under an id: a set whose memory does not grow with the file."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

#: Memory that the set takes, KiB; the rest waits in a temporary file.
CACHE_KIB: Final = 16_384


class First(NamedTuple):
    """A row under an id."""

    line: int
    payload: str  #: its digest
    of: str  #: the batch in which it is sent
    at: int  #: and where there


class Repeats:
    """Ids of rows, each with the row that was seen first under it."""

    def __init__(self) -> None:
        # The empty name is a private file that SQLite removes. Nothing in it has to last.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._db.execute(
            "CREATE TABLE rows (id TEXT PRIMARY KEY, line, payload, of, at) WITHOUT ROWID"
        )
        self._db.execute("BEGIN")

    def first(self, row_id: str, row: First) -> First:
        """The first row of this id: the given one when there was none."""
        new = self._db.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?)", (row_id, *row))
        if new.rowcount:
            return row
        known = self._db.execute("SELECT line, payload, of, at FROM rows WHERE id = ?", (row_id,))
        return First(*known.fetchone())

    def close(self) -> None:
        """Forget all ids."""
        self._db.close()
