"""Which row came first under an id: a set that does not grow in memory."""

from __future__ import annotations

import sqlite3
from typing import Final

#: Memory that it takes, KiB; the rest waits in a temporary file.
CACHE_KIB: Final = 16_384


class Repeats:
    """Ids of rows, each with the line and the payload under which it was first seen."""

    def __init__(self) -> None:
        # The empty name is a private file that goes away by itself. Nothing in it has to last.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._db.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, line, payload) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def first(self, row_id: str, line: int, payload: str) -> tuple[int, str]:
        """Line and payload of the first row of this id: the given ones when this is the first."""
        new = self._db.execute(
            "INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", (row_id, line, payload)
        )
        if new.rowcount:
            return line, payload
        found = self._db.execute("SELECT line, payload FROM rows WHERE id = ?", (row_id,))
        first: tuple[int, str] = found.fetchone()
        return first

    def close(self) -> None:
        """Forget all ids."""
        self._db.close()
