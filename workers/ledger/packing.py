"""A page as the store keeps it: the JSON of its entries, compressed. Pure."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def pack(entries: Sequence[dict[str, Any]]) -> bytes:
    """A page as it is stored."""
    return zlib.compress(json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode())


def unpack(page: bytes) -> list[dict[str, Any]]:
    """The entries of a stored page.

    Raises:
        ValueError, zlib.error: it is damaged.
    """
    return json.loads(zlib.decompress(page))  # type: ignore[no-any-return]
