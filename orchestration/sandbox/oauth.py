"""The token endpoint: client credentials, by Basic authentication or by form fields."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from orchestration.sandbox.calls import Answer, encode

if TYPE_CHECKING:
    from orchestration.sandbox.calls import Call

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path, no secret


class OAuth:
    """The tokens that were issued; they live in memory only."""

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[str, int]] = {}  # token -> client, expires_us

    def issue(self, call: Call, now_us: int) -> Answer:
        """Answer a token request and name its client in `call.client`, if it gave one."""
        form = {name: values[-1] for name, values in parse_qs(call.body.decode("latin-1")).items()}
        client, secret = _credentials(call.request.headers.get("Authorization", ""), form)
        call.client = client
        if call.method != "POST" or form.get("grant_type") != "client_credentials":
            wanted = "POST a form with grant_type=client_credentials"
            return _refusal(400, "unsupported_grant_type", wanted)
        known = call.config.clients.get(client)
        if known is None or not secrets.compare_digest(known.encode(), secret.encode()):
            return _refusal(401, "invalid_client", "client not found or secret wrong")
        self._tokens = {token: held for token, held in self._tokens.items() if held[1] > now_us}
        token = secrets.token_urlsafe(32)
        self._tokens[token] = client, now_us + round(call.config.token_lifetime_s * 1e6)
        body = {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": int(call.config.token_lifetime_s),
        }
        return Answer(
            status=200, body=encode(body), kind="token", headers={"Cache-Control": "no-store"}
        )

    def client_of(self, authorization: str, now_us: int) -> str | None:
        """Return the client that a valid bearer token belongs to; None: no or no valid token."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        client, expires_us = self._tokens.get(token.strip(), (None, 0))
        return client if expires_us > now_us else None

    def revoke_all(self) -> int:
        """Forget every token and return how many there were."""
        count = len(self._tokens)
        self._tokens.clear()
        return count


def _credentials(authorization: str, form: dict[str, str]) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        plain = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    client, _, secret = plain.partition(":")
    return unquote(client), unquote(secret)


def _refusal(status: int, name: str, description: str) -> Answer:
    body = {"error": name, "description": description, "error_description": description}
    return Answer(status=status, body=encode(body), kind="token")
