"""A page as the store keeps it: the JSON of its entries, compressed. Pure."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from workers.cache import weigh
from workers.store.reading import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence


def pack(entries: Sequence[dict[str, Any]]) -> bytes:
    """A page as it is stored."""
    return zlib.compress(json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode())


def unpack(page: bytes) -> tuple[list[dict[str, Any]], int]:
    """The entries of a stored page, and how many bytes they take in memory at most.

    Raises:
        TypeError, ValueError, zlib.error: it is damaged, or not there.
    """
    text = zlib.decompress(page)
    try:
        entries = json.loads(text)
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Unreadable("it is no list of entries")
    return entries, weigh(text)
