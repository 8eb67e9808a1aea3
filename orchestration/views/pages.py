"""What stands on a job's pages, and the transactions that it became."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from workers.ledger import identity
from workers.ledger.batch import Place, halves, rows_of, taken
from workers.store import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from workers.clients import Client
    from workers.ledger.ledger import Row

#: As an idempotency key leads to its transaction's hash, which is empty while there is none.
Found = dict[str, dict[str, str]]


class Made(NamedTuple):
    """One transaction."""

    row: Row  #: what it sends: a row, or a batch of them
    key: str  #: derived
    place: Place
    tx: dict[str, str]  #: the hash under that key; empty: there is none


class Told(NamedTuple):
    """One row of the file that was not rejected."""

    row: Row
    key: str  #: of the transaction that sends it, maybe together with others
    tx: dict[str, str]  #: its hash; empty: there is none yet


def page_of(client: Client, job: str, page: int) -> list[Row] | None:
    """The entries of a page, None when it is missing or damaged."""
    try:
        return client.ledger.page(job, page)
    except (TypeError, ValueError, zlib.error):  # not there, no JSON, no page
        return None


def transactions_of(client: Client, job: str, page: int) -> Iterator[Made]:
    """All transactions of a page; of a batch that was split it and its halves.

    A page that is missing or damaged has none.
    """
    derive = _derive(client, job)
    waiting = [
        (entry, Place(page, index), entry)
        for index, entry in enumerate(page_of(client, job, page) or [])
        if "error" not in entry and "joins" not in entry
    ]
    found = _found(client, [derive(row["id"]) for row, _, _ in waiting])
    while waiting:
        row, place, entry = waiting.pop(0)
        key = derive(row["id"])
        tx = found.get(key, {})
        yield Made(row, key, place, tx)
        if tx.get("s") == "split":
            of = halves(place, len(rows_of(row)))
            waiting[:0] = [(taken(entry, half), half, entry) for half in of]


def rows_told(client: Client, job: str, entries: Sequence[Row]) -> Iterator[Told]:
    """The rows of a page that were not rejected, each with the transaction it belongs to now."""
    derive = _derive(client, job)
    members: list[tuple[Row, str, int]] = []
    for entry in entries:
        if "joins" in entry:
            members.append((entry, derive(entry.get("of") or entry["id"]), entry.get("at", 0)))
        elif "error" not in entry:
            key = derive(entry["id"])
            members += [(row, key, at) for at, row in enumerate(rows_of(entry))]
    found = _found(client, (key for _, key, _ in members))
    for row, root, at in members:
        key = root
        while found[key].get("s") == "split":
            second, *both = found[key]["h"].split()
            key = both[at >= int(second)]
        yield Told(row, key, found[key])


def _derive(client: Client, job: str) -> Callable[[str], str]:
    """Names of rows and batches → their keys."""
    # Read, never made: a look must not give an installation a new secret.
    text = client.store.get(keys.installation(client.fleet.store.namespace)) or ""
    secret = bytes.fromhex(str(text))
    return lambda name: identity.idempotency_key(secret, client.name, job, name)


def _found(client: Client, names: Iterable[str]) -> Found:
    """The transactions of these keys, and below those that were split."""
    found: Found = {}
    names = list(dict.fromkeys(names))
    while names:
        found |= zip(names, client.ledger.transactions(names), strict=True)
        names = [half for it in names if "h" in found[it] for half in found[it]["h"].split()[1:]]
    return found
