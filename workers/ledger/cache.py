"""What the ledgers of one process keep of what they have read, bounded over all their clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from workers.cache import ByteCache

if TYPE_CHECKING:
    from workers.ledger.job import JobParams

#: Bytes that pages of rows may take unpacked: about 8,000 rows of an ordinary size.
PAGE_BYTES: Final = 20_000_000
#: Bytes that the parameters of jobs may take: about 1,500 jobs.
PARAMS_BYTES: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class LedgerCache:
    """By the prefix of their client's names, by job and by page."""

    pages: ByteCache[list[dict[str, Any]]] = field(default_factory=lambda: ByteCache(PAGE_BYTES))
    params: ByteCache[JobParams] = field(default_factory=lambda: ByteCache(PARAMS_BYTES))
