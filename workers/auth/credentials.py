"""What a call carries to prove who sends it: one interface, whatever the client's form.

Whoever sends a call asks for a token before admit, puts its headers on, and reports a 401:

    token = credentials.get(wait_s)            None: calls of this client carry nothing
    headers |= token.headers
    if credentials.refused(token): hold the client, and say `credentials.hopeless`
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic import SecretStr

from workers.auth.token_forms import HEADER_TOKEN
from workers.errors import ConfigError, TokenUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.settings.client import ClientSettings


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and the number by which a refusal of it is reported."""

    value: SecretStr
    generation: int
    header: str = "Authorization"
    scheme: str = "Bearer "

    @property
    def headers(self) -> Mapping[str, str]:
        """What a request with this token carries."""
        return {self.header: f"{self.scheme}{self.value.get_secret_value()}"}


class Credentials(Protocol):
    """The tokens of one client, for all threads of this process."""

    @property
    def hopeless(self) -> str:
        """After "the provider answered 401": why the client is held, and what to do."""

    def get(self, wait_s: float | None = None) -> Token | None:
        """What the next call carries; raises `TokenUnavailable` or `StoreAway`."""

    def refused(self, token: Token, sent_ago_s: float = 0.0) -> bool:
        """Report a 401; True = the next token would be refused too. May raise `StoreAway`."""


class NoCredentials:
    """Calls go without a token."""

    hopeless = "although no access token is configured; set auth"

    def get(self, wait_s: float | None = None) -> None:
        """Return nothing: the call carries no token."""
        del wait_s

    def refused(self, token: Token, sent_ago_s: float = 0.0) -> bool:
        """There is nothing that could be renewed."""
        del token, sent_ago_s
        return True


class StaticSecret:
    """A bearer token or an API key that somebody else made, and that nobody renews.

    It is read anew for each call, so the call after a change carries the new one.
    """

    def __init__(self, client: ClientSettings) -> None:
        self._client = client
        self._last = Token(SecretStr(""), 0)
        self._reading = threading.Lock()

    @property
    def hopeless(self) -> str:
        """Where to find the secret that the provider does not accept."""
        what = "API key" if self._client.auth == "api_key" else "token"
        return f"to the {what} of {self._client.names('client_secret')}; put a valid one there"

    def get(self, wait_s: float | None = None) -> Token:
        """The secret as it is now.

        Raises:
            TokenUnavailable: it is not there, or cannot stand in a header.
        """
        del wait_s
        try:
            value = self._client.secret()
        except ConfigError as error:
            raise TokenUnavailable(str(error), refused=True) from None
        if not HEADER_TOKEN.fullmatch(value.get_secret_value()):
            raise TokenUnavailable(
                f"client {self._client.name}: what {self._client.names('client_secret')} holds "
                f"cannot stand in a header; put one line of ASCII without spaces there",
                refused=True,
            )
        with self._reading:
            if value != self._last.value:
                self._last = self._token(value, self._last.generation + 1)
            return self._last

    def refused(self, token: Token, sent_ago_s: float = 0.0) -> bool:
        """Whether the secret is still the one that was refused; there is no other."""
        del sent_ago_s
        try:
            return self.get() == token
        except TokenUnavailable:
            return True

    def _token(self, value: SecretStr, generation: int) -> Token:
        if self._client.auth == "api_key" and self._client.api_key_header:
            return Token(value, generation, header=self._client.api_key_header, scheme="")
        return Token(value, generation)
