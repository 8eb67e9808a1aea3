"""Dead letters: transactions that ended without success and wait for a person.

Each is known by its idempotency key, which the report and the audit show too, and which belongs to
one client only. Nothing here shows the content of a row: a row is known by its line in the file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from orchestration.notify.jobs import watch_again
from orchestration.views.steps import row_of, state_of, steps_of
from workers.ledger import audit
from workers.ledger.ledger import Replayed
from workers.ledger.transaction import DEAD
from workers.store.reading import number_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestration.views.steps import Steps
    from workers.clients import Client
    from workers.ledger.audit import Entry
    from workers.ledger.transaction import Transaction

#: Transactions that are read in one round trip.
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One transaction that ended without success."""

    at_ms: int  #: when: milliseconds since the epoch, by the store's clock
    client: str
    job: str
    line: int | None  #: of the file, where rows share it that of the first; None: not known
    rows: int  #: of the file that share it
    key: str
    state: str  #: `failed` or `unknown`
    steps: Steps | None  #: None: only the letter is left of the transaction
    why: str

    @property
    def text(self) -> str:
        """How, where and why the transaction ended, and what of it is done."""
        if self.steps is None:
            return f"{self.state}: {self.why}"
        return self.steps.stopped(self.state, self.why)

    def as_dict(self) -> dict[str, Any]:
        """The letter as programs get it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything that is known of a transaction, except its payload."""

    client: str
    job: str
    line: int | None
    rows: int  #: of the file that share it
    key: str
    state: str  #: a final state, `waiting`, `in_flight`, or `split`
    died_ms: int | None  #: since when it is a dead letter; None: it is none
    steps: Steps
    guard: str  #: of the step that is next, out, or where it stopped
    attempts: int  #: of that step: how often it was sent
    throttled: int  #: answers of 429
    crashes: int  #: workers that died under it
    status: int | None  #: newest HTTP status
    provider_id: str | None
    correlation_id: str | None
    first_sent_us: int | None  #: the age of its key counts from here
    error: str | None
    audit: Sequence[Entry]  #: what was done to it, the newest last

    def as_dict(self) -> dict[str, Any]:
        """The story as programs get it."""
        return {**asdict(self), "audit": [entry.as_dict() for entry in self.audit]}


def newest(clients: Iterable[Client], most: int) -> tuple[list[Letter], int]:
    """The newest dead letters of these clients, the newest last, and how many there are in all."""
    letters: list[tuple[tuple[int, ...], Client, dict[str, str]]] = []
    total = 0
    for client in clients:
        entries: Any = client.store.xrevrange(client.keys.dead, count=most)
        total += int(client.store.xlen(client.keys.dead))
        letters += [
            (tuple(map(int, id_.split("-"))), client, entry)
            for id_, entry in entries
            if entry.keys() >= {"key", "job", "state", "why"}  # else nobody can read it
        ]
    letters = sorted(letters, key=itemgetter(0))[-most:]
    transactions: dict[str, Transaction | None] = {}
    for client in {client.name: client for _, client, _ in letters}.values():
        keys = [entry["key"] for _, owner, entry in letters if owner is client]
        transactions |= zip(keys, client.ledger.transactions(keys), strict=True)
    return [
        _letter(client, at[0], entry, transactions[entry["key"]]) for at, client, entry in letters
    ], total


def _letter(
    client: Client, at_ms: int, entry: Mapping[str, str], transaction: Transaction | None
) -> Letter:
    row = row_of(client, transaction) if transaction else None
    return Letter(
        at_ms=at_ms,
        client=client.name,
        job=entry["job"],
        line=row["line"] if row else None,
        rows=transaction.rows if transaction else 1,
        key=entry["key"],
        state=entry["state"],
        steps=steps_of(client, transaction) if transaction else None,
        why=entry["why"],
    )


def story(client: Client, transaction: Transaction) -> Story:
    """Everything of a transaction of this client, dead or not."""
    row = row_of(client, transaction)
    letter = transaction.dead_letter if transaction.state in DEAD else None
    return Story(
        client=client.name,
        job=transaction.job,
        line=row["line"] if row else None,
        rows=transaction.rows,
        key=transaction.key,
        state=state_of(transaction),
        died_ms=number_of(letter.partition("-")[0]) if letter else None,
        steps=steps_of(client, transaction),
        guard=transaction.guard.name.lower(),
        attempts=transaction.sends,
        throttled=transaction.throttled,
        crashes=transaction.crashes,
        status=transaction.status,
        provider_id=transaction.provider_id,
        correlation_id=transaction.correlation_id,
        first_sent_us=transaction.first_sent_us,
        error=transaction.error,
        audit=audit.of_transaction(client.store, client.keys, transaction.key)[::-1],
    )


def replay(
    client: Client, transaction: Transaction, *, not_executed: bool, by: str, reason: str
) -> Replayed:
    """Let a dead transaction wait again, under its key, at the step where it stopped.

    Args:
        client: Whose it is.
        transaction: As it was a moment ago; where it has changed since, nothing is done.
        not_executed: Somebody states that the provider did not execute its last send.
        by: Who replays it.
        reason: Why.
    """
    if not transaction.may_be_replayed:
        return Replayed.NOT_DEAD
    entry = audit.addition(
        "dead replay",
        subject=transaction.job,
        key=transaction.key,
        before=f"{transaction.state}{steps_of(client, transaction).place}",
        after="waiting, stated as not executed" if not_executed else "waiting",
        by=by,
        reason=reason,
    )
    replayed = client.ledger.replay(
        transaction.key, transaction.dead_letter or "", entry, not_executed=not_executed
    )
    if replayed is Replayed.WAITS:
        watch_again(client, transaction.job)
    return replayed


def discard(client: Client, transaction: Transaction, *, by: str, reason: str) -> bool:
    """Settle a dead transaction without sending: it keeps its state, and no replay is left.

    Args:
        client: Whose it is.
        transaction: As it was a moment ago; where it has changed since, nothing is done.
        by: Who discards it.
        reason: Why.

    Returns:
        Whether it was dead.
    """
    if not transaction.may_be_replayed:
        return False
    state = f"{transaction.state}{steps_of(client, transaction).place}"
    entry = audit.addition(
        "dead discard",
        subject=transaction.job,
        key=transaction.key,
        before=state,
        after=f"{state}, never sent again",
        by=by,
        reason=reason,
    )
    return client.ledger.discard(transaction.key, transaction.dead_letter or "", entry)


def count_unsettled(client: Client) -> int:
    """How many dead transactions of unknown outcome a replay could still send."""
    letters: Any = client.store.xrange(client.keys.dead)
    keys = [fields["key"] for _, fields in letters if fields.get("state") == "unknown"]
    count = 0
    for start in range(0, len(keys), _AT_ONCE):
        transactions = client.ledger.transactions(keys[start : start + _AT_ONCE])
        count += sum(bool(one and one.may_be_replayed) for one in transactions)
    return count
