"""Refusals: what is recorded of an answer of 429, and what the records suggest."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from orchestration.views.refusals import by_route, format_rate, suggestions, through_per_s
from tests.conftest import free_port
from workers.answer.outcome import Answer
from workers.governor import refusals
from workers.governor.refusals import Refusal, Refusals, rules_of
from workers.settings.client import ClientSettings
from workers.settings.limits import LimitSettings
from workers.store.connection import connect
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from workers.store.connection import Store

APP = LimitSettings(name="app", count=200)
LISTS = LimitSettings(name="lists", count=50, match="POST /lists*")
OWN = LimitSettings(name="own", count=20)
CLIENT = ClientSettings(
    name="acme",
    base_url="http://provider",
    limits=(APP, LISTS),
    tenants={"emea": {"limits": [OWN]}},
)
NOW_US = 1_700_000_000_000_000
REFUSED = Answer(
    status=429,
    headers={
        "retry-after": "7",
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "9",
        "x-request-id": "canary-correlation",
    },
    body=b'{"message": "canary-body"}',
)


@pytest.fixture
def keys() -> ClientKeys:
    return ClientKeys(uuid4().hex, "acme")


# What is recorded


def test_a_refusal_is_recorded_with_what_the_provider_told(store: Store, keys: ClientKeys) -> None:
    here = Refusals(store, keys)
    told = here.note("POST /lists/4711-canary/contacts?q=canary", "emea", REFUSED)
    assert told is not None
    here.record(told, CLIENT, pause_s=7.4)

    (it,) = refusals.read(store, keys, 0)

    assert (it.route, it.tenant) == ("POST /lists/*/contacts", "emea")
    assert (it.retry_after_s, it.limit, it.remaining, it.reset_s) == (7.0, 100, 0, 9.0)
    assert (it.pause_s, it.rules) == (7.4, rules_of(CLIENT.limits))
    assert "canary" not in str(store.xrange(keys.refusals))


def test_the_tokens_of_each_limit_are_recorded_and_what_is_held_has_none(
    store: Store, keys: ClientKeys
) -> None:
    seconds, us = store.time()
    now_us = seconds * 1_000_000 + us
    minute_us = 60_000_000
    gov = {"tick": now_us, "c:app": now_us, "c:emea/own": now_us, "c:lists": now_us + minute_us}
    store.hset(keys.governor, mapping={it: str(value) for it, value in gov.items()})
    here = Refusals(store, keys)
    told = here.note("POST /lists", "emea", REFUSED)
    assert told is not None

    here.record(told, CLIENT, pause_s=60)

    assert refusals.read(store, keys, 0)[0].tokens == {"app": 160, "lists": None, "emea/own": 16}


def test_calls_that_were_not_refused_are_counted_by_route(store: Store, keys: ClientKeys) -> None:
    here = Refusals(store, keys)
    for route, status_, calls in (("POST /a/1", 201, 3), ("GET /b", 404, 2), ("GET /b", None, 9)):
        for _ in range(calls):
            assert here.note(route, "-", Answer(status=status_)) is None
    told = here.note("POST /a/2", "-", REFUSED)
    assert told is not None

    here.record(told, CLIENT, pause_s=1)

    assert refusals.read(store, keys, 0)[0].passed == {"POST /a/*": 3, "GET /b": 2}


def test_any_number_of_routes_takes_a_bounded_record(store: Store, keys: ClientKeys) -> None:
    here = Refusals(store, keys)
    for word in ("".join(chr(ord("a") + int(digit)) for digit in str(n)) for n in range(500)):
        here.note(f"GET /{word}", "-", Answer(status=200))
    told = here.note("GET /one-more", "-", REFUSED)
    assert told is not None

    here.record(told, CLIENT, pause_s=1)

    (it,) = refusals.read(store, keys, 0)
    assert it.route == "GET *"
    assert len(it.passed) <= refusals.MOST_ROUTES + 1
    assert sum(it.passed.values()) == 500


def test_the_record_keeps_the_newest(store: Store, keys: ClientKeys) -> None:
    here = Refusals(store, keys)
    told = here.note("POST /a", "-", REFUSED)
    assert told is not None
    pipe = store.pipeline()
    for _ in range(3 * refusals.KEPT):
        pipe.xadd(keys.refusals, {"refusal": "{}"})
    pipe.execute()

    here.record(told, CLIENT, pause_s=1)

    assert int(store.xlen(keys.refusals)) < 1.2 * refusals.KEPT
    newest = store.xrevrange(keys.refusals, count=1)
    assert json.loads(newest[0][1]["refusal"])["route"] == "POST /a"


def test_only_refusals_since_a_moment_are_read(store: Store, keys: ClientKeys) -> None:
    here = Refusals(store, keys)
    told = here.note("POST /a", "-", REFUSED)
    assert told is not None
    here.record(told, CLIENT, pause_s=1)
    seconds, _ = store.time()

    assert len(refusals.read(store, keys, seconds - 60)) == 1
    assert refusals.read(store, keys, seconds + 60) == []


def test_a_store_that_is_away_is_no_failure_of_the_call(keys: ClientKeys) -> None:
    here = Refusals(connect(f"redis://127.0.0.1:{free_port()}/0"), keys)
    told = here.note("POST /a", "-", REFUSED)
    assert told is not None

    here.record(told, CLIENT, pause_s=1)


def test_what_another_version_recorded_is_left_out(store: Store, keys: ClientKeys) -> None:
    here = Refusals(store, keys)
    told = here.note("POST /a", "-", REFUSED)
    assert told is not None
    here.record(told, CLIENT, pause_s=1)
    (it,) = refusals.read(store, keys, 0)
    kept = dataclasses.asdict(it)
    del kept["workers"]
    for text in ("{}", json.dumps(kept), json.dumps({**kept, "workers": 1, "more": 1}), "[]", "-"):
        store.xadd(keys.refusals, {"refusal": text})
    store.xadd(keys.refusals, {"other": "{}"})

    assert refusals.read(store, keys, 0) == [it]


# What it suggests


def a_refusal(at_s: float, route: str = "POST /a", **changes: Any) -> Refusal:
    return Refusal(
        **{
            "route": route, "tenant": "-", "retry_after_s": 10.0, "limit": None,
            "remaining": None, "reset_s": None, "at_s": at_s, "pause_s": 10.0,
            "tokens": {"app": 20}, "rules": rules_of((APP,)), "process": "p1", "passed": {},
            "workers": 1, **changes,
        }
    )  # fmt: skip


def every_minute(times: int = 4, **passed: int) -> list[Refusal]:
    """One refusal of `POST /a` a minute; so many calls of each route get through in between."""
    return [
        a_refusal(60.0 * n, passed={f"POST /{route}": calls * n for route, calls in passed.items()})
        for n in range(1, times + 1)
    ]


def both_refused() -> list[Refusal]:
    return [
        dataclasses.replace(it, route=f"POST /{route}")
        for it, route in zip(every_minute(a=60, b=40), "abab", strict=True)
    ]


@pytest.mark.parametrize(
    ("seen", "limits", "said"),
    [
        pytest.param(
            every_minute(a=100, b=500),
            (APP,),
            "POST /a is refused at about 100 per minute: add a limit for it",
            id="one route is refused, another is not",
        ),
        pytest.param(
            [
                dataclasses.replace(it, tokens={"app": 9, "lists": 1}, rules=rules_of((APP, LISTS)))
                for it in every_minute(a=100, b=500)
            ],
            (APP, LISTS),
            "POST /a is refused at about 100 per minute: lower the limit lists",
            id="the route has a limit already",
        ),
        pytest.param(
            every_minute(a=100),
            (APP,),
            "POST /a is refused at about 100 per minute: add a limit for it, or lower app if "
            "all calls count together",
            id="no other route is in use",
        ),
        pytest.param(
            every_minute(a=100, b=1),
            (APP,),
            "POST /a is refused at about 100 per minute: add a limit for it, or lower app if "
            "all calls count together",
            id="another route is hardly in use",
        ),
        pytest.param(
            both_refused(),
            (APP,),
            "every route is refused, at about 100 per minute in all: lower the limit app, or "
            "find out who else uses the quota",
            id="all routes in use are refused",
        ),
        pytest.param(
            [dataclasses.replace(it, rules=rules_of(())) for it in both_refused()],
            (),
            "every route is refused, at about 100 per minute in all: add a limit for all "
            "calls, or find out who else uses the quota",
            id="all routes are refused and there is no limit",
        ),
        pytest.param(
            every_minute(a=0, b=500),
            (APP,),
            "POST /a is refused again as soon as its hold ends: the provider asks for too "
            "short a wait, or somebody else takes what comes back",
            id="nothing gets through between the holds",
        ),
        pytest.param(every_minute(times=2, a=100, b=500), (APP,), "", id="two refusals"),
        pytest.param(
            [a_refusal(60 + n, passed={"POST /a": 100 + n, "POST /b": 50 * n}) for n in range(9)],
            (APP,),
            "",
            id="all of them under one hold",
        ),
        pytest.param(
            every_minute(a=100, b=500), (APP, LISTS), "", id="a limit was changed since then"
        ),
        pytest.param([], (APP,), "", id="no refusals"),
    ],
)
def test_what_refusals_suggest(
    seen: list[Refusal], limits: tuple[LimitSettings, ...], said: str
) -> None:
    assert suggestions(seen, limits) == ([said] if said else [])


def test_the_calls_of_one_process_stand_for_as_many_workers_as_there_are() -> None:
    seen = [dataclasses.replace(it, workers=3) for it in every_minute(a=20)]

    assert through_per_s(seen, {"POST /a"}) == pytest.approx(1.0)


def test_processes_that_are_refused_together_are_not_added_up_twice() -> None:
    seen = [
        dataclasses.replace(it, workers=2, process=process, at_s=it.at_s + late_s)
        for it in every_minute(a=30)
        for process, late_s in (("p1", 0.0), ("p2", 0.1), ("p2", 0.2))
    ]

    assert through_per_s(seen, {"POST /a"}) == pytest.approx(1.0)


def test_an_hour_without_work_does_not_count_as_slow() -> None:
    seen = every_minute(times=5, a=60)
    later = [dataclasses.replace(it, at_s=it.at_s + 1800) for it in seen[3:]]

    assert through_per_s(seen[:3] + later, {"POST /a"}) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rate_per_s", "said"),
    [
        (187.3, "190 per second"),
        (10.0, "10 per second"),
        (9.66, "580 per minute"),
        (1.66, "100 per minute"),
        (0.01, "36 per hour"),
        (0.0001, "one per hour"),
    ],
)
def test_a_rate_is_told_in_two_digits(rate_per_s: float, said: str) -> None:
    assert format_rate(rate_per_s) == said


def test_refusals_are_shown_by_route_with_the_newest_of_each() -> None:
    seen = [a_refusal(60), a_refusal(70, "GET /b"), a_refusal(80, tokens={"app": 3}, limit=100)]

    a, b = by_route(seen, now_us=90_000_000)

    assert (a.route, a.count, a.ago_s, a.tokens, a.limit) == ("POST /a", 2, 10, {"app": 3}, 100)
    assert (b.route, b.count, b.ago_s, b.last_us) == ("GET /b", 1, 20, 70_000_000)
