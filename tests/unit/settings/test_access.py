"""Which keys each form of authentication needs, and which do not go with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from workers.errors import ConfigError
from workers.settings.access import NEEDS, AuthSettings, RouteSettings
from workers.settings.client import ClientSettings, with_profile
from workers.settings.values import read_secret

SECRET = {"client_secret_env": "ACME_SECRET"}
ENDPOINT = {"token_url": "https://login.example.com/token", "client_id": "me", **SECRET}
USER = {"username": "u", "password_env": "ACME_PASSWORD"}


def load(**given: Any) -> ClientSettings:
    given = {"base_url": "https://api.example.com", **given}
    named = {key: value for key, value in given.items() if value is not None}
    return ClientSettings.model_validate(with_profile("acme", named))


def refusal(**given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        load(**given)
    (error,) = caught.value.errors(include_input=False, include_url=False)
    return str(error["msg"])


@pytest.mark.parametrize(
    ("given", "auth"),
    [
        ({}, "none"),
        (SECRET, "none"),
        (ENDPOINT, "client_credentials"),
        ({**ENDPOINT, "token_auth": "form", "scope": "a b"}, "client_credentials"),
        ({"auth": "access_key", **ENDPOINT}, "access_key"),
        ({"auth": "password", **ENDPOINT, **USER, "scope": "a"}, "password"),
        ({"auth": "bearer", **SECRET}, "bearer"),
        ({"auth": "api_key", **SECRET, "api_key_header": "X-Api-Key"}, "api_key"),
        ({"auth": "none", **ENDPOINT}, "none"),
    ],
)
def test_each_form_needs_its_own_keys_and_without_a_form_today_s_hold(
    given: dict[str, Any], auth: str
) -> None:
    assert load(**given).auth == auth


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({**ENDPOINT, "client_id": None}, 'auth "client_credentials" needs its client_id'),
        (
            {**ENDPOINT, "client_secret_env": None},
            "needs its client_secret; set client_secret_env or client_secret_file",
        ),
        ({"auth": "client_credentials", "client_id": "me", **SECRET}, "needs its token_url"),
        ({"auth": "password", **ENDPOINT, "username": "u"}, "set password_env or password_file"),
        ({"auth": "password", **ENDPOINT, "password_env": "P"}, "needs its username"),
        ({"auth": "bearer"}, 'auth "bearer" needs its client_secret'),
        ({"auth": "api_key", **SECRET}, 'auth "api_key" needs its api_key_header'),
        (
            {"auth": "bearer", **SECRET, "client_id": "me"},
            '"access_key" or "password", not with "bearer"; remove it, or choose another auth',
        ),
        ({"auth": "access_key", **ENDPOINT, "token_auth": "form"}, "token_auth goes with auth"),
        ({"auth": "access_key", **ENDPOINT, "scope": "a"}, "scope goes with auth"),
        ({**ENDPOINT, "password_file": "p"}, 'password_file goes with auth "password", not with'),
        (
            {"api_key_header": "X-Api-Key"},
            'api_key_header goes with auth "api_key", not with "none',
        ),
        (
            {"auth": "api_key", **SECRET, "api_key_header": "Host"},
            "Value error, belongs to the connection",
        ),
        (
            {"auth": "api_key", **SECRET, "api_key_header": "idempotency-key"},
            "idempotency_header is the header of the api key",
        ),
    ],
)
def test_a_key_that_is_missing_or_does_not_go_with_the_form_is_told_in_a_sentence(
    given: dict[str, Any], said: str
) -> None:
    assert said in refusal(**given)


def test_a_form_that_does_not_exist_is_refused_with_those_that_do() -> None:
    assert "'access_key', 'password', 'bearer' or 'api_key'" in refusal(auth="oauth1")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"proxy_username": "u", "proxy_password_env": "P"}, "go with a proxy; set proxy"),
        ({"proxy": "none", "proxy_username": "u", "proxy_password_env": "P"}, "set proxy"),
        ({"proxy": "http://p:1", "proxy_username": "u"}, "set proxy_password_env or"),
        ({"proxy": "http://p:1", "proxy_password_env": "P"}, "set proxy_username"),
        ({"proxy": "http://u:canary@p:1"}, "use proxy_username and its password"),
        ({"proxy": "http://p:1/path"}, "must end after its host and port"),
        ({"proxy": "socks5://p:1"}, "must start with http:// or https://"),
        ({"client_key_file": "k.pem"}, "set client_cert_file"),
    ],
)
def test_a_way_that_is_not_whole_is_told_in_a_sentence(given: dict[str, Any], said: str) -> None:
    told = refusal(**given)

    assert said in told
    assert "canary" not in told


# Profiles


@pytest.mark.parametrize("provider", ["nice", "nice-guide"])
def test_nice_needs_an_area_and_an_access_key(provider: str) -> None:
    it = load(provider=provider, region="NA1", client_id="key", **SECRET)

    assert it.auth == "access_key"
    assert it.token_url == "https://na1.nice-incontact.com/authentication/v1/token/access-key"
    assert "needs its token_url" in refusal(provider=provider, client_id="key", **SECRET)


def test_nice_without_credentials_sends_without_a_token() -> None:
    assert load(provider="nice").auth == "none"


def test_the_token_url_of_a_region_belongs_to_the_form_of_the_profile() -> None:
    own = load(provider="nice", region="eu1", auth="password", **ENDPOINT, **USER)
    static = load(provider="genesys", region="eu-central-1", auth="bearer", **SECRET)

    assert own.token_url == ENDPOINT["token_url"]
    assert static.token_url is None
    given = {**ENDPOINT, **USER, "token_url": None}
    assert "needs its token_url" in refusal(provider="nice", region="eu1", auth="password", **given)


# Secrets


def test_an_empty_secret_file_holds_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("\n")

    with pytest.raises(ConfigError, match=r"client_secret_file .* is empty; put the client secret"):
        load(auth="bearer", client_secret_file=file).secrets()


def test_the_password_of_the_user_is_read_beside_the_clients_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = load(auth="password", **ENDPOINT, **USER)
    monkeypatch.setenv("ACME_SECRET", "canary-secret")
    with pytest.raises(ConfigError, match="ACME_PASSWORD is not set; put the password there"):
        it.secrets()
    monkeypatch.setenv("ACME_PASSWORD", "canary-password")

    known = it.secrets()

    assert known
    assert known.client.get_secret_value() == "canary-secret"
    assert known.password.get_secret_value() == "canary-password"
    assert "canary" not in repr(known) + repr(it)


# The documentation


def test_the_examples_of_the_docs_are_valid_and_show_every_form() -> None:
    docs = (Path(__file__).parents[3] / "docs/reference/settings.md").read_text("utf-8")
    examples = [tomllib.loads(it) for it in re.findall(r"```toml\n([^`]*)```", docs)]

    clients = [load(**it) for one in examples for it in one.get("clients", {}).values()]

    assert {it.auth for it in clients} == set(NEEDS)
    assert any(it.proxy and it.client_key_file for it in clients)
    for key in (*AuthSettings.model_fields, *RouteSettings.model_fields):
        assert key == "name" or f"`{key}`" in docs


@pytest.mark.parametrize("secret", ["client_secret", "password", "proxy_password"])
def test_a_secret_with_bytes_that_are_no_text_is_told_as_any_wrong_secret(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_TEXT", b"canary\xff\xfe".decode(errors="surrogateescape"))

    with pytest.raises(ConfigError) as refusal:
        read_secret("client acme", secret, "NO_TEXT", None)

    assert str(refusal.value).startswith("client acme: the environment variable NO_TEXT holds")
    assert "canary" not in str(refusal.value)
