"""The access token of a client: one for the whole fleet, renewed by one worker at a time.

The token lies encrypted in the store. Whoever finds that it is to be renewed takes the lock and
asks the provider; the others go on with the old token while it is valid, and wait for the new one
when it is not. A renewal that failed is told to everybody for a moment, so that a wrong secret is
not tried by every thread of the fleet.

Ages are told by the store's clock, which is the same for everybody; the wall clocks of the hosts
are never asked. Between two looks a process counts on by its own clock, suspends included.
"""

from __future__ import annotations

import base64
import random
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from workers.clock import now_ns
from workers.errors import ConfigError, StoreAway, TokenUnavailable
from workers.scripts import Scripts
from workers.token_endpoint import NoToken, TokenEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.client_settings import ClientSettings
    from workers.keys import ClientKeys
    from workers.store import Store

#: A token is renewed this long before its end, at random between the two, and never earlier than
#: in its last fifth.
AHEAD_S: Final = (60.0, 300.0)
LAST_PART: Final = 0.2
#: A token that is refused before this age, and in its first half, was refused fresh.
FRESH_S: Final = 10.0
#: How often the store is asked: by those who wait, and by those who still have the old token.
POLL_S: Final = (0.02, 0.05)
LOOK_AGAIN_S: Final = 1.0
#: How much longer than a request (TCP, TLS, answer) the lock outlives an owner that died.
LOCK_SPARE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and the number by which a refusal of it is reported."""

    value: SecretStr
    generation: int


@dataclass(frozen=True, slots=True)
class _Held:
    """The token in this process; times by `workers.clock`."""

    token: Token
    look_ns: int  #: until then the store need not be asked
    expires_ns: int


@dataclass(frozen=True, slots=True)
class _Look:
    """What lua/token_look.lua returns, field by field; times by the store's clock."""

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


