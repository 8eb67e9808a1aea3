"""What each form of authentication asks a token endpoint, and how the answer is read. Pure.

| auth                 | the request                                                              |
| -------------------- | ------------------------------------------------------------------------ |
| `client_credentials` | a form, `grant_type=client_credentials`; id and secret by Basic or in it |
| `access_key`         | JSON, `accessKeyId` and `accessKeySecret` (NICE CXone)                   |
| `password`           | a form, `grant_type=password`; the client's id and secret as above       |

Headgate does not keep a refresh token that comes beside an access token: the secrets are at hand,
and every form can ask with them again.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

if TYPE_CHECKING:
    from workers.answer.outcome import Answer
    from workers.settings.access import AuthSettings, Secrets

#: Lifetime of a token whose answer names none, and the longest lifetime that is believed.
DEFAULT_LIFETIME_S: Final = 300.0
MAX_LIFETIME_S: Final = 30 * 86_400.0
#: What may stand in an Authorization header.
HEADER_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}")


def token_request(client: AuthSettings, secrets: Secrets) -> tuple[dict[str, str], bytes]:
    """Build headers and body of a POST to the client's token endpoint."""
    client_id, secret = client.client_id or "", secrets.client.get_secret_value()
    headers = {"Accept": "application/json"}
    if client.auth == "access_key":
        key = {"accessKeyId": client_id, "accessKeySecret": secret}
        return {**headers, "Content-Type": "application/json"}, json.dumps(key).encode()
    form: dict[str, str] = {"grant_type": client.auth}
    if client.auth == "password":
        form |= {
            "username": client.username or "",
            "password": secrets.password.get_secret_value(),
        }
    if client.scope:
        form["scope"] = client.scope
    match client.token_auth:
        case "basic":
            pair = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        case "form":
            form |= {"client_id": client_id, "client_secret": secret}
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    return headers, urlencode(form).encode()


def what_to_check(client: AuthSettings) -> tuple[str, str]:
    """What an endpoint refuses, and the keys of the configuration to look at, for a sentence."""
    scope = ("scope",) if client.scope else ()
    match client.auth:
        case "access_key":
            return "access key", client.names("client_id", "client_secret")
        case "password":
            keys = ("client_id", "client_secret", "username", "password", *scope)
            return "client or user", client.names(*keys)
        case _:
            return "client id or secret", client.names("client_id", "client_secret", *scope)


def read_token(answer: Answer) -> tuple[str, float]:
    """Read the access token of a successful answer, and its lifetime in seconds.

    Raises:
        ValueError: there is none that can be used; the text says what is wrong, without values.
    """
    fields = answer.json()
    if type(fields) is not dict:
        raise ValueError(answer.error or "the answer is no JSON object")
    token, token_type = fields.get("access_token"), fields.get("token_type", "bearer")
    if not (isinstance(token, str) and HEADER_TOKEN.fullmatch(token)):
        raise ValueError("access_token is missing or cannot stand in a header")
    if not (isinstance(token_type, str) and token_type.lower() == "bearer"):
        raise ValueError("token_type is not bearer")
    lifetime_s = fields.get("expires_in")
    if lifetime_s is None:
        return token, DEFAULT_LIFETIME_S
    if type(lifetime_s) not in {int, float}:  # a bool is an int too
        raise ValueError("expires_in is not a number")
    if not 0 < lifetime_s < math.inf:
        raise ValueError("expires_in is not above 0")
    return token, float(min(lifetime_s, MAX_LIFETIME_S))
