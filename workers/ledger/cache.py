"""What the ledgers of one process keep of what they have read, bounded over all their clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from workers.cache import ByteCache

if TYPE_CHECKING:
    from workers.ledger.job import JobParams

#: Bytes that pages of rows may take unpacked: about 10,000 rows of an ordinary size.
PAGE_BYTES: Final = 24_000_000
#: Bytes that the parameters of jobs may take: about 1,500 jobs.
PARAMS_BYTES: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class LedgerCache:
    """By their names in the store."""

    pages: ByteCache[list[dict[str, Any]]] = field(default_factory=lambda: ByteCache(PAGE_BYTES))
    params: ByteCache[JobParams] = field(default_factory=lambda: ByteCache(PARAMS_BYTES))
