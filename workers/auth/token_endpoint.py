"""One request to a client's token endpoint, and how its answer is read."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests

from workers.answer.outcome import Outcome, machine_code, read
from workers.auth.token_forms import read_token, token_request, what_to_check
from workers.http.connection import Caller
from workers.http.request import Request
from workers.http.route import ConnectFailed

if TYPE_CHECKING:
    from workers.answer.outcome import Answer
    from workers.settings.access import Secrets
    from workers.settings.client import ClientSettings

#: How long nobody asks again: after a refusal, and when the endpoint is away or busy.
REFUSED_QUIET_S: Final = 5.0
AWAY_QUIET_S: Final = 1.0
MAX_QUIET_S: Final = 60.0
#: With these statuses an endpoint refuses who asks, and with these it asks for patience.
_REFUSALS: Final = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_BUSY: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


class NoToken(Exception):
    """The endpoint gave no token; the text is one sentence, without secrets.

    `refused`: a person must act. `quiet_s`: how long nobody should ask again.
    """

    def __init__(
        self, reason: str, *, refused: bool = False, quiet_s: float = AWAY_QUIET_S
    ) -> None:
        super().__init__(reason)
        self.refused = refused
        self.quiet_s = REFUSED_QUIET_S if refused else quiet_s


class TokenEndpoint:
    """Where a client asks for its access token.

    The request goes the way of all calls (the client's proxy and certificates, one total deadline,
    a bounded answer, no redirect, no cookie), on a connection of its own that is not kept: a token
    lasts for hours.

    Raises:
        ConfigError: its URL, the proxy or a certificate cannot be used.
    """

    def __init__(self, client: ClientSettings, token_url: str) -> None:
        url = urlsplit(token_url)
        self._client = client
        place = {
            "base_url": f"{url.scheme}://{url.netloc}",
            "total_timeout_s": client.read_timeout_s,
        }
        self._caller = Caller(client.model_copy(update=place), pool_size=0)
        self._path = requests.Request("POST", token_url).prepare().path_url  # quoted

    def ask(self, secrets: Secrets) -> tuple[str, float]:
        """Ask for a new token.

        Returns:
            The token and its lifetime in seconds.

        Raises:
            NoToken: none came.
            ConfigError: the proxy's password or a certificate cannot be used now.
        """
        headers, body = token_request(self._client, secrets)
        try:
            with self._caller.connection() as connection:
                answer = connection.send(Request("POST", self._path, headers, body), None)
        except ConnectFailed as error:
            raise NoToken(f"{error}, where its access token comes from") from None
        if read(answer).outcome is Outcome.EXECUTED:
            try:
                return read_token(answer)
            except ValueError as error:
                raise self._no_token(f"gave no usable access token ({error})") from None
        raise self._refusal(answer)

    def _refusal(self, answer: Answer) -> NoToken:
        if answer.status is None or not answer.sent:
            return self._no_token(f"gave no answer ({answer.error})")
        code = machine_code(answer)
        answered = f"{answer.status} {code}" if code else str(answer.status)
        if answer.status in _REFUSALS:
            what, keys = what_to_check(self._client)
            region = self._client.region
            where = f", and that the organisation is in region {region}" if region else ""
            reason = f"refuses the {what} ({answered}); check {keys}{where}"
            return self._no_token(reason, refused=True)
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and answer.status not in _BUSY:
            return self._no_token(f"answered {answered}; check token_url", refused=True)
        quiet_s = min(answer.retry_after_s or 0.0, MAX_QUIET_S)
        return self._no_token(f"answered {answered}", quiet_s=max(quiet_s, AWAY_QUIET_S))

    def _no_token(
        self, what: str, *, refused: bool = False, quiet_s: float = AWAY_QUIET_S
    ) -> NoToken:
        reason = f"client {self._client.name}: the token endpoint {what}"
        return NoToken(reason, refused=refused, quiet_s=quiet_s)
