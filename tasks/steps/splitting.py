"""A batch that was refused is split into halves, until the rows that are refused stand alone.

Whether one is refused for its rows is the verdict's to say; that it waits for the split is its memo
in the ledger, and whoever is rung for it next splits it. So a worker that dies before changes
nothing, and no token is spent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.governor.governor import Half
from workers.ledger.batch import halves, part_of, rows_of

if TYPE_CHECKING:
    from workers.clients import Client
    from workers.governor.governor import ToSplit


def split(it: Client, refused: ToSplit) -> str:
    """Let two halves take the place of a batch; returns what Flower shows.

    Raises:
        StoreAway: nothing has changed, or the answer was lost; the next bell finds out.
    """
    entry = it.ledger.page(refused.job, refused.place.page)[refused.place.index]
    made = []
    for place in halves(refused.place, len(rows_of(part_of(entry, refused.place)))):
        row = part_of(entry, place)
        made.append(Half(it.key(refused.job, row["id"]), place, len(row["rows"])))
    return it.governor().split(refused, made)
