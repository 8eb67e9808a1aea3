"""What is done instead of a call that may not leave as it is: wait, a fresh key, or a split.

**A fresh key.** A key that grew old is replaced: the provider may have forgotten it, and would act
a second time. Whether it may be is decided by lua/rotate.lua. The transaction keeps its name,
which is its first key; the keys that requests carry are derived from the same names and the next
generation.

**A split.** A batch that was refused is split into halves, until the rows that are refused stand
alone. Whether one is refused for its rows is the verdict's to say; that it waits for the split is
its memo in the ledger, and whoever is rung for it next splits it. So a worker that dies before
changes nothing, and no token is spent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.steps.granted import LATER_S
from workers.errors import LedgerDamaged
from workers.governor.grants import Denied, Half, Hindrance, KeyExpired
from workers.ledger import audit
from workers.ledger.batch import halves, part_of, rows_of
from workers.ledger.identity import payload_hash

if TYPE_CHECKING:
    from workers.clients import Client
    from workers.governor.grants import Grant, MustSplit
    from workers.ledger.ledger import Row


def take_detour(client: Client, decision: KeyExpired | MustSplit | Denied) -> str:
    """Do what `admit` answered instead of a grant; returns what Flower shows.

    Raises:
        StoreAway: nothing has changed, or the answer was lost; the next bell finds out.
    """
    if isinstance(decision, Denied):
        return decision.summary
    try:
        if isinstance(decision, KeyExpired):
            return rotate(client, decision)
        return split(client, decision)
    except LedgerDamaged as error:  # its row; a person may put that right
        client.put_back(decision.key, decision.step, Hindrance(delay_s=LATER_S))
        return f"wait: {error}"


def request_key(client: Client, grant: Grant, row: Row) -> str:
    """The idempotency key that a request of this transaction carries."""
    if grant.generation == 1:
        return grant.key
    return client.key(grant.job, row["id"], grant.generation)


def rotate(client: Client, expired: KeyExpired) -> str:
    """Replace the key of a transaction, if that is safe; returns what Flower shows.

    The audit tells of it: both keys, the digest of the payload, when the old one was sent first and
    last, and how often a send under it failed.

    Raises:
        StoreAway: nothing has changed, or the answer was lost; the next bell finds out.
    """
    row = client.ledger.row(expired.job, expired.place)
    generations = (expired.generation, expired.generation + 1)
    before, after = (client.key(expired.job, row["id"], number) for number in generations)
    entry = audit.addition(
        "rotate key",
        subject=f"step {expired.step}",
        by="headgate",
        key=expired.key,
        before=before,
        after=after,
        job=expired.job,
        payload=payload_hash(row),
    )
    return client.governor().rotate(expired, entry)


def split(client: Client, refused: MustSplit) -> str:
    """Let two halves take the place of a batch; returns what Flower shows.

    Raises:
        StoreAway: nothing has changed, or the answer was lost; the next bell finds out.
    """
    entry = client.ledger.page(refused.job, refused.place.page)[refused.place.index]
    both = []
    for place in halves(refused.place, len(rows_of(part_of(entry, refused.place)))):
        row = part_of(entry, place)
        both.append(Half(client.key(refused.job, row["id"]), place, len(row["rows"])))
    return client.governor().split(refused, both)
