from __future__ import annotations

import dataclasses
import json
import platform
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.views.status import ClientStatus, MediaStatus, status
from tests.support.world import FAILED
from workers.answer.outcome import Answer, Outcome
from workers.answer.quota_headers import Feedback
from workers.answer.verdict import Advance, Pause, Reach, Requeue, Retry
from workers.governor import flows
from workers.governor.failures import Failure
from workers.governor.registry import Registry

if TYPE_CHECKING:
    from tests.support.world import World

THROTTLED = Requeue(
    pause=Pause(3600),
    outcome=Outcome.NOT_EXECUTED,
    status=429,
    throttled=True,
    delay_s=3600,
)
LATER = Retry(outcome=Outcome.UNKNOWN, status=503, attempt=True, delay_s=3600)


@pytest.mark.parametrize("command", ["status", "jobs", "doctor"])
def test_looking_creates_no_key(world: World, command: str) -> None:
    result = world.run(command, "--json")

    assert result.exit_code == 0
    assert list(world.client.store.scan_iter(f"{world.namespace}:*")) == []


def test_every_transaction_is_shown_where_it_is(world: World) -> None:
    world.start_heartbeat(threads=64)
    world.submit(6)
    rung = world.bells(4)
    world.client.governor().settle(world.admit(rung[0]), FAILED)
    world.client.governor().settle(world.admit(rung[1]), LATER)
    world.admit(rung[2])
    still_rung = world.client.store.hget(world.client.keys.governor, "b:client")

    it = status(world.client)

    assert it.dead_letters == it.retries == it.in_flight == 1
    assert it.bells_out == int(str(still_rung)) >= 1
    assert it.waiting == {"urgent": 0, "normal": 3 - it.bells_out, "bulk": 0}
    assert (it.open_jobs, it.open_rows, it.quarantine) == (1, 5, 0)
    assert (it.workers, it.threads) == (1, 64)


def test_a_limit_shows_what_the_governor_makes_of_it_and_its_tokens(world: World) -> None:
    world.configure(limits="count = 1000\nwindow_s = 10\nshape = 'fixed_window'")
    world.submit(1)
    idle = status(world.client).limits[0]
    world.bells(1)
    busy = status(world.client).limits[0]

    assert (idle.count, idle.window_s, idle.shape, idle.burst) == (1000, 10, "fixed_window", 10)
    assert 90 < idle.rate_per_s < 100
    assert idle.tokens is None
    assert busy.tokens is not None
    assert 1 <= busy.tokens <= 10


def test_a_limit_of_calls_at_once_shows_its_free_places(world: World) -> None:
    some = "[[clients.acme.limits]]\nname = 'up'\ncount = 2\nshape = 'concurrent'"
    world.configure(limits=f"count = 1000\n{some}\nmatch = 'POST /things*'")
    world.submit(2)
    world.admit(world.bells(1)[0])

    result = world.run("status")

    assert result.exit_code == 0
    assert "limit up      2 at once, POST /things*  free 1" in result.stdout
    assert status(world.client).limits[1].tokens == 1


def test_a_limit_of_a_tenant_is_shown_with_its_tokens(world: World) -> None:
    world.configure(more="[[clients.acme.tenants.emea.limits]]\nname = 'cap'\ncount = 50")
    step = {"name": "make", "method": "POST", "path": "/things"}
    world.submit(0, more=[{"line": 1, "id": "own", "tenant": "emea", "steps": [step]}])
    world.bells(1)

    app, cap = status(world.client).limits

    assert (app.name, cap.name, cap.count, cap.use) == ("app", "emea/cap", 50, None)
    assert cap.tokens is not None
    assert "limit emea/cap  50 per 1 s" in world.run("status").stdout


def test_use_is_the_calls_of_the_last_ten_seconds_of_limits_that_every_call_is_charged_to(
    world: World,
) -> None:
    some = "[[clients.acme.limits]]\nname = 'some'\ncount = 9\nmatch = 'GET *'"
    world.configure(limits=f"count = 100\n{some}")
    now = int(time.time())
    counts = {f"n:{(now - ago) % 16}": (now - ago) * 100_000 + 45 for ago in range(-2, 14)}
    world.client.store.hset(world.client.keys.governor, mapping=counts)

    app, gets = status(world.client).limits

    assert status(world.client).calls_per_s == 45
    assert app.use == pytest.approx(0.5, abs=0.001)
    assert gets.use is None


