"""The access token of a client: one for the whole fleet, renewed by one worker at a time.

The token lies encrypted in the store. Whoever finds that it is to be renewed takes the lock and
asks the provider; the others go on with the old token while it is valid, and wait for the new one
when it is not. Everybody sees for a moment that a renewal failed, so that not every thread of the
fleet tries a wrong secret.

Ages are measured by the store's clock, which is the same for everybody, and never by the wall
clocks of the hosts. Between two looks a process counts on by its own clock, suspends included.

A token belongs to the secrets with which it was asked for. When these change, which needs no
restart, a new one is asked for within `COMPARE_SECRETS_EVERY_S`.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from workers.auth.credentials import NoCredentials, StaticSecret, Token
from workers.auth.token_endpoint import NoToken, TokenEndpoint
from workers.auth.token_store import GOOD_ANSWERS, TokenLook, TokenShelf
from workers.clock import now_ns
from workers.errors import STORE_FAILS, ConfigError, TokenUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.auth.credentials import Credentials
    from workers.auth.token_store import TokenRefusal
    from workers.settings.access import Secrets
    from workers.settings.client import ClientSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: A token is renewed this long before its end, at random between the two, and never earlier than
#: in its last fifth.
RENEW_AHEAD_S: Final = (60.0, 300.0)
MAX_AHEAD_PART: Final = 0.2
#: A token that is refused in this part of its life ended early.
EARLY_PART: Final = 0.5
#: When so many in a row ended early, another system may use the same credentials.
EARLY_TOKENS: Final = 3
#: How often the store is asked: by those who wait, and by those who still have the old token.
ASK_STORE_EVERY_S: Final = (0.02, 0.05)
LOOK_EVERY_S: Final = 1.0
#: A token for which a process has waited so long in vain is overdue, seconds.
OVERDUE_S: Final = 5.0
#: How often a process that has a token looks whether the secrets are still the same.
COMPARE_SECRETS_EVERY_S: Final = 1.0
#: How much longer than a request (TCP, TLS, answer) the lock outlives an owner that died.
LOCK_SPARE_S: Final = 5.0
_CHANCE: Final = random.SystemRandom()

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    """The token in this process; times by `workers.clock`."""

    token: Token
    secrets: Secrets  #: with which it was asked for
    look_ns: int  #: until then the store need not be asked
    expires_ns: int


class Tokens:
    """The access token of one client, for all threads of this process.

    Args:
        client: Its credentials and timeouts; its form has a `token_url`.
        store: Where the fleet shares the token.
        keys: The client's names there.
        clock: Microseconds since the epoch, for tests that hold the clock; None = the store's.

    Raises:
        ConfigError: the way to the token endpoint cannot be used.
    """

    def __init__(
        self,
        client: ClientSettings,
        store: Store,
        keys: ClientKeys,
        clock: Callable[[], int] | None = None,
    ) -> None:
        if client.token_url is None:
            raise ConfigError(f"client {client.name} has no token_url; set it")
        self._client = client
        self._endpoint = TokenEndpoint(client, client.token_url)
        self._wait_s = client.connect_timeout_s + client.read_timeout_s
        lock_s = self._wait_s + client.connect_timeout_s + LOCK_SPARE_S
        self._shelf = TokenShelf(client, store, keys, int(lock_s * 1000), clock)
        self._held: _Held | None = None
        self._late_since_ns = 0  #: since when no token came in time; 0 = one did
        self._refused = 0  # the generation that this process reported last
        self._early: TokenRefusal | None = None  # a token that was refused long before its end
        self._ended_early = 0  # tokens in a row that were so, and their replacements worked
        self._good: int | None = None  # good answers since a refusal, until that is forgotten
        self._doubted = 0  # the generation with which a call was refused and that was kept
        self._compare_ns = 0  # until then the secrets are taken to be the same
        self._looking = threading.Lock()

    def get(self, wait_s: float | None = None) -> Token:
        """A valid token.

        Args:
            wait_s: How long to wait while another thread or worker asks for it; None = as long as
                asking may take.

        Raises:
            TokenUnavailable: the endpoint gave none, or none came in time.
            ConfigError: the proxy's password or a certificate cannot be used now.
            StoreAway: the store did not answer.
        """
        held = self._held
        if held and self._is_good(held):
            return held.token
        return self._look(held, self._wait_s if wait_s is None else wait_s)

    def newest(self, wait_s: float | None = None) -> Token:
        """The token of the fleet, whatever this process still has.

        A call that comes back after a 401 would else go out with the refused token once more, where
        another process reported it. Arguments and errors as `get`.
        """
        wait_s = self._wait_s if wait_s is None else wait_s
        ends_ns = now_ns() + int(wait_s * 1e9)
        if not self._looking.acquire(timeout=wait_s):
            raise self._late(wait_s)
        try:
            return self._find(ends_ns, wait_s)
        finally:
            self._looking.release()

    def refused(self, token: Token, *, again: bool = False) -> bool:
        """Report that the provider answered 401, or 403, to a call with this token.

        The next `get` renews it, once for the fleet, however many report the same. A token that
        replaces a refused one is trusted for a while: the call is more likely at fault.

        Args:
            token: The token that was refused.
            again: The call was refused with an earlier token too.

        Returns:
            Whether a new token is asked for, or was meanwhile.

        Raises:
            StoreAway: the store did not answer.
        """
        self._good = 0
        refusal = self._shelf.refuse(token.generation)
        if refusal.renewed:
            self._refused = token.generation
        else:
            self._doubted = token.generation
        if not again and 0 < refusal.age_s < EARLY_PART * refusal.lifetime_s:
            self._early = refusal
        return refusal.renewed

    def worked(self, token: Token, *, again: bool = True) -> None:
        """Report that a call was answered; many in a row make a renewal forgotten.

        If the call was refused and came back with a new token, the one before may have ended: where
        several in a row ended early, the log says it. If it was refused with the same, that had
        not ended.

        Args:
            token: The one with which it was answered.
            again: The call was refused before.

        Raises:
            StoreAway: the store did not answer.
        """
        if not again:
            self._count_good()
            return
        self._shelf.worked()
        refusal, self._early = self._early, None
        if token.generation == self._doubted:
            self._ended_early = 0
        elif refusal:
            self._ended_early += 1
            if self._ended_early >= EARLY_TOKENS:
                self._ended_early = 0
                self._warn_early(refusal)

    def _count_good(self) -> None:
        if self._good is None:
            return
        self._good = good = self._good + 1
        is_asked = good >= GOOD_ANSWERS and good & (good - 1) == 0  # 64, 128, 256, …
        if is_asked and self._shelf.worked(good) == 0:
            self._good = None

    def _warn_early(self, refusal: TokenRefusal) -> None:
        logger.warning(
            "%d access tokens of client %s in a row had ended early, the last one %.0f s after it "
            "was issued for %.0f s; another system may use the same credentials",
            EARLY_TOKENS,
            self._client.name,
            refusal.age_s,
            refusal.lifetime_s,
        )

    def _may_use(self, held: _Held, until_ns: int) -> bool:
        return held.token.generation != self._refused and now_ns() < until_ns

    def _is_good(self, held: _Held) -> bool:
        """Whether neither the time nor the secrets are a reason to look for another token."""
        if not self._may_use(held, held.look_ns):
            return False
        if now_ns() < self._compare_ns:
            return True
        try:
            same = self._client.secrets() == held.secrets
        except ConfigError:
            same = True  # being replaced, or gone: a valid token needs no secret
        if same:
            self._compare_ns = now_ns() + int(COMPARE_SECRETS_EVERY_S * 1e9)
        return same

    def _look(self, held: _Held | None, wait_s: float) -> Token:
        ends_ns = now_ns() + int(wait_s * 1e9)
        old = held.token if held and self._may_use(held, held.expires_ns) else None
        # While the old token is valid, one thread looks for the next one and the others go on.
        if not self._looking.acquire(timeout=0 if old else wait_s):
            if old:
                return old
            raise self._late(wait_s)
        try:
            held = self._held
            if held and self._is_good(held):
                return held.token
            return self._find(ends_ns, wait_s)
        except TokenUnavailable as failure:
            if old and not failure.refused:  # the secrets changed while the endpoint is away
                self._compare_ns = now_ns() + int(COMPARE_SECRETS_EVERY_S * 1e9)
                return old
            raise
        finally:
            self._looking.release()

    def _find(self, ends_ns: int, wait_s: float) -> Token:
        """Take the token of the store, renew it, or wait until another worker has."""
        try:
            known = self._client.secrets()  # read anew each time, for they may have changed
        except ConfigError as error:
            raise TokenUnavailable(str(error), refused=True) from None
        if known is None:
            raise TokenUnavailable(f"client {self._client.name} has no secrets", refused=True)
        owner, unreadable = secrets.token_hex(16), ""
        while True:
            look = self._shelf.look(owner, unreadable, known)
            if look.locked:
                token = self._renew(known, look, owner)
                if token:
                    return token
            elif look.usable:
                token = self._read(known, look)
                if token:
                    return token
                unreadable = str(look.generation)  # kept under other secrets: as good as none
                continue
            elif look.failure:
                raise TokenUnavailable(look.failure, refused=look.refused)
            if now_ns() >= ends_ns:
                raise self._late(wait_s)
            time.sleep(_CHANCE.uniform(*ASK_STORE_EVERY_S))

    def _renew(self, known: Secrets, look: TokenLook, owner: str) -> Token | None:
        """Ask for a new token under the lock; None when the lock was lost meanwhile."""
        try:
            value, lifetime_s = self._endpoint.ask(known)
        except NoToken as error:
            self._shelf.fail(owner, error, known)
            old = self._read(known, look) if look.usable else None
            if old:
                return old
            raise TokenUnavailable(str(error), refused=error.refused) from None
        except BaseException:
            with suppress(*STORE_FAILS):
                self._shelf.release(owner)
            raise
        ahead_s = min(_CHANCE.uniform(*RENEW_AHEAD_S), MAX_AHEAD_PART * lifetime_s)
        new = replace(
            look,
            token=self._shelf.seal(value, known),
            # Larger than any before, even when the store has forgotten those before.
            generation=max(look.generation + 1, look.now_us),
            asked_us=look.now_us,  # a lifetime counted from the question is never too long
            renew_us=look.now_us + int((lifetime_s - ahead_s) * 1e6),
            expires_us=look.now_us + int(lifetime_s * 1e6),
        )
        return self._hold(known, new, value) if self._shelf.keep(owner, new) else None

    def _read(self, known: Secrets, look: TokenLook) -> Token | None:
        """The token of the store; None when it was kept under other secrets."""
        value = self._shelf.unseal(look, known)
        return None if value is None else self._hold(known, look, value)

    def _hold(self, known: Secrets, look: TokenLook, value: str) -> Token:
        """Keep the token in this process, until it must be renewed or at least looked for."""
        now = now_ns()
        # A store's clock that was set back must not make a token live longer than it was given.
        left_us = min(look.expires_us - look.now_us, look.expires_us - look.asked_us)
        look_us = look.renew_us - look.now_us
        if look_us <= 0:  # another worker renews it, or could not
            look_us = int(LOOK_EVERY_S * 1e6)
        token = Token(SecretStr(value), look.generation)
        self._compare_ns = now + int(COMPARE_SECRETS_EVERY_S * 1e9)
        look_ns, expires_ns = now + 1000 * min(look_us, left_us), now + 1000 * left_us
        self._held, self._late_since_ns = _Held(token, known, look_ns, expires_ns), 0
        return token

    def _late(self, wait_s: float) -> TokenUnavailable:
        self._late_since_ns = self._late_since_ns or now_ns()
        return TokenUnavailable(
            f"client {self._client.name}: no access token came within {wait_s:g} s; it is being "
            f"asked for",
            overdue=now_ns() - self._late_since_ns >= OVERDUE_S * 1e9,
        )


def credentials_of(client: ClientSettings, store: Store, keys: ClientKeys) -> Credentials:
    """What the calls of a client carry; raises `ConfigError` where there is no way to a token."""
    match client.auth:
        case "none":
            return NoCredentials()
        case "bearer" | "api_key":
            return StaticSecret(client)
        case _:
            return Tokens(client, store, keys)
