"""Derived keys: the same input gives the same key again, on any machine, after any loss."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import uuid
from typing import TYPE_CHECKING, Any, Final

from workers.errors import ConfigError, SchemaUnknown
from workers.store import keys

if TYPE_CHECKING:
    from workers.store.connection import Store

#: Number of the forms in which this release stores and sends; lua/prelude.lua has the same.
SCHEMA: Final = 1

_encode = json.JSONEncoder(ensure_ascii=False).encode  # made once, for each row needs it


def idempotency_key(secret: bytes, client: str, job: str, row: str, generation: int = 1) -> str:
    """The key of one transaction: a UUID (version 8) derived from its names.

    It is derived, never random: a ledger that lost its last second derives the same key again,
    and the provider recognises the call.

    Args:
        secret: The installation's secret; without it nobody can guess keys of other rows.
        client: The client whose quota it uses.
        job: The job that it belongs to.
        row: The id of its row, which is unique in the job.
        generation: 1 for the first key; a rotated key has the next number.

    Example:
        >>> idempotency_key(b"s", "acme", "j1", "r1") == idempotency_key(b"s", "acme", "j1", "r1")
        True
        >>> idempotency_key(b"s", "acme", "j1", "r1") == idempotency_key(b"s", "acme", "j1", "r2")
        False
    """
    names = _encode([client, job, row, generation]).encode()
    digest = bytearray(hmac.digest(secret, names, "sha256")[:16])
    digest[6] = digest[6] & 0x0F | 0x80  # version 8: a UUID of the maker's own
    digest[8] = digest[8] & 0x3F | 0x80  # the RFC 9562 variant
    return str(uuid.UUID(bytes=bytes(digest)))


def step_key(key: str, step: int) -> str:
    """The key of one step, for providers that match keys without method and path."""
    return str(uuid.uuid5(uuid.UUID(key), f"step {step}"))


def part_key(key: str, step: int, part: int) -> str:
    """The key of one part, both counted from 1, of a step that takes several calls."""
    return str(uuid.uuid5(uuid.UUID(key), f"step {step} part {part}"))


def request_digest(method: str, url: str, key: tuple[str, str], body: bytes | None) -> str:
    """A short digest of what identifies a request at the provider.

    Args:
        method: GET, POST and so on.
        url: The whole URL.
        key: The header of its idempotency key, and the key.
        body: None = it has none.
    """
    names = _encode([method, url, *key, body is None]).encode("utf-8", "surrogatepass")
    return hashlib.sha256(names + b"\n" + (body or b"")).hexdigest()[:16]


def payload_hash(payload: object) -> str:
    """A short digest of a JSON value: rows of equal payload have equal ones."""
    text = json.dumps(payload, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def installation_secret(store: Store, namespace: str) -> bytes:
    """The secret of this installation: made once, then kept in the store for good.

    Raises:
        ConfigError: its record is damaged.
        SchemaUnknown: the store holds data of another schema.
    """
    if secret := read_secret(store, namespace):
        return secret
    name = keys.installation(namespace)
    pipe = store.pipeline(transaction=True)  # two that make it at once keep one whole record
    pipe.hsetnx(name, "secret", secrets.token_hex(32))
    pipe.hsetnx(name, "schema", str(SCHEMA))
    pipe.execute()
    return read_secret(store, namespace)


def read_secret(store: Store, namespace: str) -> bytes:
    """The secret of this installation; empty when the store holds none.

    Raises:
        ConfigError: its record is damaged.
        SchemaUnknown: the store holds data of another schema.
    """
    name = keys.installation(namespace)
    stored: list[Any] = store.hmget(name, "secret", "schema")
    secret, schema = stored
    if secret is None and schema is None:
        return b""
    if schema != str(SCHEMA):
        raise SchemaUnknown(
            f"the store holds data of schema {schema} under namespace {namespace}, and this "
            f"release reads schema {SCHEMA}: use the release that wrote it, or another namespace"
        )
    if secret is None:
        raise ConfigError(
            f"the record {name} of the store has lost its secret, from which all keys derive: put "
            f"it back from a backup, or use another namespace"
        )
    try:
        return bytes.fromhex(str(secret))
    except ValueError:
        raise ConfigError(
            f"the secret in the record {name} of the store cannot be read, and all keys derive "
            f"from it: put it back from a backup, or use another namespace"
        ) from None
