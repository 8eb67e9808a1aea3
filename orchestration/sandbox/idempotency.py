"""What the provider remembers under idempotency keys, and for how long."""

from __future__ import annotations

import hashlib
import zlib
from enum import Enum
from typing import NamedTuple

#: Scope of a key: the client, then method, path and key, or the key alone.
Scope = tuple[str, ...]


class KeyState(Enum):
    """What a key means for the call that carries it."""

    NEW = "new"  #: the call is to be executed, and the store knows that it is in progress
    IN_PROGRESS = "in progress"  #: the first call under this key has no answer yet
    REUSED = "reused"  #: the key belongs to another body
    REPLAY = "replay"  #: the first answer is to be given again


class Remembered(NamedTuple):
    """The first call under a key; status 0 while it has no answer."""

    body_hash: bytes
    first_us: int
    status: int
    packed_body: bytes


class KeyStore:
    """Keys in order of their first call, so that the oldest are the first to be forgotten."""

    def __init__(self) -> None:
        self._calls: dict[Scope, Remembered] = {}

    def claim(
        self, scope: Scope, body: bytes, now_us: int, lifetime_us: int
    ) -> tuple[KeyState, int, bytes]:
        """Look a key up, and take it if it is new.

        Returns:
            The state, and with `REPLAY` the status and the body of the first answer.
        """
        self._forget(now_us - lifetime_us)
        body_hash = hashlib.blake2b(body, digest_size=16).digest()
        known = self._calls.get(scope)
        if known is None:
            self._calls[scope] = Remembered(body_hash, now_us, 0, b"")
            return KeyState.NEW, 0, b""
        if known.body_hash != body_hash:
            return KeyState.REUSED, 0, b""
        if not known.status:
            return KeyState.IN_PROGRESS, 0, b""
        return KeyState.REPLAY, known.status, zlib.decompress(known.packed_body)

    def remember(self, scope: Scope, status: int, body: bytes) -> None:
        """Keep the answer of a call that claimed its key."""
        if known := self._calls.get(scope):
            # Packed: a load test keeps the answers of a whole day.
            packed = zlib.compress(body, 1 if len(body) > 1000 else 0)  # noqa: PLR2004
            self._calls[scope] = known._replace(status=status, packed_body=packed)

    def release(self, scope: Scope) -> None:
        """Forget a key whose call was not executed."""
        self._calls.pop(scope, None)

    def _forget(self, expired_us: int) -> None:
        oldest = next(iter(self._calls.values()), None)
        if oldest is not None and oldest.first_us <= expired_us:
            self._calls = {
                scope: call for scope, call in self._calls.items() if call.first_us > expired_us
            }
