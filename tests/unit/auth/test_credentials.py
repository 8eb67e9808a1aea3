"""A secret that is no token endpoint's: read for each call, never renewed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.intake.readers.calls import read_calls
from workers.auth.credentials import NoCredentials, StaticSecret
from workers.errors import TokenUnavailable
from workers.settings.client import ClientSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    it = tmp_path / "secret"
    it.write_text("canary-one\n")
    return it


def static(file: Path, auth: str = "bearer", **settings: Any) -> StaticSecret:
    about = {"name": "acme", "base_url": "http://127.0.0.1:1", "client_secret_file": file}
    return StaticSecret(ClientSettings(**about, auth=auth, **settings))


def test_a_bearer_token_and_an_api_key_are_headers_of_their_own(file: Path) -> None:
    bearer = static(file).get()
    key = static(file, "api_key", api_key_header="X-Api-Key").get()

    assert bearer.headers == {"Authorization": "Bearer canary-one"}
    assert key.headers == {"X-Api-Key": "canary-one"}
    assert "canary" not in repr(bearer) + repr(key)


def test_without_a_form_a_call_carries_nothing() -> None:
    assert NoCredentials().get() is None


def test_a_rotated_secret_works_with_the_next_call(file: Path) -> None:
    credentials = static(file)
    credentials.get()

    file.write_text("canary-two\n")

    assert credentials.get().headers == {"Authorization": "Bearer canary-two"}


def test_after_a_401_there_is_another_secret_only_when_it_was_changed_meanwhile(file: Path) -> None:
    credentials = static(file)
    token = credentials.get()

    before_the_change = credentials.refused(token)
    file.write_text("canary-two\n")
    after_the_change = credentials.refused(token)
    file.unlink()

    assert (before_the_change, after_the_change) == (False, True)
    assert credentials.refused(token) is False


@pytest.mark.parametrize("held", ["", "canary two", "canary\x00", "canäry", "canary\nX-Evil: 1"])
def test_a_secret_that_cannot_stand_in_a_header_is_told_before_anything_is_admitted(
    file: Path, held: str
) -> None:
    file.write_text(held)

    with pytest.raises(TokenUnavailable) as caught:
        static(file).get()

    assert caught.value.refused
    assert "client_secret_file" in str(caught.value)
    assert held not in str(caught.value) or not held


def test_a_row_cannot_set_the_header_of_the_api_key(file: Path) -> None:
    about = {"name": "acme", "base_url": "http://127.0.0.1:1", "client_secret_file": file}
    client = ClientSettings(**about, auth="api_key", api_key_header="X-Api-Key")
    row = {"id": "a", "method": "GET", "path": "/", "headers": {"x-api-key": "v"}}

    (it,) = read_calls([(1, json.dumps(row))], client)

    assert "x-api-key is set by Headgate" in it["error"]
