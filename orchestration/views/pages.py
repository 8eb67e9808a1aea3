"""What stands on the pages of a job, and the transactions that the rows became."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from workers.errors import LedgerDamaged
from workers.ledger import identity
from workers.ledger.batch import Place, halves, part_of, rows_of
from workers.ledger.transaction import TransactionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from workers.clients import Client
    from workers.ledger.ledger import Row
    from workers.ledger.transaction import Transaction


#: Transactions that are read in one round trip. With all its answers one has at most 1.3 MB.
AT_ONCE: Final = 50


class PageTransaction(NamedTuple):
    """One transaction of a page."""

    row: Row  #: what it sends: a row, or a batch of them
    key: str  #: derived
    place: Place
    transaction: Transaction | None  #: under that key; None: there is none


class PageRow(NamedTuple):
    """One row of the file that was not rejected."""

    row: Row
    key: str  #: of the transaction that sends it, maybe together with others
    transaction: Transaction | None  #: None: there is none yet


def read_page(client: Client, job: str, page: int) -> list[Row] | None:
    """The entries of a page, from 0; None when it is missing or damaged."""
    try:
        return client.ledger.page(job, page)
    except LedgerDamaged:
        return None


def transactions_of(client: Client, job: str, page: int) -> Iterator[PageTransaction]:
    """All transactions of a page; a batch that was split comes before its halves.

    A page that is missing or damaged has none.
    """
    derive = _key_function(client, job)
    whole = [
        (entry, Place(page, index), entry)
        for index, entry in enumerate(read_page(client, job, page) or [])
        if "error" not in entry and "joins" not in entry
    ]
    for start in range(0, len(whole), AT_ONCE):
        waiting = whole[start : start + AT_ONCE]
        stored = _read_transactions(client, [derive(row["id"]) for row, _, _ in waiting])
        while waiting:
            row, place, entry = waiting.pop(0)
            key = derive(row["id"])
            transaction = stored.get(key)
            yield PageTransaction(row, key, place, transaction)
            if transaction and transaction.state is TransactionState.SPLIT:
                both = halves(place, len(rows_of(row)))
                waiting[:0] = [(part_of(entry, half), half, entry) for half in both]


def rows_of_page(client: Client, job: str, entries: Sequence[Row]) -> Iterator[PageRow]:
    """The rows of a page that were not rejected, each with the transaction it belongs to now."""
    derive = _key_function(client, job)
    taken = [entry for entry in entries if "error" not in entry]
    for start in range(0, len(taken), AT_ONCE):
        members: list[tuple[Row, str, int]] = []
        for entry in taken[start : start + AT_ONCE]:
            if "joins" in entry:
                members.append((entry, derive(entry.get("of") or entry["id"]), entry.get("at", 0)))
            else:
                key = derive(entry["id"])
                members += [(row, key, at) for at, row in enumerate(rows_of(entry))]
        stored = _read_transactions(client, (key for _, key, _ in members))
        for row, root, at in members:
            key = root
            while (transaction := stored[key]) and transaction.halves:
                key = transaction.halves.holder(at)
            yield PageRow(row, key, transaction)


def _key_function(client: Client, job: str) -> Callable[[str], str]:
    """Names of rows and batches → their keys."""
    # Read, never made: a look must not give an installation a new secret.
    secret = identity.read_secret(client.store, client.fleet.store.namespace)
    return lambda name: identity.idempotency_key(secret, client.name, job, name)


def _read_transactions(client: Client, names: Iterable[str]) -> dict[str, Transaction | None]:
    """Key → its transaction, for these keys and for the halves of those that were split."""
    stored: dict[str, Transaction | None] = {}
    names = list(dict.fromkeys(names))
    while names:
        read = client.ledger.transactions(names)
        stored |= zip(names, read, strict=True)
        split = [one.halves for one in read if one and one.halves]
        names = [key for both in split for key in (both.first, both.second)]
    return stored
