"""What a call carries to prove who sends it: one interface, whatever the client's form.

Whoever sends a call asks for a token before admit, puts its headers on, and reports a 401:

    token = credentials.get(wait_s)            None: calls of this client carry nothing
    headers |= token.headers
    if credentials.refused(token): the call comes back with another token
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

    def get(self, wait_s: float | None = None) -> Token | None:
        """What the next call carries; raises `TokenUnavailable` or `StoreAway`."""

    def newest(self, wait_s: float | None = None) -> Token | None:
        """What the next call carries, whatever this process still has; as `get`."""

    def refused(self, token: Token, *, again: bool = False) -> bool:
        """Report a 401 or 403; returns whether there will be another token.

        Raises:
            StoreAway: the store did not answer.
        """

    def worked(self, token: Token, *, again: bool = True) -> None:
        """Report that a call came back with another token and was answered. As above."""


class NoCredentials:
    """Calls go without a token."""

    def get(self, wait_s: float | None = None) -> None:
        """Return nothing: the call carries no token."""
        del wait_s

    newest = get

    def refused(self, token: Token, *, again: bool = False) -> bool:
        """There is nothing that could be renewed."""
        del token, again
        return False

    def worked(self, token: Token, *, again: bool = True) -> None:
        """Nothing follows."""


class StaticSecret:
    """A bearer token or an API key that somebody else made, and that nobody renews.

    It is read anew for each call, so the call after a change carries the new one.
    """

    def __init__(self, client: ClientSettings) -> None:
        self._client = client
        self._last = Token(SecretStr(""), 0)
        self._reading = threading.Lock()

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

    newest = get

    def refused(self, token: Token, *, again: bool = False) -> bool:
        """Whether another secret stands there by now; nobody renews this one."""
        del again
        try:
            return self.get() != token
        except TokenUnavailable:
            return False

    def worked(self, token: Token, *, again: bool = True) -> None:
        """Nothing follows."""

    def _token(self, value: SecretStr, generation: int) -> Token:
        if self._client.auth == "api_key" and self._client.api_key_header:
            return Token(value, generation, header=self._client.api_key_header, scheme="")
        return Token(value, generation)
