"""A key that grew old is replaced: the provider may have forgotten it, and would act a second time.

Whether it may be is decided by lua/rotate.lua. The transaction keeps its name, which is its first
key; the keys that requests carry are derived from the same names and the next generation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.ledger import audit
from workers.ledger.identity import payload_hash

if TYPE_CHECKING:
    from workers.clients import Client
    from workers.governor.governor import Aged, Go
    from workers.ledger.ledger import Row


def request_key(it: Client, grant: Go, row: Row) -> str:
    """The idempotency key that a request of this transaction carries."""
    if grant.generation == 1:
        return grant.key
    return it.key(grant.job, row["id"], grant.generation)


def rotate(it: Client, aged: Aged) -> str:
    """Replace the key of a transaction, if that is safe; returns what Flower shows.

    The audit tells of it: both keys, the digest of the payload, when the old one was sent first and
    last, and how often a send under it failed.

    Raises:
        StoreAway: nothing has changed, or the answer was lost; the next bell finds out.
    """
    row = it.ledger.row(aged.job, aged.place)
    before, after = (it.key(aged.job, row["id"], aged.generation + more) for more in (0, 1))
    entry = audit.addition(
        "rotate key",
        subject=f"step {aged.step}",
        by="headgate",
        key=aged.key,
        before=before,
        after=after,
        job=aged.job,
        payload=payload_hash(row),
    )
    return it.governor().rotate(aged, entry)
