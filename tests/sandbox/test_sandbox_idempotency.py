"""One test for each state of a key, under a moved clock."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
import requests

from orchestration.sandbox import SandboxProcess
from orchestration.sandbox.idempotency import KeyState, KeyStore

if TYPE_CHECKING:
    from collections.abc import Callable

DAY_US = 86_400_000_000
SCOPE = ("demo", "POST", "/orders", "k-1")


def test_a_key_is_in_progress_until_its_answer_is_remembered_then_replays_it() -> None:
    keys = KeyStore()

    states = [keys.claim(SCOPE, b"body", 0, DAY_US)[0] for _ in range(2)]
    keys.remember(SCOPE, 201, b"answer" * 1000)

    assert states == [KeyState.NEW, KeyState.IN_PROGRESS]
    assert keys.claim(SCOPE, b"body", 1, DAY_US) == (KeyState.REPLAY, 201, b"answer" * 1000)


def test_a_key_refuses_another_body_whether_answered_or_not() -> None:
    keys = KeyStore()
    keys.claim(SCOPE, b"body", 0, DAY_US)

    before, *_ = keys.claim(SCOPE, b"other", 0, DAY_US)
    keys.remember(SCOPE, 201, b"")
    after, *_ = keys.claim(SCOPE, b"other", 0, DAY_US)

    assert (before, after) == (KeyState.REUSED, KeyState.REUSED)


def test_a_key_is_forgotten_exactly_when_its_life_is_over() -> None:
    keys = KeyStore()
    keys.claim(SCOPE, b"body", 0, DAY_US)
    keys.remember(SCOPE, 201, b"")

    assert keys.claim(SCOPE, b"body", DAY_US - 1, DAY_US)[0] is KeyState.REPLAY
    assert keys.claim(SCOPE, b"body", DAY_US, DAY_US)[0] is KeyState.NEW


def test_a_released_key_is_new_again() -> None:
    keys = KeyStore()
    keys.claim(SCOPE, b"body", 0, DAY_US)

    keys.release(SCOPE)

    assert keys.claim(SCOPE, b"other", 0, DAY_US)[0] is KeyState.NEW


def post(http: requests.Session, url: str, key: str = "k-1", amount: int = 1) -> requests.Response:
    body = {"business_id": "order-1", "amount": amount}
    return http.post(url, json=body, headers={"Idempotency-Key": key}, timeout=10)


def test_a_repeat_under_its_key_gets_the_first_answer_and_has_no_effect(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    first, repeated = (post(http, f"{sandbox.url}/orders") for _ in range(2))

    report = sandbox.get("report")
    assert (repeated.status_code, repeated.content) == (first.status_code, first.content)
    assert repeated.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert (report["effects"], report["replays"], report["duplicates"]) == (1, 1, 0)


def test_the_same_key_with_another_body_is_refused(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    post(http, f"{sandbox.url}/orders")

    other = post(http, f"{sandbox.url}/orders", amount=2)

    assert (other.status_code, other.json()["code"]) == (422, "idempotency.key.reused")


def test_a_day_later_the_same_key_has_a_second_effect(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"auth": False})
    post(http, f"{sandbox.url}/orders")

    sandbox.post("clock", {"advance_s": 86_399})
    before = post(http, f"{sandbox.url}/orders")
    sandbox.post("clock", {"advance_s": 1})
    after = post(http, f"{sandbox.url}/orders")

    assert "Idempotency-Replayed" in before.headers
    assert "Idempotency-Replayed" not in after.headers
    assert sandbox.get("report")["duplicates"] == 1


@pytest.mark.parametrize(("mode", "replays"), [("method_path_key", 0), ("key", 1), ("off", 0)])
def test_the_mode_decides_whether_a_key_is_shared_by_paths(
    sandbox: SandboxProcess, http: requests.Session, mode: str, replays: int
) -> None:
    sandbox.post("config", {"idempotency": mode})

    for path in ("/orders", "/orders/1/lines"):
        post(http, sandbox.url + path)

    assert sandbox.get("report")["replays"] == replays


def test_keys_are_honoured_only_where_they_are_said_to_be(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"idempotency_match": "POST /orders*"})

    for path in ("/orders", "/orders", "/dials", "/dials"):
        post(http, sandbox.url + path)

    report = sandbox.get("report")
    assert report["replays"] == 1
    assert report["duplicate_list"] == [["POST", "/dials", "order-1", 2]]


def test_without_key_support_every_repeat_is_a_duplicate(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.post("config", {"idempotency": "off"})

    for _ in range(3):
        post(http, f"{sandbox.url}/orders")

    report = sandbox.get("report")
    assert report["duplicates"] == 2
    assert report["duplicate_list"] == [["POST", "/orders", "order-1", 3]]


def test_a_call_whose_first_is_still_running_is_told_so(
    wait_until: Callable[[Callable[[], object]], None],
) -> None:
    with SandboxProcess({"auth": False, "latency_ms": 60_000}) as slow, requests.Session() as http:
        url = f"{slow.url}/orders"
        first = threading.Thread(target=_post_and_give_up, args=(url,), daemon=True)
        first.start()
        wait_until(lambda: slow.get("health")["in_flight"])
        slow.post("config", {"latency_ms": 0})

        second = post(http, url)

        assert (second.status_code, second.json()["code"]) == (409, "request.in.progress")
        assert slow.get("report")["effects"] == 0


def _post_and_give_up(url: str) -> None:
    with contextlib.suppress(requests.RequestException):  # the sandbox ends first
        post(requests.Session(), url)


@pytest.mark.parametrize("kind", ["5xx_before", "5xx_after"])
@pytest.mark.parametrize("store_5xx", [False, True])
def test_a_5xx_is_replayed_only_by_a_provider_that_remembers_them(
    sandbox: SandboxProcess, http: requests.Session, kind: str, *, store_5xx: bool
) -> None:
    sandbox.post("config", {"store_5xx": store_5xx})
    sandbox.post("faults", [{"kind": kind, "times": 1}])

    failed, repeated = (post(http, f"{sandbox.url}/orders") for _ in range(2))

    assert failed.status_code >= 500
    assert repeated.status_code == (failed.status_code if store_5xx else 201)
    assert sandbox.get("report")["effects"] == (0 if kind == "5xx_before" and store_5xx else 1)


def test_a_stored_5xx_hides_the_effect_that_was_had_unless_the_key_was_answered_before(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    post(http, f"{sandbox.url}/orders")
    sandbox.post("faults", [{"kind": "5xx_stored"}])

    before = post(http, f"{sandbox.url}/orders")
    hidden = post(http, f"{sandbox.url}/others")
    sandbox.post("faults", [])
    repeated = post(http, f"{sandbox.url}/others")

    assert (before.status_code, hidden.status_code, repeated.status_code) == (201, 500, 500)
    assert repeated.content == hidden.content
    assert sandbox.get("report")["effects"] == 2


@pytest.mark.parametrize(("store_5xx", "status"), [(False, 503), (True, 201)])
def test_a_remembered_answer_comes_before_a_5xx_where_5xx_are_remembered_too(
    sandbox: SandboxProcess, http: requests.Session, status: int, *, store_5xx: bool
) -> None:
    sandbox.post("config", {"store_5xx": store_5xx})
    post(http, f"{sandbox.url}/orders")

    sandbox.post("faults", [{"kind": "5xx_before"}])

    assert post(http, f"{sandbox.url}/orders").status_code == status


def test_a_refused_call_leaves_its_key_free_for_the_corrected_one(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    url = f"{sandbox.url}/api/v2/outbound/contactlists/l/contacts"
    bodies = ({"not": "a list"}, [{"contactListId": "l", "data": {}}])

    statuses = [
        http.post(url, json=body, headers={"Idempotency-Key": "k"}, timeout=10).status_code
        for body in bodies
    ]

    assert statuses == [400, 200]
