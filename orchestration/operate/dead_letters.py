"""Dead letters: transactions that ended without success and wait for a person.

They are known by their idempotency key, as the report and the audit have it, which belongs to one
client only. Nothing here shows what a row holds: a row is its line of the file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from orchestration.views.steps import row_of, state_of, steps_of
from workers.answer.guards import Guard
from workers.ledger import audit
from workers.ledger.ledger import DEAD, Replayed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestration.views.steps import Steps
    from workers.clients import Client
    from workers.ledger.audit import Entry


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
    steps: Steps | None  #: None: nothing but the letter is left of it
    why: str

    @property
    def text(self) -> str:
        """How, where and why it ended, and what of it is done."""
        if self.steps is None:
            return f"{self.state}: {self.why}"
        return self.steps.stopped(self.state, self.why)

    def as_dict(self) -> dict[str, Any]:
        """As programs get it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything that is known of a transaction but its payload."""

    client: str
    job: str
    line: int | None
    rows: int  #: of the file that share it
    key: str
    state: str  #: a final state, `waiting`, `in_flight`, or `split`
    died_ms: int | None  #: since when it is a dead letter; None: it is none
    steps: Steps
    guard: str  #: of the step that is next, out, or where it stopped
    attempts: int  #: of that step
    throttled: int  #: answers of 429
    crashes: int  #: workers that died under it
    status: int | None  #: newest HTTP status
    provider_id: str | None
    correlation_id: str | None
    first_sent_us: int | None  #: the age of its key counts from here
    error: str | None
    audit: Sequence[Entry]  #: what was done to it, the newest last

    def as_dict(self) -> dict[str, Any]:
        """As programs get it."""
        return {**asdict(self), "audit": [it.as_dict() for it in self.audit]}


def newest(clients: Iterable[Client], most: int) -> tuple[list[Letter], int]:
    """The newest dead letters of these clients, the newest last, and how many there are in all."""
    found: list[tuple[tuple[int, ...], Client, dict[str, str]]] = []
    total = 0
    for client in clients:
        entries: Any = client.store.xrevrange(client.keys.dead, count=most)
        total += int(client.store.xlen(client.keys.dead))
        found += [(tuple(map(int, id_.split("-"))), client, it) for id_, it in entries]
    found = sorted(found, key=lambda it: it[0])[-most:]
    transactions: dict[str, dict[str, str]] = {}
    for client in {it.name: it for _, it, _ in found}.values():
        keys = [entry["key"] for _, it, entry in found if it is client]
        transactions |= zip(keys, client.ledger.transactions(keys), strict=True)
    return [
        _letter(client, at[0], entry, transactions[entry["key"]]) for at, client, entry in found
    ], total


def _letter(client: Client, at_ms: int, entry: Mapping[str, str], tx: Mapping[str, str]) -> Letter:
    row = row_of(client, tx) if tx else None
    return Letter(
        at_ms=at_ms,
        client=client.name,
        job=entry["job"],
        line=row["line"] if row else None,
        rows=int(tx.get("r", 1)),
        key=entry["key"],
        state=entry["state"],
        steps=steps_of(client, tx) if tx else None,
        why=entry["why"],
    )


def story(client: Client, key: str, tx: Mapping[str, str]) -> Story:
    """Everything of a transaction, dead or not.

    Args:
        client: Whose it is.
        key: Its idempotency key.
        tx: Its hash.
    """
    row, steps = row_of(client, tx), steps_of(client, tx)
    guards, letter = tx["g"], tx.get("d") if tx["s"] in DEAD else None
    return Story(
        client=client.name,
        job=tx["j"],
        line=row["line"] if row else None,
        rows=int(tx.get("r", 1)),
        key=key,
        state=state_of(tx),
        died_ms=int(letter.partition("-")[0]) if letter else None,
        steps=steps,
        guard=Guard(guards if len(guards) == 1 else guards[steps.at - 1]).name.lower(),
        attempts=int(tx.get("at", 0)),
        throttled=int(tx.get("th", 0)),
        crashes=int(tx.get("cr", 0)),
        status=int(tx["st"]) if tx.get("st") else None,
        provider_id=tx.get("id"),
        correlation_id=tx.get("co"),
        first_sent_us=int(tx["t1"]) if "t1" in tx else None,
        error=tx.get("e"),
        audit=audit.of_transaction(client.store, client.keys, key)[::-1],
    )


def replay(  # noqa: PLR0913 -- what is replayed, and what the audit says of it
    client: Client,
    key: str,
    tx: Mapping[str, str],
    *,
    not_executed: bool,
    by: str,
    reason: str,
) -> Replayed:
    """Let a dead transaction wait again, under its key, at the step where it stopped.

    Args:
        client: Whose it is.
        key: Its idempotency key.
        tx: Its hash, as it was a moment ago: what became of it since is left as it is.
        not_executed: Somebody states that the provider did not execute its last send.
        by: Who replays it.
        reason: Why.
    """
    if tx["s"] not in DEAD:
        return Replayed.NOT_DEAD
    before = f"{tx['s']}{steps_of(client, tx).place}"
    after = "waiting, stated as not executed" if not_executed else "waiting"
    said = {"before": before, "after": after, "by": by, "reason": reason}
    entry = audit.addition("dead replay", subject=tx["j"], key=key, **said)
    return client.ledger.replay(key, tx.get("d", ""), entry, not_executed=not_executed)
