"""Batches: rows that a provider takes in one call share a transaction. Pure.

On a page a batch is one entry, `{"line", "id", "rows": [row, …]}`. Its line and id are those of its
first row, from which its key is derived. A batch that is refused may hold one bad row, so it is
split into halves, which are transactions of their own: "c7/0-500" is the first half of the batch of
1,000 rows that begins with row c7. The id of a row holds no slash, so no row has such a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from workers.store.reading import read_integer

if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the payload of a transaction stands: an entry of a page, or a part of that batch."""

    page: int
    index: int
    first: int = 0  #: of a part: its first row, counted in the whole batch
    end: int = 0  #: and the one behind its last; 0 = the whole entry

    @classmethod
    def read(cls, text: str) -> Self:
        """The place as the ledger keeps it: "page:index", of a part "page:index:first:end"."""
        return cls(*map(read_integer, text.split(":")))

    def __str__(self) -> str:
        whole = f"{self.page}:{self.index}"
        return f"{whole}:{self.first}:{self.end}" if self.end else whole


def rows_of(entry: Row) -> Sequence[Row]:
    """The rows of an entry: those of a batch, or the only one."""
    rows: Sequence[Row] = entry.get("rows") or (entry,)
    return rows


def part_of(entry: Row, place: Place) -> Row:
    """What a transaction of this place sends: the entry, or a part of it as a batch."""
    if not place.end:
        return entry
    rows = entry["rows"][place.first : place.end]
    return {
        "line": rows[0]["line"],
        "id": f"{entry['id']}/{place.first}-{place.end}",
        "rows": rows,
    }


def halves(place: Place, rows: int) -> tuple[Place, Place]:
    """The places of the two halves of a batch.

    Args:
        place: Of the batch.
        rows: How many rows it has, at least 2.
    """
    middle = place.first + rows // 2
    first = Place(place.page, place.index, place.first, middle)
    return first, Place(place.page, place.index, middle, place.first + rows)
