"""What each form asks a token endpoint: the request itself, and the sandbox's answer to it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr

from orchestration.sandbox.process import SandboxProcess
from workers.auth.token_endpoint import NoToken, TokenEndpoint
from workers.auth.token_forms import token_request
from workers.settings.access import Secrets
from workers.settings.client import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN = Secrets(SecretStr("sécret&"), SecretStr("pass word"))
ACCESS_KEY = {"auth": "access_key", "path": "/authentication/v1/token/access-key"}
PASSWORD = {"auth": "password", "path": "/auth/token", "username": "demo-key", "password_env": "P"}


def a_client(origin: str = "http://127.0.0.1:1", **settings: Any) -> ClientSettings:
    about = {
        "name": "acme",
        "base_url": origin,
        "token_url": origin + settings.pop("path", "/oauth/token"),
        "client_id": "demo",
        "client_secret_env": "ACME_SECRET",
    }
    return ClientSettings(**{**about, **settings})


def basic(headers: dict[str, str]) -> str:
    return base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()


def test_client_credentials_travel_by_basic_or_in_the_form_with_the_scope() -> None:
    headers, body = token_request(a_client(scope="one two"), KNOWN)
    form_headers, form_body = token_request(a_client(token_auth="form"), KNOWN)

    assert basic(headers) == "demo:sécret&"
    assert body == b"grant_type=client_credentials&scope=one+two"
    assert "Authorization" not in form_headers
    assert parse_qs(form_body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["demo"],
        "client_secret": ["sécret&"],
    }


def test_an_access_key_travels_as_json() -> None:
    headers, body = token_request(a_client(**ACCESS_KEY), KNOWN)

    assert headers == {"Accept": "application/json", "Content-Type": "application/json"}
    assert json.loads(body) == {"accessKeyId": "demo", "accessKeySecret": "sécret&"}


def test_a_user_travels_in_the_form_beside_its_client() -> None:
    headers, body = token_request(a_client(**PASSWORD), KNOWN)

    assert basic(headers) == "demo:sécret&"
    assert parse_qs(body.decode()) == {
        "grant_type": ["password"],
        "username": ["demo-key"],
        "password": ["pass word"],
    }


@pytest.fixture(scope="module")
def provider() -> Iterator[SandboxProcess]:
    with SandboxProcess() as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("form", "known", "lifetime_s"),
    [
        ({"scope": "all"}, ("demo-secret", ""), 86_400),
        ({"token_auth": "form"}, ("demo-secret", ""), 86_400),
        ({**ACCESS_KEY, "client_id": "demo-key"}, ("demo-key-secret", ""), 3_600),
        (PASSWORD, ("demo-secret", "demo-key-secret"), 3_600),
        ({**PASSWORD, "token_auth": "form"}, ("demo-secret", "demo-key-secret"), 3_600),
    ],
)
def test_the_sandbox_gives_a_token_for_each_form(
    provider: SandboxProcess, form: dict[str, Any], known: tuple[str, str], lifetime_s: float
) -> None:
    client = a_client(provider.url, **form)

    token, given_s = TokenEndpoint(client, client.token_url or "").ask(
        Secrets(*map(SecretStr, known))
    )

    assert len(token) >= 32
    assert given_s == lifetime_s


@pytest.mark.parametrize(
    ("form", "what", "keys"),
    [
        ({"scope": "all"}, "client id or secret", "client_id, client_secret_env and scope"),
        (ACCESS_KEY, "access key", "client_id and client_secret_env"),
        (PASSWORD, "client or user", "client_id, client_secret_env, username and password_env"),
    ],
)
def test_a_form_that_is_refused_names_the_keys_to_look_at(
    provider: SandboxProcess, form: dict[str, Any], what: str, keys: str
) -> None:
    client = a_client(provider.url, **form)

    with pytest.raises(NoToken) as caught:
        TokenEndpoint(client, client.token_url or "").ask(KNOWN)

    said = f"client acme: the token endpoint refuses the {what} (401 invalid_client); check {keys}"
    assert str(caught.value) == said
    assert caught.value.refused
