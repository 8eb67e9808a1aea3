"""The access token of a client as it lies in the store: encrypted, one for the whole fleet.

Nobody can read it without the client's secrets. So a token that was kept under other secrets is as
good as none, and whoever has the new ones asks for another.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from workers.store.reading import number_of
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.auth.token_endpoint import NoToken
    from workers.settings.access import Secrets
    from workers.settings.client import ClientSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys


#: A token that replaces a refused one is trusted so long; each further renewal doubles that, up to
#: the second.
TRUST_S: Final = 1.0
LONGEST_TRUST_S: Final = 300.0
#: Renewals are forgotten when a token has worked so long and no call was refused with it.
FORGET_S: Final = 60.0
#: So many good answers in a row to one process take a first renewal back, twice as many each
#: further one: a provider that refuses one call in 20 gives them to one refusal in 27.
GOOD_ANSWERS: Final = 64


@dataclass(frozen=True, slots=True)
class TokenLook:
    """The answer of lua/token_look.lua, field by field; times by the store's clock."""

    now_us: int
    locked: bool
    usable: bool
    token: str  #: encrypted
    generation: int
    asked_us: int
    renew_us: int
    expires_us: int
    failure: str
    refused: bool


class TokenRefusal(NamedTuple):
    """What became of a token that was refused."""

    renewed: bool  #: the next look renews it, or one did before
    age_s: float  #: of the token, and its lifetime, seconds; 0 = not by this refusal
    lifetime_s: float


class TokenShelf:
    """Where the fleet keeps one client's token; every method raises `StoreAway`.

    Args:
        client: Whose token it is.
        store: Where the fleet shares it.
        keys: The client's names there.
        lock_ms: How long the lock of one who asks for a token outlives it.
        clock: Microseconds since the epoch, for tests that hold the clock; None = the store's.
    """

    def __init__(
        self,
        client: ClientSettings,
        store: Store,
        keys: ClientKeys,
        lock_ms: int,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._lock_ms = lock_ms
        self._scripts = Scripts(store, keys, clock)

    def look(self, owner: str, unreadable: str, secrets: Secrets) -> TokenLook:
        """Look for the token; take the lock where it must be renewed.

        Args:
            owner: A random name for who looks.
            unreadable: The generation that it could not read, "" = none.
            secrets: With which it would ask for one.
        """
        reply = self._scripts("token_look", owner, self._lock_ms, unreadable, self._digest(secrets))
        now_us, locked, usable, token, *numbers, failure, refused = reply
        generation, asked_us, renew_us, expires_us = (number_of(number) for number in numbers)
        return TokenLook(
            now_us=now_us,
            locked=locked == 1,
            usable=usable == 1,
            token=token,
            generation=generation,
            asked_us=asked_us,
            renew_us=renew_us,
            expires_us=expires_us,
            failure=failure,
            refused=refused == "1",
        )

    def keep(self, owner: str, new: TokenLook) -> bool:
        """Keep a new token and give the lock back; False = the lock was lost meanwhile."""
        times = (new.asked_us, new.renew_us, new.expires_us)
        return bool(self._scripts("token_keep", owner, new.token, new.generation, *times))

    def release(self, owner: str) -> None:
        """Give the lock back without a token."""
        self._scripts("token_release", owner, "", 0, 0, "")

    def fail(self, owner: str, failure: NoToken, secrets: Secrets) -> None:
        """Give the lock back, and let others see for a while why there is no token.

        That these secrets were refused is seen by those who have the same.
        """
        quiet_us, digest = int(failure.quiet_s * 1e6), self._digest(secrets)
        self._scripts("token_release", owner, str(failure), int(failure.refused), quiet_us, digest)

    def refuse(self, generation: int) -> TokenRefusal:
        """Mark a token as refused, unless it replaces a refused one and is too young."""
        spans = (round(span * 1e6) for span in (TRUST_S, LONGEST_TRUST_S, FORGET_S))
        renewed, age_us, lifetime_us = self._scripts("token_refuse", generation, *spans)
        return TokenRefusal(renewed == 1, age_us / 1e6, lifetime_us / 1e6)

    def worked(self, good: int = 0) -> int:
        """Say that the token works; returns how many renewals are not forgotten.

        Args:
            good: Answers in a row, none of which refused it; 0 = to a call that was refused.
        """
        return int(self._scripts("token_worked", good, GOOD_ANSWERS))

    def seal(self, value: str, secrets: Secrets) -> str:
        """Encrypt a token."""
        return self._cipher(secrets).encrypt(value.encode()).decode()

    def unseal(self, look: TokenLook, secrets: Secrets) -> str | None:
        """Decrypt the token of a look; None when it was kept under other secrets."""
        try:
            return self._cipher(secrets).decrypt(look.token).decode()
        except InvalidToken:
            return None

    def _cipher(self, secrets: Secrets) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(self._derive(secrets, "headgate access token")))

    def _digest(self, secrets: Secrets) -> str:
        """What tells these secrets from others; nothing of them follows from it."""
        return self._derive(secrets, "headgate secrets")[:8].hex()

    def _derive(self, secrets: Secrets, purpose: str) -> bytes:
        names = (self._keys.namespace, self._client.name, self._client.client_id or "")
        info = "\0".join((purpose, *names)).encode()
        kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=info)
        both = (secrets.client.get_secret_value(), secrets.password.get_secret_value())
        return kdf.derive("\0".join(both).encode())
