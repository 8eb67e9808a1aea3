"""A governed session against a real provider: what `requests` users expect, and the quota."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from tests.support.fleet import Fleet, until
from workers.errors import CircuitOpen, ConfigError, Throttled, UsageError
from workers.session.session import governed_session
from workers.store.connection import to_us

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.session.session import GovernedSession


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet() as it:
        yield it


@pytest.fixture
def session(fleet: Fleet) -> Iterator[GovernedSession]:
    with governed_session("acme", config=str(fleet.config), wait_s=5) as it:
        yield it


def test_a_call_is_answered_and_carries_token_and_key(
    fleet: Fleet, session: GovernedSession
) -> None:
    answer = session.post("/things/1", json={"business_id": "a"})

    assert answer.status_code == 201
    assert answer.json()["id"]
    assert answer.headers["content-type"].startswith("application/json")
    (seen,) = fleet.effects()
    assert seen["business_id"] == "a"
    assert seen["key"]


def test_a_key_of_the_caller_is_kept(fleet: Fleet, session: GovernedSession) -> None:
    for _ in range(2):
        session.post(
            "/things/1", json={"business_id": "a"}, headers={"Idempotency-Key": "my-key-0001"}
        )

    (seen,) = fleet.effects()
    assert seen["key"] == "my-key-0001"


def test_a_full_url_of_the_provider_is_as_good_and_any_other_host_is_refused(
    fleet: Fleet, session: GovernedSession
) -> None:
    assert session.post(f"{fleet.sandbox.url}/things/1", json={"business_id": "a"}).ok

    with pytest.raises(requests.exceptions.InvalidSchema):
        session.get("http://127.0.0.1:1/things")


def test_a_429_is_waited_for_and_then_told(fleet: Fleet) -> None:
    fleet.sandbox.post("storm", {"seconds": 60, "match": "* *", "retry_after": 60})
    session = governed_session("acme", config=str(fleet.config), wait_s=2)

    with pytest.raises(Throttled) as told:
        session.post("/things/1", json={"business_id": "a"})

    assert told.value.wait_s > 50
    assert fleet.report()["refused_429"] == 1


def test_a_call_under_an_open_breaker_fails_at_once_before_anything_is_done_for_it(
    fleet: Fleet,
) -> None:
    session = governed_session("acme", config=str(fleet.config), wait_s=3600)
    client = session.client
    probe_us = to_us(client.store.time()) + 3600 * 1_000_000
    client.store.hset(client.keys.governor, "k:client", probe_us)

    with pytest.raises(CircuitOpen) as open_:
        session.post("/things/1", json={"business_id": "a"})

    assert open_.value.wait_s > 3500
    assert fleet.requests() == []  # nor was a token asked for


def test_a_revoked_token_is_renewed_and_the_call_succeeds(
    fleet: Fleet, session: GovernedSession
) -> None:
    session.post("/things/1", json={"business_id": "a"})
    fleet.sandbox.post("revoke", {})

    assert session.post("/things/1", json={"business_id": "b"}).status_code == 201


def test_an_answer_that_is_lost_is_never_asked_for_again(
    fleet: Fleet, session: GovernedSession
) -> None:
    fleet.sandbox.post("faults", [{"kind": "drop_after"}])

    with pytest.raises(requests.ConnectionError, match="may have been executed"):
        session.post("/things/1", json={"business_id": "a"})

    assert fleet.report()["requests"] == 1


def test_an_answer_is_the_caller_s_although_the_store_went_away_meanwhile(
    fleet: Fleet, session: GovernedSession
) -> None:
    session.post("/things/1", json={"business_id": "a"})  # it has the token
    fleet.sandbox.post("config", {"latency_ms": 800})
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(session.post, "/things/1", json={"business_id": "b"})
        until(lambda: fleet.sandbox.get("health")["in_flight"] == 1, what="the call")
        fleet.kill_store()

        assert answer.result().status_code == 201


def test_errors_of_the_governor_pass_between_processes() -> None:
    for kind in (Throttled, CircuitOpen):
        error = pickle.loads(pickle.dumps(kind("no token", 2.5)))  # noqa: S301 -- our own

        assert (type(error), str(error), error.wait_s) == (kind, "no token", 2.5)


def test_errors_of_the_provider_are_answers(fleet: Fleet, session: GovernedSession) -> None:
    fleet.sandbox.post("faults", [{"kind": "404"}])

    answer = session.get("/things/1")

    assert answer.status_code == 404
    with pytest.raises(requests.HTTPError):
        answer.raise_for_status()


def test_who_does_not_exist_is_told_before_anything_is_sent(fleet: Fleet) -> None:
    with pytest.raises(ConfigError, match="nobody"):
        governed_session("nobody", config=str(fleet.config))
    with pytest.raises(UsageError, match="emea"):
        governed_session("acme", tenant="emea", config=str(fleet.config))
    with pytest.raises(UsageError, match="lane"):
        governed_session("acme", lane="fast", config=str(fleet.config))
