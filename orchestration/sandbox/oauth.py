"""The token endpoints, each with the path and the form of its platform.

| path                                  | form                                                   |
| ------------------------------------- | ------------------------------------------------------ |
| `/oauth/token`                        | client credentials, by Basic or in the form            |
| `/authentication/v1/token/access-key` | an access key as JSON                                  |
| `/auth/token`                         | `grant_type=password`: an access key as user and       |
|                                       | password beside a client by Basic or in the form       |
| `/.well-known/cxone-configuration`    | GET: where a tenant's API and its `/auth/token` are    |

A token belongs to the client. A token for an access key alone belongs to the id of the key.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from orchestration.sandbox.calls import Reply, encode_json
from orchestration.sandbox.config import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornado.httputil import HTTPHeaders

    from orchestration.sandbox.calls import Call

CLIENT_CREDENTIALS_PATH = "/oauth/token"
ACCESS_KEY_PATH = "/authentication/v1/token/access-key"
USER_LOGIN_PATH = "/auth/token"
DISCOVERY_PATH = "/.well-known/cxone-configuration"
#: Paths that need no token and are charged to no limit.
OPEN_PATHS = frozenset((CLIENT_CREDENTIALS_PATH, ACCESS_KEY_PATH, USER_LOGIN_PATH, DISCOVERY_PATH))


class OAuth:
    """The tokens that were issued; they live in memory only."""

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[str, int]] = {}  # token -> client, expires_us

    def answer_token_request(self, call: Call, now_us: int) -> Reply:
        """Answer a token request and name its client in `call.client`, if it gave one."""
        if call.path == DISCOVERY_PATH:
            return _answer_discovery(call)
        if call.path == ACCESS_KEY_PATH:
            return self._answer_access_key(call, now_us)
        return self._answer_form(call, now_us)

    def _answer_form(self, call: Call, now_us: int) -> Reply:
        form = {name: values[-1] for name, values in parse_qs(call.body.decode("latin-1")).items()}
        client, secret = _read_credentials(call.request.headers.get("Authorization", ""), form)
        call.client = client
        grant = "password" if call.path == USER_LOGIN_PATH else "client_credentials"
        if call.method != "POST" or form.get("grant_type") != grant:
            expected = f"POST a form with grant_type={grant}"
            return _refusal(400, "unsupported_grant_type", expected)
        if not _matches_secret(call.config.clients, client, secret):
            return _refusal(401, "invalid_client", "client not found or secret wrong")
        if grant == "client_credentials":
            return self._grant(client, call.config.token_lifetime_s, now_us)
        if not _matches_secret(call.config.access_keys, form.get("username"), form.get("password")):
            return _refusal(400, "invalid_grant", "user not found or password wrong")
        return self._grant_cxone(call, client, now_us)

    def _answer_access_key(self, call: Call, now_us: int) -> Reply:
        try:
            body = parse_json(call.body)
        except ValueError:
            body = None
        if call.method != "POST" or not isinstance(body, dict):
            expected = "POST a JSON object with accessKeyId and accessKeySecret"
            return _refusal(400, "invalid_request", expected)
        key = body.get("accessKeyId")
        call.client = key if isinstance(key, str) else ""
        if not _matches_secret(call.config.access_keys, key, body.get("accessKeySecret")):
            return _refusal(401, "invalid_client", "access key not found or secret wrong")
        return self._grant_cxone(call, call.client, now_us)

    def _grant_cxone(self, call: Call, client: str, now_us: int) -> Reply:
        lifetime_s = call.config.cxone_lifetime_s
        further = {
            "refresh_token": secrets.token_urlsafe(32),
            "refresh_token_expires_in": int(2 * lifetime_s),
            "id_token": secrets.token_urlsafe(32),
        }
        return self._grant(client, lifetime_s, now_us, further)

    def _grant(
        self,
        client: str,
        lifetime_s: float,
        now_us: int,
        further: Mapping[str, object] | None = None,
    ) -> Reply:
        self._tokens = {
            token: (owner, expires_us)
            for token, (owner, expires_us) in self._tokens.items()
            if expires_us > now_us
        }
        token = secrets.token_urlsafe(32)
        self._tokens[token] = client, now_us + round(lifetime_s * 1e6)
        body = {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": int(lifetime_s),
            **(further or {}),
        }
        return Reply(
            status=200, body=encode_json(body), kind="token", headers={"Cache-Control": "no-store"}
        )

    def client_of(
        self, headers: HTTPHeaders, api_keys: Mapping[str, str], now_us: int
    ) -> str | None:
        """Return the client that a valid token or API key belongs to; None: there is none.

        An API key is taken as `X-Api-Key` or as a bearer token.
        """
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        client, expires_us = self._tokens.get(token, (None, 0))
        if client is not None:
            return client if expires_us > now_us else None
        return api_keys.get(token) or api_keys.get(headers.get("X-Api-Key", ""))

    def revoke_all(self) -> int:
        """Forget every token and return how many there were."""
        count = len(self._tokens)
        self._tokens.clear()
        return count


def _answer_discovery(call: Call) -> Reply:
    tenant = call.request.query_arguments.get("tenantId", [b""])[-1].decode("latin-1")
    if call.method != "GET" or not tenant:
        return _refusal(400, "invalid_request", "GET with tenantId")
    origin = f"{call.request.protocol}://{call.request.host}"
    body = {"api_endpoint": origin, "auth_endpoint": origin, "area": "sandbox", "tenantId": tenant}
    return Reply(status=200, body=encode_json(body), kind="token")


def _matches_secret(secrets_by_name: Mapping[str, str], name: object, secret: object) -> bool:
    """Tell whether a name, as it came in a request, has this secret."""
    if not (isinstance(name, str) and isinstance(secret, str)):
        return False
    return name in secrets_by_name and secrets.compare_digest(
        secrets_by_name[name].encode(), secret.encode()
    )


def _read_credentials(authorization: str, form: dict[str, str]) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        plain = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    client, _, secret = plain.partition(":")
    return unquote(client), unquote(secret)


def _refusal(status: int, name: str, description: str) -> Reply:
    body = {"error": name, "description": description, "error_description": description}
    return Reply(status=status, body=encode_json(body), kind="token")
