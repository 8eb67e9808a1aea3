"""The store's memory: above four fifths of it only the work that is under way goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from workers.store.connection import Store

#: Part of the store's memory above which nothing more is accepted or opened.
FULL: Final = 0.8


def room(store: Store) -> tuple[int, int]:
    """Bytes left below `FULL`, negative above it, and the memory of the store; 0 = no bound.

    Raises:
        StoreAway: it did not answer.
    """
    memory = store.info("memory")
    most = int(memory.get("maxmemory", 0))
    return int(FULL * most) - int(memory["used_memory"]), most
