"""One request to a client's token endpoint: OAuth client credentials, and what came of it."""

from __future__ import annotations

import base64
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

import requests

from workers.backoff import retry_after_s
from workers.http import Caller, ConnectFailed, Request
from workers.outcome import machine_code

if TYPE_CHECKING:
    from pydantic import SecretStr

    from workers.client_settings import ClientSettings
    from workers.outcome import Answer

#: Lifetime of a token whose answer names none, and the longest that is believed.
DEFAULT_LIFETIME_S: Final = 300.0
MAX_LIFETIME_S: Final = 30 * 86_400.0
#: How long it is not worth asking again: after a refusal, and when the endpoint is away or busy.
REFUSED_QUIET_S: Final = 5.0
AWAY_QUIET_S: Final = 1.0
MAX_QUIET_S: Final = 60.0
#: What may stand in an Authorization header.
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")


class NoToken(Exception):
    """The endpoint gave no token; the text is one sentence, without secrets.

    `refused`: a person must act. `quiet_s`: how long it is not worth asking again.
    """

    def __init__(
        self, reason: str, *, refused: bool = False, quiet_s: float = AWAY_QUIET_S
    ) -> None:
        super().__init__(reason)
        self.refused = refused
        self.quiet_s = REFUSED_QUIET_S if refused else quiet_s


class TokenEndpoint:
    """Where a client asks for its access token.

    It goes the way of all calls (one total deadline, a bounded answer, no redirect, no cookie), on
    a connection of its own.
    """

    def __init__(self, client: ClientSettings, token_url: str) -> None:
        url = urlsplit(token_url)
        self._client = client
        place = {
            "base_url": f"{url.scheme}://{url.netloc}",
            "total_timeout_s": client.read_timeout_s,
        }
        self._caller = Caller(client.model_copy(update=place), pool_size=1, governed=False)
        self._path = requests.Request("POST", token_url).prepare().path_url  # quoted

    def ask(self, secret: SecretStr) -> tuple[str, float]:
        """Ask for a new token.

        Returns:
            The token and its lifetime in seconds.

        Raises:
            NoToken: none came.
        """
        try:
            with self._caller.connection() as connection:
                answer = connection.send(self._request(secret.get_secret_value()), None)
        except ConnectFailed as error:
            raise NoToken(f"{error}, where its access token comes from") from None
        if answer.status is not None and 200 <= answer.status < 300:  # noqa: PLR2004
            try:
                return read_token(answer)
            except ValueError as error:
                raise self._no_token(f"gave no usable access token ({error})") from None
        raise self._refusal(answer)

    def _request(self, secret: str) -> Request:
        form = {"grant_type": "client_credentials"}
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        client_id = self._client.client_id or ""
        if self._client.token_auth == "basic":  # noqa: S105 -- how, not what
            pair = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        else:
            form |= {"client_id": client_id, "client_secret": secret}
        return Request("POST", self._path, headers, urlencode(form).encode())

    def _refusal(self, answer: Answer) -> NoToken:
        if answer.status is None:
            return self._no_token(f"gave no answer ({answer.error})")
        code = machine_code(answer)
        said = f"{answer.status} {code}" if code else str(answer.status)
        if answer.status in {400, 401, 403}:
            held = "client_secret_file" if self._client.client_secret_file else "client_secret_env"
            return self._no_token(
                f"refuses the client id or secret ({said}); check client_id and {held}",
                refused=True,
            )
        if answer.status < 500 and answer.status not in {408, 429}:  # noqa: PLR2004
            return self._no_token(f"answered {said}; check token_url", refused=True)
        asked_s = retry_after_s(answer.retry_after, datetime.now(UTC), MAX_QUIET_S)
        return self._no_token(f"answered {said}", quiet_s=max(asked_s or 0.0, AWAY_QUIET_S))

    def _no_token(
        self, what: str, *, refused: bool = False, quiet_s: float = AWAY_QUIET_S
    ) -> NoToken:
        reason = f"client {self._client.name}: the token endpoint {what}"
        return NoToken(reason, refused=refused, quiet_s=quiet_s)


def read_token(answer: Answer) -> tuple[str, float]:
    """The access token of a successful answer, and its lifetime in seconds.

    Raises:
        ValueError: there is none that can be used; the text says what is wrong, without values.
    """
    found = answer.json()
    if not isinstance(found, dict):
        raise ValueError(answer.error or "the answer is no JSON object")  # noqa: TRY004
    token, kind = found.get("access_token"), found.get("token_type", "bearer")
    if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        raise ValueError("access_token is missing or cannot stand in a header")
    if not (isinstance(kind, str) and kind.lower() == "bearer"):
        raise ValueError("token_type is not bearer")
    lifetime_s = found.get("expires_in")
    if lifetime_s is None:
        return token, DEFAULT_LIFETIME_S
    if not (isinstance(lifetime_s, int | float) and not isinstance(lifetime_s, bool)):
        raise ValueError("expires_in is not a number")  # noqa: TRY004
    if not 0 < lifetime_s < math.inf:
        raise ValueError("expires_in is not above 0")
    return token, float(min(lifetime_s, MAX_LIFETIME_S))
