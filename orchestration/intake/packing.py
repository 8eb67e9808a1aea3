"""From rows to the entries of pages: rows that a provider takes in one call become batches.

Rows are packed as they come, by count and by the bytes of the call's body. What stands between them
in the file, rejected rows and those that join an earlier one, is entered with the batch.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.kind import Packing
    from workers.ledger.ledger import Row


class Member(NamedTuple):
    """Which row of which batch."""

    of: str  #: id of the batch: that of its first row
    at: int  #: from 0


class Packer:
    """Gathers rows until a batch is full.

    Args:
        packing: Most rows of a batch, and most bytes of the body of its call.
        weigh: How many bytes of that a row takes.
        enter: Takes the entries that belong together, a batch the first of them.
    """

    def __init__(
        self, packing: Packing, weigh: Callable[[Row], int], enter: Callable[[list[Row]], None]
    ) -> None:
        self._packing = packing
        self._weigh = weigh
        self._enter = enter
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
            self._enter(sorted([*batch, *self._beside], key=itemgetter("line")))
        self._batch, self._beside, self._size = [], [], 0

    def _fits(self, weight: int) -> bool:
        # The brackets around all rows take 2 bytes, a comma less than `weigh` counts.
        return (
            len(self._batch) < self._packing.rows and self._size + weight + 1 <= self._packing.size
        )
