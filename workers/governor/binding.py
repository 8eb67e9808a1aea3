"""What a client's ledger is bound to: who sends, where to, and under which idempotency keys.

A ledger says what was sent to one account of one provider. With another account its keys, counts
and look-ups would mean nothing, so another value is refused until a person binds the client anew.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from workers.errors import ConfigError, HeadgateError
from workers.store.many import ask_many

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.settings.client import ClientSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys
    from workers.store.many import ManyScripts
    from workers.store.scripts import Scripts

#: Seconds after which a process looks again.
CHECK_EVERY_S: Final = 2.0
#: Characters of a digest: of who sends, and of all bound values.
_DIGEST: Final = 12


def binding_of(client: ClientSettings) -> dict[str, str]:
    """The values to which a ledger is bound; of the client's id a digest, and never a secret."""
    return {
        "base_url": str(client.base_url or "").rstrip("/"),
        "token_url": str(client.token_url or "").rstrip("/"),
        "client_id": _digest(client.client_id) if client.client_id else "",
        "idempotency_header": client.idempotency_header.lower(),
        "key_scope": client.key_scope,
    }


def binding_digest(client: ClientSettings) -> str:
    """One short text that differs where any bound value does."""
    return digest_of(binding_of(client))


def digest_of(values: Mapping[str, str]) -> str:
    """The digest of such values."""
    return _digest("\0".join(values[name] for name in sorted(values)))


def stored(store: Store, keys: ClientKeys) -> dict[str, str]:
    """What the client's ledger is bound to; empty: to nothing yet."""
    bound: dict[str, str] = store.hgetall(keys.bound)  # type: ignore[assignment]
    return bound


def format_binding(values: Mapping[str, str]) -> str:
    """The values for people, without those that are empty."""
    return ", ".join(f"{name} {value}" for name, value in values.items() if value)


def bind(run: Scripts, client: ClientSettings) -> None:
    """Bind the client's ledger at its first use; later make sure that it is bound to the same.

    Args:
        run: The client's scripts.
        client: As it is configured.

    Raises:
        ConfigError: the ledger is bound to other values.
        StoreAway: the store did not answer.
    """
    own = binding_of(client)
    reply: list[str] = run("bind", *_flat(own))
    bound = dict(zip(reply[::2], reply[1::2], strict=True))
    if bound != own:
        raise ConfigError(describe_refusal(client.name, bound, own))


def bind_all(
    store: Store, run: ManyScripts, clients: Mapping[ClientKeys, ClientSettings]
) -> dict[ClientKeys, HeadgateError]:
    """Bind the ledgers of many clients, as `bind`; returns which of them may not work, and why.

    One that is bound already is only read.

    Raises:
        StoreAway: the store did not answer.
    """
    own = {keys: binding_of(client) for keys, client in clients.items()}
    replies = ask_many(store, (("HGETALL", keys.bound) for keys in clients))
    bound = dict(zip(clients, replies, strict=True))
    unbound = {keys: _flat(own[keys]) for keys, reply in bound.items() if reply == {}}
    for keys, reply in run("bind", unbound).items():
        is_error = isinstance(reply, HeadgateError)
        bound[keys] = reply if is_error else dict(zip(reply[::2], reply[1::2], strict=True))
    errors: dict[ClientKeys, HeadgateError] = {}
    for keys, reply in bound.items():
        if isinstance(reply, HeadgateError):
            errors[keys] = reply
        elif reply != own[keys]:
            errors[keys] = ConfigError(describe_refusal(keys.client, reply, own[keys]))
    return errors


def describe_refusal(name: str, bound: Mapping[str, str], own: Mapping[str, str]) -> str:
    """Why a client is refused: which values differ, and what to do."""
    fields = own.keys() | bound.keys()
    other = [_describe(field, bound.get(field), own.get(field)) for field in fields]
    differ = ", ".join(sorted(filter(None, other)))
    return (
        f"client {name}: its ledger is bound to another account ({differ}); use a client of "
        f'another name, or: headgate client rebind {name} --reason "…"'
    )


def _flat(values: Mapping[str, str]) -> list[str]:
    return [text for pair in values.items() for text in pair]


def _describe(field: str, bound: str | None, own: str | None) -> str:
    if bound == own:
        return ""
    if own is None:
        return f"{field}, which this release does not know"
    if field == "client_id":
        return "another client_id"
    return f"{field} {bound or 'none'}, not {own or 'none'}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
