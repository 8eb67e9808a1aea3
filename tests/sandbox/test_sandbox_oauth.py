"""The token endpoints of NICE CXone, and API keys, as a caller meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from orchestration.sandbox import SandboxProcess

KEY = {"accessKeyId": "demo-key", "accessKeySecret": "demo-key-secret"}
USER = {"grant_type": "password", "username": "demo-key", "password": "demo-key-secret"}
CLIENT = ("demo", "demo-secret")


def by_key(sandbox: SandboxProcess, body: Any) -> requests.Response:
    url = f"{sandbox.url}/authentication/v1/token/access-key"
    return requests.post(url, json=body, timeout=10)


def by_password(
    sandbox: SandboxProcess, auth: tuple[str, str] | None = CLIENT, **form: str
) -> requests.Response:
    return requests.post(f"{sandbox.url}/auth/token", {**USER, **form}, auth=auth, timeout=10)


def status(sandbox: SandboxProcess, **headers: str) -> int:
    return requests.get(f"{sandbox.url}/things", headers=headers, timeout=10).status_code


def test_an_access_key_and_a_user_get_tokens_of_an_hour_with_a_refresh_token(
    sandbox: SandboxProcess,
) -> None:
    answers = [by_key(sandbox, KEY).json(), by_password(sandbox).json()]

    for answer in answers:
        assert answer.items() >= {"token_type": "bearer", "expires_in": 3600}.items()
        assert answer.keys() >= {"refresh_token", "refresh_token_expires_in", "id_token"}
        assert status(sandbox, Authorization=f"Bearer {answer['access_token']}") == 200
    assert sandbox.get("report")["token_requests"] == {"demo": 1, "demo-key": 1}


def test_such_a_token_ends_after_its_own_lifetime(sandbox: SandboxProcess) -> None:
    sandbox.post("config", {"cxone_lifetime_s": 60})
    token = by_key(sandbox, KEY).json()["access_token"]

    before = status(sandbox, Authorization=f"Bearer {token}")
    sandbox.post("clock", {"advance_s": 60})

    assert (before, status(sandbox, Authorization=f"Bearer {token}")) == (200, 401)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({**KEY, "accessKeySecret": "wrong"}, 401),
        ({**KEY, "accessKeyId": 7}, 401),
        ({}, 401),
        ([], 400),
    ],
)
def test_a_wrong_access_key_is_refused(sandbox: SandboxProcess, body: Any, code: int) -> None:
    assert by_key(sandbox, body).status_code == code


@pytest.mark.parametrize(
    ("auth", "form", "code", "error"),
    [
        (("demo", "wrong"), {}, 401, "invalid_client"),
        (None, {}, 401, "invalid_client"),
        (CLIENT, {"password": "wrong"}, 400, "invalid_grant"),
        (CLIENT, {"username": "demo"}, 400, "invalid_grant"),
        (CLIENT, {"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
    ],
)
def test_a_wrong_client_user_or_grant_is_refused(
    sandbox: SandboxProcess,
    auth: tuple[str, str] | None,
    form: dict[str, str],
    code: int,
    error: str,
) -> None:
    answer = by_password(sandbox, auth, **form)

    assert (answer.status_code, answer.json()["error"]) == (code, error)


def test_an_api_key_is_taken_as_header_or_bearer_until_it_is_replaced(
    sandbox: SandboxProcess,
) -> None:
    sandbox.post("config", {"api_keys": {"one": "demo"}})
    taken = [status(sandbox, **{"X-Api-Key": "one"}), status(sandbox, Authorization="Bearer one")]
    sandbox.post("config", {"api_keys": {"two": "demo"}})

    assert taken == [200, 200]
    assert status(sandbox, **{"X-Api-Key": "one"}) == 401
    assert status(sandbox) == 401


def test_a_token_that_is_not_valid_may_be_answered_403_as_some_providers_do(
    sandbox: SandboxProcess,
) -> None:
    sandbox.post("config", {"api_keys": {"one": "demo"}, "unauthorised": "403"})

    assert status(sandbox, Authorization="Bearer old") == 403
    assert status(sandbox, Authorization="Bearer one") == 200


def test_no_secret_is_in_the_configuration_that_it_tells(sandbox: SandboxProcess) -> None:
    sandbox.post("config", {"api_keys": {"canary": "demo"}, "access_keys": {"id": "canary"}})

    assert "canary" not in str(sandbox.get("config"))


def test_a_tenant_is_told_where_its_endpoints_are(sandbox: SandboxProcess) -> None:
    url = f"{sandbox.url}/.well-known/cxone-configuration"

    tenant = requests.get(url, {"tenantId": "t-1"}, timeout=10).json()

    assert (tenant["api_endpoint"], tenant["auth_endpoint"]) == (sandbox.url, sandbox.url)
    assert requests.get(url, timeout=10).status_code == 400