class Tokens:
    """The access token of one client, for all threads of this process.

    Args:
        client: Its credentials and timeouts; without `token_url` it needs no token.
        store: Where the fleet shares the token.
        keys: The client's names there.
        clock: Microseconds since the epoch, for tests that hold the clock; None = the store's.
    """

    def __init__(
        self,
        client: ClientSettings,
        store: Store,
        keys: ClientKeys,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(store, keys, clock)
        self._endpoint = TokenEndpoint(client, client.token_url) if client.token_url else None
        self._wait_s = client.connect_timeout_s + client.read_timeout_s
        self._lock_ms = int((self._wait_s + client.connect_timeout_s + LOCK_SPARE_S) * 1000)
        self._held: _Held | None = None
        self._refused = 0  # the generation that this process reported last
        self._looking = threading.Lock()

    def get(self, wait_s: float | None = None) -> Token | None:
        """A valid token, or None when the client needs none.

        Args:
            wait_s: How long to wait while another thread or worker asks for it; None = as long as
                asking may take.

        Raises:
            TokenUnavailable: the endpoint gave none, or none came in time.
            StoreAway: the store did not answer.
        """
        if self._endpoint is None:
            return None
        held = self._held
        if held and self._may_use(held, held.look_ns):
            return held.token
        return self._look_for_it(held, self._endpoint, self._wait_s if wait_s is None else wait_s)

    def refused(self, generation: int, sent_ago_s: float = 0.0) -> bool:
        """Report that the provider answered 401 to a call with this token.

        The next `get` renews it, once for the fleet, however many report the same.

        Args:
            generation: Of the token that was refused.
            sent_ago_s: How long ago the call was sent.

        Returns:
            Whether the one before it was refused too and this one was fresh when it was sent, so
            that yet another will not help.

        Raises:
            StoreAway: the store did not answer.
        """
        self._refused = generation
        found = self._scripts("token_refuse", generation)
        if not found:
            return False
        age_us, lifetime_us, again = found
        fresh = age_us - sent_ago_s * 1e6 < min(FRESH_S * 1e6, lifetime_us / 2)
        return bool(again and fresh)

    def _may_use(self, held: _Held, until_ns: int) -> bool:
        return held.token.generation != self._refused and now_ns() < until_ns

    def _look_for_it(self, held: _Held | None, endpoint: TokenEndpoint, wait_s: float) -> Token:
        ends_ns = now_ns() + int(wait_s * 1e9)
        old = held.token if held and self._may_use(held, held.expires_ns) else None
        # While the old token is valid, one thread looks for the next one and the others go on.
        if not self._looking.acquire(timeout=0 if old else wait_s):
            if old:
                return old
            raise self._waited(wait_s)
        try:
            held = self._held
            if held and self._may_use(held, held.look_ns):
                return held.token
            return self._find(endpoint, ends_ns, wait_s)
        finally:
            self._looking.release()

    def _find(self, endpoint: TokenEndpoint, ends_ns: int, wait_s: float) -> Token:
        """Take the token of the store, renew it, or wait until another worker has."""
        try:
            secret = self._client.secret()  # anew each time: a changed one is picked up
        except ConfigError as error:
            raise TokenUnavailable(str(error), refused=True) from None
        cipher = self._cipher(secret)
        owner, unreadable = secrets.token_hex(16), ""
        while True:
            look = self._look(owner, unreadable)
            if look.locked:
                token = self._renew(endpoint, secret, cipher, look, owner)
                if token:
                    return token
            elif look.usable:
                token = self._read(cipher, look)
                if token:
                    return token
                unreadable = str(look.generation)  # kept under another secret: as good as none
                continue
            elif look.failure:
                raise TokenUnavailable(look.failure, refused=look.refused)
            if now_ns() >= ends_ns:
                raise self._waited(wait_s)
            time.sleep(random.uniform(*POLL_S))  # noqa: S311 -- jitter, no secret

    def _renew(
        self, endpoint: TokenEndpoint, secret: SecretStr, cipher: Fernet, look: _Look, owner: str
    ) -> Token | None:
        """Ask for a new token under the lock; None when the lock was lost meanwhile."""
        try:
            value, lifetime_s = endpoint.ask(secret)
        except NoToken as failure:
            quiet_us = int(failure.quiet_s * 1e6)
            self._scripts("token_release", owner, str(failure), int(failure.refused), quiet_us)
            old = self._read(cipher, look) if look.usable else None
            if old:
                return old
            raise TokenUnavailable(str(failure), refused=failure.refused) from None
        except BaseException:
            with suppress(StoreAway):
                self._scripts("token_release", owner, "", 0, 0)
            raise
        ahead_s = min(random.uniform(*AHEAD_S), LAST_PART * lifetime_s)  # noqa: S311 -- jitter
        new = replace(
            look,
            token=cipher.encrypt(value.encode()).decode(),
            # Larger than any before, even when the store has forgotten those before.
            generation=max(look.generation + 1, look.now_us),
            asked_us=look.now_us,  # a lifetime counted from the question is never too long
            renew_us=look.now_us + int((lifetime_s - ahead_s) * 1e6),
            expires_us=look.now_us + int(lifetime_s * 1e6),
        )
        times = (new.asked_us, new.renew_us, new.expires_us)
        if not self._scripts("token_keep", owner, new.token, new.generation, *times):
            return None
        return self._hold(new, value)

    def _look(self, owner: str, unreadable: str) -> _Look:
        found = self._scripts("token_look", owner, self._lock_ms, unreadable)
        now_us, locked, usable, token, *numbers, failure, refused = found
        generation, asked_us, renew_us, expires_us = (int(number) for number in numbers)
        return _Look(
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

    def _read(self, cipher: Fernet, look: _Look) -> Token | None:
        """Decrypt the token of the store; None when it was kept under another secret."""
        try:
            return self._hold(look, cipher.decrypt(look.token).decode())
        except InvalidToken:
            return None

    def _hold(self, look: _Look, value: str) -> Token:
        """Keep the token in this process, until it is to be renewed or at least looked for."""
        now = now_ns()
        # A store's clock that was set back must not make a token live longer than it was given.
        left_us = min(look.expires_us - look.now_us, look.expires_us - look.asked_us)
        look_us = look.renew_us - look.now_us
        if look_us <= 0:  # another worker renews it, or could not
            look_us = int(LOOK_AGAIN_S * 1e6)
        token = Token(SecretStr(value), look.generation)
        self._held = _Held(token, now + 1000 * min(look_us, left_us), now + 1000 * left_us)
        return token

    def _cipher(self, secret: SecretStr) -> Fernet:
        """The key of tokens at rest: without the client's secret they cannot be read."""
        names = (self._keys.namespace, self._client.name, self._client.client_id or "")
        info = "\0".join(("headgate access token", *names)).encode()
        kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=info)
        key = kdf.derive(secret.get_secret_value().encode())
        return Fernet(base64.urlsafe_b64encode(key))

    def _waited(self, wait_s: float) -> TokenUnavailable:
        return TokenUnavailable(
            f"client {self._client.name}: no access token came within {wait_s:g} s; another "
            f"worker is asking for it"
        )
