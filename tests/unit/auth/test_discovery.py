"""What an answer to `config discover` may name: places to which secrets will go."""

from __future__ import annotations

import json

import pytest

from workers.answer.outcome import Answer
from workers.auth.discovery import CXONE, Endpoints, read_endpoints
from workers.errors import ConfigError


def an_answer(api: object, auth: object) -> Answer:
    body = {"api_endpoint": api, "auth_endpoint": auth, "area": "na1"}
    return Answer(status=200, body=json.dumps(body).encode())


def test_the_endpoints_of_a_tenant_are_those_of_the_answer() -> None:
    found = read_endpoints(an_answer("https://api.example", "https://auth.example"), CXONE)

    assert found == Endpoints(
        "https://api.example/inContactAPI/services/v31.0",
        "https://auth.example/auth/token",
        "na1",
    )


@pytest.mark.parametrize(
    ("api", "auth"),
    [
        ("http://api.example", "https://auth.example"),
        ("https://api.example", "http://auth.example"),
        ("https://api.example", "ftp://auth.example"),
        ("https://api.example", "https://user:word@auth.example"),
        ("https://api.example", None),
    ],
)
def test_no_answer_names_a_place_where_others_could_read_a_secret(api: str, auth: object) -> None:
    with pytest.raises(ConfigError, match="names no endpoints of this tenant"):
        read_endpoints(an_answer(api, auth), CXONE)


def test_a_sandbox_without_tls_may_name_itself() -> None:
    found = read_endpoints(
        an_answer("http://127.0.0.1:1", "http://127.0.0.1:1"), "http://127.0.0.1:1"
    )

    assert found.token_url == "http://127.0.0.1:1/auth/token"