def test_a_pause_is_shown_with_its_end(world: World) -> None:
    world.submit(2)
    world.client.governor().settle(world.admit(world.bells(1)[0]), THROTTLED)

    it = status(world.client)

    (hold,) = it.holds
    assert 3590 < hold.left_s <= 3600
    assert hold.scope.startswith("POST /")
    assert hold.why == THROTTLED.error
    assert it.advice is None
    assert f"{hold.scope} is paused until" in world.run("status").stdout
    assert json.loads(world.run("status", "--json").stdout)["clients"][0]["holds"][0]["until"]


def test_a_moment_that_is_not_of_today_has_its_date(world: World) -> None:
    world.submit(2)
    world.bells(1)
    now_us, keys = round(time.time() * 1e6), world.client.keys
    day_us, date = 86_400_000_000, r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    world.client.store.hset(
        world.gov, mapping={"c:client": now_us + 2 * day_us, "k:client": now_us}
    )
    opened = {"cause": "failing", "opened_us": now_us - 2 * day_us}
    world.client.store.hset(keys.breaker("client"), mapping=opened)

    shown = world.run("status").stdout

    assert re.search(f"client is paused until {date}, another 4[78]:", shown)
    assert re.search(f"the provider has been failing since {date}, next", shown)


def test_calls_of_before_the_store_went_back_are_counted_until_they_are_answered(
    world: World,
) -> None:
    world.submit(3)
    world.start_heartbeat()
    grants = [world.admit(bell) for bell in world.bells(3)]
    for grant in grants:  # as in a copy that lags
        world.client.store.hset(world.tx(grant.key), mapping={"s": "r", "f": "older"})
        world.client.store.zadd(world.client.keys.deadlines, {grant.key: time.time_ns() // 1000})
        names = (grant.key, grant.job, grant.step, grant.fence, grant.number)
        world.client.governor()._run("reclaim", *names, 65_000_000)

    shown, doctor = world.run("status").stdout, world.run("doctor").stdout

    waited = r"3 calls are waited for that a worker sent before the store went back, until .*\d\d:"
    assert re.search(waited, shown)
    assert re.search(waited, doctor)
    of_programs = json.loads(world.run("status", "--json").stdout)["clients"][0]["reclaimed"]
    assert (of_programs["calls"], of_programs["until"][-1]) == (3, "Z")
    for grant in grants[:2]:
        world.client.governor().settle(grant, THROTTLED)
    assert "1 call is waited for" in world.run("status", "--json").stdout + str(
        status(world.client).reclaimed and status(world.client).reclaimed.sentence
    )
    world.client.governor().settle(grants[2], THROTTLED)
    assert status(world.client).reclaimed is None


def test_what_is_over_is_not_shown(world: World) -> None:
    world.submit(1)
    world.bells(1)
    long_ago = {"c:client": 1, "w:w1": "64 1"}
    world.client.store.hset(world.gov, mapping=long_ago)

    it = status(world.client)

    assert it.holds == []
    assert (it.workers, it.threads) == (0, 0)
    assert it.limits[0].tokens is not None  # it fills while nobody rings


def test_work_without_a_worker_is_said(world: World) -> None:
    assert status(world.client).advice is None
    world.submit(1)

    assert "no worker is alive" in str(status(world.client).advice)
    assert "no worker is alive" in world.run("status").stdout


BOUND = ClientStatus(
    client="acme",
    limits=[],
    binds=None,
    calls_per_s=50.0,
    holds=[],
    failures=[],
    provider_leaves={},
    refused=[],
    suggestions=[],
    bells_out=1,
    in_flight=8,
    reclaimed=None,
    retries=0,
    quarantine=0,
    waiting={"urgent": 0, "normal": 400, "bulk": 0},
    backlog=[],
    open_jobs=1,
    open_rows=400,
    dead_letters=0,
    workers=2,
    threads=8,
    media=MediaStatus(waiting=0, out=0, workers=0, threads=0),
)


def test_a_worker_that_takes_no_bells_is_none(world: World) -> None:
    process = world.start_heartbeat("w1@here").process
    registry = Registry(world.client.store, world.namespace)
    refusal = "the broker refuses (NoPermissionError: no)"
    world.submit(1)
    assert status(world.client).workers == 1
    assert world.run("worker", "--name", "w1", "--check").exit_code == 1  # that is another host's
    alive = registry.look().live[process.id]
    registry.write(dataclasses.replace(alive, host=platform.node()), registry.look())
    assert world.run("worker", "--name", "w1", "--check").exit_code == 0

    blocked = dataclasses.replace(alive, host=platform.node(), takes_none=refusal)
    registry.write(blocked, registry.look())

    seen = status(world.client)
    assert (seen.workers, seen.threads, seen.hindered) == (0, 0, 1)
    assert seen.problems == [f"worker {blocked.title} takes no bells: {refusal}"]
    assert seen.advice == "no worker can make its calls; see the problem"
    assert "takes no bells: the broker refuses" in world.run("doctor").stdout
    look = world.run("worker", "--name", "w1", "--check")
    assert look.exit_code == 1
    assert look.stderr == f"headgate: worker {blocked.title} takes no bells: {refusal}\n"


def test_a_worker_without_a_name_cannot_be_looked_at(world: World) -> None:
    look = world.run("worker", "--check")

    assert (look.exit_code, look.stderr) == (
        2,
        "headgate: --check needs the --name of the worker\n",
    )


def test_when_threads_bind_the_number_that_would_do_is_named(world: World) -> None:
    full = [dataclasses.replace(it, tokens=it.burst) for it in status(world.client).limits]
    empty = [dataclasses.replace(it, tokens=0) for it in full]

    bound = dataclasses.replace(BOUND, limits=full).advice
    assert bound is not None
    assert "about 159 would make 899" in bound  # 8 threads × 899 / 50, and a tenth
    assert dataclasses.replace(BOUND, limits=empty).advice is None
    assert dataclasses.replace(BOUND, limits=full, in_flight=3).advice is None


def test_a_limit_of_one_endpoint_or_tenant_is_no_measure_of_how_many_threads_would_do(
    world: World,
) -> None:
    day = "[[clients.acme.limits]]\nname = 'day'\ncount = 1000\nwindow_s = 86400\n"
    day += "shape = 'fixed_window'\nmatch = 'POST /exports*'\n"
    cap = "[[clients.acme.tenants.emea.limits]]\nname = 'cap'\ncount = 9\n"
    world.configure(limits=f"count = 1000\n{day}{cap}")
    limits = status(world.client).limits
    full = [dataclasses.replace(it, tokens=it.burst) for it in limits]
    app_in_use = [full[0], *limits[1:]]

    for shown in (full, app_in_use):
        advice = dataclasses.replace(BOUND, limits=shown).advice
        assert advice is not None
        assert "about 159 would make 899" in advice


def test_threads_that_wait_for_processor_time_are_not_told_to_be_more(world: World) -> None:
    full = [dataclasses.replace(it, tokens=it.burst) for it in status(world.client).limits]

    advice = dataclasses.replace(BOUND, limits=full, bells_out=8, in_flight=1).advice

    assert advice is not None
    assert "more cores" in advice


def test_a_route_is_shown_as_held_until_its_retry_after_whatever_other_limits_there_are(
    world: World,
) -> None:
    day = "[[clients.acme.limits]]\nname = 'day'\ncount = 9000\nwindow_s = 86400\n"
    world.configure(limits=f"count = 1000\n{day}shape = 'fixed_window'\nburst = 5")
    world.submit(2)
    world.client.governor().ring("w1", 64)  # all buckets start empty
    world.client.store.hset(world.gov, "c:day", 1)  # and this one is full by now

    world.client.governor().settle(world.admit(world.bells(1)[0]), THROTTLED)

    assert [3590 < it.left_s <= 3600 for it in status(world.client).holds] == [True]


def test_a_pause_of_the_whole_client_is_shown_once(world: World) -> None:
    world.submit(2)
    wide = dataclasses.replace(THROTTLED, pause=Pause(3600, Reach.CLIENT), error="no token")

    world.client.governor().settle(world.admit(world.bells(1)[0]), wide)

    assert [(it.scope, it.why) for it in status(world.client).holds] == [("client", "no token")]


def test_the_limit_of_a_tenant_that_is_in_use_is_no_hold(world: World) -> None:
    world.configure(more="[[clients.acme.tenants.emea.limits]]\nname = 'cap'\ncount = 50")
    step = {"name": "make", "method": "POST", "path": "/things"}
    world.submit(2, more=[{"line": 3, "id": "own", "tenant": "emea", "steps": [step]}])
    for bell in world.bells(3):
        world.admit(bell)

    assert int(str(world.client.store.hget(world.gov, "c:emea/cap"))) > time.time() * 1e6
    assert status(world.client).holds == []


def test_what_the_provider_leaves_is_shown_until_its_reset(world: World) -> None:
    world.submit(2)
    told = Advance(quota=Feedback(None, 70, 30.0), outcome=Outcome.EXECUTED, status=201)

    world.client.governor().settle(world.admit(world.bells(1)[0]), told)

    ((scope, left),) = status(world.client).provider_leaves.items()
    assert left == 70
    assert f"leaves 70 to {scope}" in world.run("status").stdout


def of_tenants(waiting: dict[str, int], lane: int = 1) -> list[dict[str, Any]]:
    """Rows of one step; so many of each tenant."""
    step = {"name": "make", "method": "POST", "path": "/things"}
    tenants = [tenant for tenant, count in waiting.items() for _ in range(count)]
    return [
        {"line": n, "id": f"{lane}-{n}", "tenant": tenant, "lane": lane, "steps": [step]}
        for n, tenant in enumerate(tenants)
    ]


def test_the_lines_are_shown_by_lane_and_tenant_the_longest_first(world: World) -> None:
    rows = of_tenants({"apac": 1, "emea": 3}) + of_tenants({"emea": 2}, lane=0)
    world.submit(2, more=rows)

    it = status(world.client)

    assert [(line.lane, line.tenant, line.waiting) for line in it.backlog] == [
        ("urgent", "emea", 2), ("normal", "emea", 3), ("normal", "-", 2), ("normal", "apac", 1),
    ]  # fmt: skip
    assert it.waiting == {"urgent": 2, "normal": 6, "bulk": 0}
    assert json.loads(world.run("status", "--json").stdout)["clients"][0]["backlog"][0] == {
        "lane": "urgent", "tenant": "emea", "waiting": 2,
    }  # fmt: skip


def test_a_transaction_that_waits_for_its_due_time_is_in_the_line(world: World) -> None:
    world.submit(1)
    world.client.governor().settle(world.admit(world.bells(1)[0]), THROTTLED)

    assert [it.waiting for it in status(world.client).backlog] == [1]


@pytest.mark.parametrize(
    ("waiting", "shown"),
    [
        ({"-": 3}, []),
        ({"emea": 3}, ["normal      emea 3"]),
        ({"-": 3, "emea": 1}, ["normal      no tenant 3  emea 1"]),
        (
            {f"t{n}": n for n in range(1, 13)},
            ["normal      t12 12  t11 11  t10 10  t9 9  t8 8  and 7 more with 28"],
        ),
    ],
)
def test_many_tenants_are_the_longest_few_and_a_sum(
    world: World, waiting: dict[str, int], shown: list[str]
) -> None:
    world.submit(0, more=of_tenants(waiting))

    lines = [it.strip() for it in world.run("status").stdout.splitlines()]

    assert [it for it in lines if it.startswith(("urgent", "normal", "bulk"))] == shown


def test_the_limit_that_what_waits_is_waiting_for_is_named(world: World) -> None:
    slow = "[[clients.acme.limits]]\nname = 'slow'\ncount = 9\nwindow_s = 3600\nmatch = '* /slow'"
    world.configure(limits=f"count = 1000\n{slow}")
    row = {"line": 1, "id": "a", "steps": [{"name": "s", "method": "POST", "path": "/slow"}]}
    world.submit(0, more=[row])
    world.client.governor().ring("w1", 64)
    world.client.store.hset(world.gov, mapping={"c:app": 1})  # full by now; slow began empty

    assert status(world.client).binds == "slow"
    assert "for limit slow" in world.run("status").stdout

    empty = round(time.time() * 1e6) + 3_600_000_000
    world.client.store.hset(world.gov, mapping={"c:app": empty, "c:slow": empty})
    assert status(world.client).binds == "slow"  # of equal ones the slowest

    world.client.store.hset(world.gov, mapping={"c:app": 1, "c:slow": 1})
    assert status(world.client).binds is None


def test_the_reserve_and_what_bells_have_spoken_for_bind_all_but_urgent_work(world: World) -> None:
    world.configure(limits="count = 10\nreserve = 4")  # a burst of 8
    world.submit(1)
    world.client.governor().ring("w1", 64)
    taken = {"c:app": 1, "b:app": 3}
    world.client.store.hset(world.gov, mapping=taken)

    assert status(world.client).binds == "app"

    world.client.store.hset(world.gov, mapping={**taken, "b:app": 0})
    assert status(world.client).binds is None


def test_nothing_binds_when_nothing_waits(world: World) -> None:
    world.submit(1)
    world.bells(1)
    world.client.store.hset(world.gov, "c:app", round(time.time() * 1e6) + 3_600_000_000)

    assert status(world.client).binds is None


def test_an_open_breaker_says_since_when_why_and_when_the_next_probe_goes(world: World) -> None:
    world.submit(2)
    world.bells(1)
    soon, keys = round(time.time() * 1e6) + 30_000_000, world.client.keys
    failing = {
        "cause": "failing",
        "why": "the provider answered 503",
        "opened_us": soon - 60 * 10**6,
    }
    world.client.store.hset(world.gov, "k:client", soon)
    world.client.store.hset(keys.breaker("client"), mapping=failing)

    (failure,) = status(world.client).failures
    assert (failure.scope, failure.cause, failure.probe_us) == ("client", "failing", soon)
    told = world.run("status").stdout
    assert re.search(
        r"breaker +the provider has been failing since \d\d:\d\d:\d\d, next probe in \d+ s"
        r": the provider answered 503\n",
        told,
    )
    shown = json.loads(world.run("status", "--json").stdout)["clients"][0]["failures"][0]
    assert shown["next_probe"].endswith("Z")
    assert shown["since"] < shown["next_probe"]


def test_the_breaker_of_the_client_covers_its_scopes(world: World) -> None:
    world.submit(2)
    world.bells(1)
    now_us, keys = round(time.time() * 1e6), world.client.keys
    scope = next(it for it in flows.spans(world.client.store, keys) if it.startswith("r:"))
    bad = f"3 {now_us - 9_000_000} {now_us // 10**6}-{'a' * 8}"
    for name in (scope, "token:"):
        world.client.store.hset(keys.evidence, name, f"{bad}\nthe provider answered 503")
    world.client.store.hset(world.gov, mapping={"k:client": now_us, f"k:{scope}": now_us})
    world.client.store.hset(keys.breaker("client"), mapping={"cause": "failing", "opened_us": 1})

    told = world.run("status").stdout

    assert [it.scope for it in status(world.client).failures] == ["client"]
    assert "breaker" in told
    assert "failing  " not in told  # such a row is not tried while the client is held


def test_a_scope_that_was_only_answered_badly_for_a_while_is_shown_without_a_breaker(
    world: World,
) -> None:
    world.submit(2)
    world.bells(1)
    now_us, evidence = round(time.time() * 1e6), world.client.keys.evidence
    spans = flows.spans(world.client.store, world.client.keys)
    scope = next(it for it in spans if it.startswith("r:"))
    bad = f"3 {now_us - 9_000_000} {now_us // 10**6}-{'a' * 8}"
    world.client.store.hset(evidence, scope, f"{bad}\nthe provider answered 403")

    (failure,) = status(world.client).failures
    assert (failure.probe_us, failure.why) == (None, "the provider answered 403")
    assert failure.scope == spans[scope][0]
    world.client.store.hset(evidence, scope, f"{bad} {now_us // 10**6}+\nthe provider answered 403")
    assert status(world.client).failures == []


def test_refusals_are_shown_with_the_tokens_that_were_left_and_what_they_suggest(
    world: World,
) -> None:
    here = world.client.refusals
    told = here.note("POST /lists/7", "-", Answer(status=429, headers={"retry-after": "1"}))
    assert told is not None
    for _ in range(3):  # each hold is over at once
        for _ in range(5):
            here.note("POST /lists/7", "-", Answer(status=201))
            here.note("GET /lists", "-", Answer(status=200))
        here.record(told, world.client.settings(), pause_s=0)

    (refused,) = status(world.client).refused
    text = world.run("status").stdout
    as_json = json.loads(world.run("status", "--json").stdout)["clients"][0]

    assert (refused.route, refused.count, refused.retry_after_s) == ("POST /lists/*", 3, 1)
    assert "POST /lists/*  3 in the last hour, the last 0:00 ago" in text
    assert "POST /lists/* is refused at about" in text
    assert as_json["refused"][0]["count"] == 3
    assert as_json["suggestions"][0] in text


@pytest.mark.parametrize(
    ("due_s", "told"),
    [
        (7, "next probe in 7 s"),
        (-1, "next probe now"),
        (-86_400, "the next call will be the probe"),
    ],
)
def test_a_hold_under_which_nothing_waits_says_that_the_next_call_will_be_the_probe(
    due_s: int, told: str
) -> None:
    now_us = 1_790_000_000_000_000
    failure = Failure(
        scope="POST /x",
        cause="failing",
        since_us=now_us - 90_000_000_000,
        why="the provider answered 503",
        seen_us=now_us,
        probe_us=now_us + due_s * 1_000_000,
    )

    assert f", {told}: the provider answered 503" in failure.sentence
