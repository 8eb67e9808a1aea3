"""Binding a client's ledger to another account of its provider, when nothing is in doubt."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from orchestration.operate.dead_letters import count_unsettled
from orchestration.text import format_count
from workers.errors import HeadgateError, UsageError
from workers.governor import binding
from workers.governor.registry import Registry
from workers.ledger import audit
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.clients import Client
    from workers.ledger.transaction import Transaction

#: Transactions that are read in one round trip.
_AT_ONCE: Final = 500


def rebind(client: Client, *, by: str, reason: str) -> None:
    """Bind the client's ledger to the account that it is configured for.

    Rows that wait and were never sent go to the new account.

    Raises:
        UsageError: it is bound to that account already.
        HeadgateError: a worker still serves the account before, or something that was sent to that
            one is out or in doubt; nothing was changed.
    """
    bound = binding.stored(client.store, client.keys)
    own = binding.binding_of(client.configured)
    if not bound or bound == own:
        raise UsageError(f"client {client.name} is bound to this account already")
    _require_nobody(client, own)
    for problem in _find_doubts(client):
        raise HeadgateError(f"client {client.name} cannot be bound anew: {problem}")
    entry = audit.addition(
        "client rebind",
        subject=client.name,
        before=binding.format_binding(bound),
        after=binding.format_binding(own),
        by=by,
        reason=reason,
    )
    run = Scripts(client.store, client.keys, None)
    match run("rebind", json.dumps(bound), json.dumps(own), *entry):
        case "out":
            raise HeadgateError(f"client {client.name} has calls out again; repeat the command")
        case "other":
            raise HeadgateError(f"client {client.name} was bound anew meanwhile; look again")


def _require_nobody(client: Client, own: dict[str, str]) -> None:
    """Refuse while a live worker serves the account before."""
    registry = Registry(client.store, client.keys.namespace)
    known, digest = registry.configurations(), binding.digest_of(own)
    for process in registry.look().live.values():
        configuration = known.get(process.digest)
        if configuration and configuration.clients.get(client.name, digest) != digest:
            raise HeadgateError(
                f"worker {process.title} still serves client {client.name} by its configuration of "
                f"before; stop that worker, or start it again with the new one"
            )


def _find_doubts(client: Client) -> Iterator[str]:
    """What was sent to the account before and is not settled, one sentence each."""
    store, keys = client.store, client.keys
    pipe = store.pipeline()
    for name in (keys.deadlines, keys.retries, keys.quarantine, keys.permits):
        pipe.zcard(name)
    out, retries, quarantine, permits = pipe.execute()
    if out or retries or permits:
        calls = format_count(max(out, retries) + permits, "call")
        yield f"{calls} out or between two attempts; pause the client and wait until none is"
    if quarantine:
        rows = format_count(quarantine, "transaction")
        yield f"{rows} under which a worker died; let the old configuration end them first"
    if doubtful := _count_doubtful(client):
        rows = format_count(doubtful, "transaction")
        yield (
            f"{rows} with an answer that is not known, or with a step that is done; let the old "
            f"configuration end them first"
        )
    if begun := _count_begun_letters(client):
        rows = format_count(begun, "dead letter")
        yield (
            f"{rows} of which a step was done at the account before: headgate dead list "
            f"{client.name}; let the old configuration replay them, or settle them without sending"
        )
    if unknown := count_unsettled(client):
        rows = format_count(unknown, "dead letter")
        yield (
            f"{rows} of unknown outcome: headgate dead list {client.name}; let the old "
            f"configuration replay them, or settle them without sending: "
            f'headgate dead discard KEY --reason "…"'
        )


def _due(client: Client) -> Iterator[str]:
    """The keys of all transactions that wait to go again."""
    flows: Any = client.store.smembers(client.keys.active)
    for flow in sorted(flows):
        for key, _ in client.store.zscan_iter(client.keys.backlog(flow) + ":due"):
            yield str(key)


def _count_doubtful(client: Client) -> int:
    """How many transactions that wait may have been executed, all or in part."""
    due, doubtful = _due(client), 0
    while some := list(islice(due, _AT_ONCE)):
        transactions = client.ledger.transactions(some)
        doubtful += sum(
            bool(one and (one.maybe_executed or _has_begun(one))) for one in transactions
        )
    return doubtful


def _has_begun(transaction: Transaction) -> bool:
    """Whether a step, or a part of one, is done: the rest of it would go to another account."""
    return transaction.step > 1 or bool(transaction.done_calls)


def _count_begun_letters(client: Client) -> int:
    """How many dead letters would go on at another account than they began."""
    entries: Any = client.store.xrange(client.keys.dead)
    keys, begun = iter([str(fields.get("key", "")) for _, fields in entries]), 0
    while some := list(islice(keys, _AT_ONCE)):
        for one in client.ledger.transactions(some):
            begun += bool(
                one and one.state != "unknown" and one.may_be_replayed and _has_begun(one)
            )
    return begun
