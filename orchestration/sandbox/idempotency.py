"""What the provider remembers under idempotency keys, and for how long."""

from __future__ import annotations

import hashlib
import zlib
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from orchestration.sandbox.calls import ApiError, Reply
from orchestration.sandbox.config import compile_glob

if TYPE_CHECKING:
    from orchestration.sandbox.calls import Call

#: Scope of a key: the client, then method, path and key, or the key alone.
KeyScope: TypeAlias = tuple[str, ...]

#: Longer bodies are compressed, since a load test remembers the answers of a whole day.
_COMPRESS_FROM_BYTES = 1000


class KeyState(Enum):
    """What a key means for the call that carries it."""

    NEW = "new"  #: the call is to be executed, and the store knows that it is in progress
    IN_PROGRESS = "in progress"  #: the first call under this key has no answer yet
    REUSED = "reused"  #: the key belongs to another body
    REPLAY = "replay"  #: the first answer is to be given again


class KeyClaim(NamedTuple):
    """What a key means for a call; with `REPLAY` the status and the body of the first answer."""

    state: KeyState
    status: int = 0
    body: bytes = b""


class RememberedCall(NamedTuple):
    """The first call under a key; status 0 while it has no answer."""

    body_hash: bytes
    first_us: int
    status: int
    packed_body: bytes


class KeyStore:
    """Keys in order of their first call, so that the oldest are the first to be forgotten."""

    def __init__(self) -> None:
        self._calls: dict[KeyScope, RememberedCall] = {}

    def claim(self, scope: KeyScope, body: bytes, now_us: int, lifetime_us: int) -> KeyClaim:
        """Look a key up, and take it if it is new."""
        self._forget(now_us - lifetime_us)
        body_hash = hashlib.blake2b(body, digest_size=16).digest()
        first = self._calls.get(scope)
        if first is None:
            self._calls[scope] = RememberedCall(body_hash, now_us, 0, b"")
            return KeyClaim(KeyState.NEW)
        if first.body_hash != body_hash:
            return KeyClaim(KeyState.REUSED)
        if not first.status:
            return KeyClaim(KeyState.IN_PROGRESS)
        return KeyClaim(KeyState.REPLAY, first.status, zlib.decompress(first.packed_body))

    def remember(self, scope: KeyScope, status: int, body: bytes) -> None:
        """Store the answer of a call that claimed its key."""
        if first := self._calls.get(scope):
            packed = zlib.compress(body, 1 if len(body) > _COMPRESS_FROM_BYTES else 0)
            self._calls[scope] = first._replace(status=status, packed_body=packed)

    def release(self, scope: KeyScope) -> None:
        """Forget a key whose call was not executed."""
        self._calls.pop(scope, None)

    def _forget(self, expired_us: int) -> None:
        oldest = next(iter(self._calls.values()), None)
        if oldest is not None and oldest.first_us <= expired_us:
            self._calls = {
                scope: call for scope, call in self._calls.items() if call.first_us > expired_us
            }


def claim_key(keys: KeyStore, call: Call, now_us: int) -> tuple[KeyScope | None, Reply | None]:
    """Take the key of a call that has an effect.

    Returns:
        The scope under which the answer is to be remembered, None where no key counts; and the
        reply that ends the call early, None where the call is to be executed.
    """
    config = call.config
    honoured = compile_glob(config.idempotency_match).match(f"{call.method} {call.path}")
    if not call.key or config.idempotency == "off" or not honoured:
        return None, None
    scope: KeyScope = (call.client, call.key)
    if config.idempotency == "method_path_key":
        scope = (call.client, call.method, call.path, call.key)
    claim = keys.claim(scope, call.body, now_us, round(config.idempotency_lifetime_s * 1e6))
    match claim.state:
        case KeyState.NEW:
            return scope, None
        case KeyState.REPLAY:
            headers = {"Idempotency-Replayed": "true"}
            reply = Reply(status=claim.status, body=claim.body, kind="replay", headers=headers)
        case KeyState.IN_PROGRESS:
            message = "The first call under this key is still in progress."
            reply = call.error_reply(ApiError(409, "request.in.progress", message))
        case KeyState.REUSED:
            message = "This key belongs to a call with another body."
            reply = call.error_reply(ApiError(422, "idempotency.key.reused", message))
    return None, reply
