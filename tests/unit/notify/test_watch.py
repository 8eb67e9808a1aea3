"""Which events become a notice: each once for the whole fleet, also across a restart."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import redis

from orchestration.dispatch import presence
from orchestration.dispatch.presence import report_failing
from orchestration.dispatch.restarts import Restarts
from orchestration.notify import jobs, outbox
from orchestration.operate.limits import pause, resume
from tests.support.notices import MINUTE_US
from tests.support.stored import a_job
from tests.support.world import WHY, die, one_dead
from workers.answer.outcome import Outcome
from workers.answer.verdict import Pause, Requeue
from workers.settings.load import load

if TYPE_CHECKING:
    from tests.support.notices import Looks
    from tests.support.world import World

#: The provider orders to wait for an hour.
ORDERED = Requeue(
    pause=Pause(3600),
    outcome=Outcome.NOT_EXECUTED,
    status=429,
    error="429 canary-of-the-provider",
    throttled=True,
    delay_s=3600,
)
ROUTE = "POST /things/mustermann"
#: And as third parties may know it.
SHOWN = "POST *"


def open_breaker(world: World, scope: str, cause: str, now_us: int) -> None:
    """The breaker of a scope is open since that moment."""
    client = world.client
    client.store.hset(world.gov, f"k:{scope}", now_us + 2_000_000)
    client.store.hset(
        client.keys.breaker(scope),
        mapping={"cause": cause, "why": "canary-of-the-provider", "opened_us": now_us},
    )


def close_breaker(world: World, scope: str) -> None:
    world.client.store.hdel(world.gov, f"k:{scope}")
    world.client.store.delete(world.client.keys.breaker(scope))


# Jobs


def test_the_end_of_a_job_is_told_once_whoever_looks_and_however_often(
    world: World, looks: Looks
) -> None:
    world.submit(3)
    assert looks.events() == []

    world.work()
    (document,) = looks.documents()

    assert document["type"] == "job.ended"
    assert document["text"] == "job j1 of client acme has ended: 3 succeeded, of 3 rows"
    data = document["data"]
    assert (data["client"], data["job"], data["kind"]) == ("acme", "j1", "calls")
    assert (data["rows"], data["succeeded"], data["failed"]) == (3, 3, 0)
    assert data["ended"] == document["timestamp"]
    assert looks.events() == looks.events(60 * MINUTE_US) == []
    watched = looks.outbox.read().watched
    assert [name for name in watched if "j1" in name.subject] == []  # each look asks for these


def test_a_job_that_begins_and_ends_between_two_looks_is_told(world: World, looks: Looks) -> None:
    looks.look()
    world.submit(1)
    world.work()

    assert looks.events() == ["job.ended"]


def test_what_ended_before_anybody_looked_is_no_news_and_what_runs_is_watched(
    world: World, looks: Looks
) -> None:
    world.submit(1, "old")
    world.work()
    world.submit(1, "new")

    assert looks.events() == []
    world.work()
    assert [notice.data["job"] for notice in looks.deliver()] == ["new"]


def test_a_job_that_a_replay_opened_again_ends_again(world: World, looks: Looks) -> None:
    key = one_dead(world)
    looks.look()  # the job had ended before
    assert looks.events() == ["dead_letter.appeared"]

    assert world.run("dead", "replay", key, *WHY).exit_code == 0
    world.work()

    assert looks.events() == ["job.ended"]


def test_a_replay_writes_nothing_where_nobody_is_told(world: World) -> None:
    key = one_dead(world)
    assert world.run("dead", "replay", key, *WHY).exit_code == 0

    assert list(world.client.store.scan_iter(f"{world.namespace}:notices*")) == []


def test_transactions_of_code_and_contacts_of_campaigns_are_no_jobs_to_tell_of(
    world: World, looks: Looks
) -> None:
    looks.look()
    world.submit(1, "t-0123456789abcd")
    world.client.ledger.begin(a_job("l-load", parent=("c-1", "row-7")))
    world.client.ledger.start("l-load")  # it has no rows, and ends
    world.work()

    assert looks.events() == []


def test_of_any_number_of_jobs_a_page_is_read_at_a_time_and_none_is_overlooked(
    world: World, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PAGE", 3)
    store, key = world.client.store, world.client.keys.jobs
    read, parse = list[int](), redis.Redis.parse_response

    def noted(self: redis.Redis, connection: Any, command: str, **options: Any) -> Any:
        reply = parse(self, connection, command, **options)
        if command == "ZRANGEBYSCORE":
            read.append(len(reply))
        return reply

    monkeypatch.setattr(redis.Redis, "parse_response", noted)
    world.submit(1, "old")
    world.work()
    world.submit(1, "open")
    newest_us = int(store.zscore(key, "open") or 0)  # type: ignore[arg-type]
    store.zadd(key, {f"t-{number:014x}": newest_us - 20 + number // 2 for number in range(50)})

    assert looks.events() == []
    world.submit(1, "new")
    world.work()

    assert sorted(notice.data["job"] for notice in looks.deliver()) == ["new", "open"]
    assert looks.events() == []
    assert len(read) > 25
    assert max(read) <= 3


def test_jobs_that_ended_while_nobody_looked_are_told_as_there_is_room(
    world: World, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PAGE", 1)
    monkeypatch.setattr(outbox, "MOST_WAITING", 2)
    world.submit(1, "open")
    looks.look()
    for number in range(4):
        world.submit(1, f"new-{number}")
    world.work()

    told = [[notice.data["job"] for notice in looks.deliver()] for _ in range(4)]

    assert max(map(len, told)) <= 3
    assert sorted(job for some in told for job in some) == [*(f"new-{n}" for n in range(4)), "open"]


# Holds


@pytest.mark.parametrize("why", ["ordered", "operator", "breaker"])
def test_a_hold_is_told_when_it_has_lasted_for_ten_minutes_and_once(
    world: World, looks: Looks, why: str
) -> None:
    world.submit(2)
    grant = world.admit(world.bells(1)[0])
    if why == "ordered":
        world.client.governor().settle(grant, ORDERED)
    elif why == "operator":
        pause(world.client, by="maria", reason="canary-of-the-operator")
    else:
        open_breaker(world, "client", "throttled", looks.now_us)

    assert looks.events() == looks.events(9 * MINUTE_US) == []
    (notice,) = looks.deliver(MINUTE_US)

    assert notice.event == "hold.lasts"
    scope = SHOWN if why == "ordered" else "client"
    assert notice.data["scope"] == scope
    assert notice.data["cause"] == ("throttled" if why == "breaker" else "pause")
    assert (notice.data["until"] is None) == (why != "ordered")
    assert looks.events() == looks.events(5 * MINUTE_US) == []


def test_a_hold_that_ended_and_came_back_has_its_own_ten_minutes(
    world: World, looks: Looks
) -> None:
    pause(world.client, by="maria", reason="maintenance")
    looks.look()
    looks.look(9 * MINUTE_US)
    resume(world.client, by="maria", reason="it is over")
    looks.look()
    pause(world.client, by="maria", reason="maintenance")

    assert looks.events() == looks.events(9 * MINUTE_US) == []
    assert looks.events(MINUTE_US) == ["hold.lasts"]


@pytest.mark.parametrize("scopes", [(ROUTE, "client"), ("client", ROUTE)])
def test_a_hold_that_widens_or_narrows_lasts_on_and_is_told_after_ten_minutes_in_all(
    world: World, looks: Looks, scopes: tuple[str, str]
) -> None:
    open_breaker(world, scopes[0], "throttled", looks.now_us)
    assert looks.events() == looks.events(8 * MINUTE_US) == []
    close_breaker(world, scopes[0])
    open_breaker(world, scopes[1], "throttled", looks.now_us)

    assert looks.events() == []
    assert looks.events(2 * MINUTE_US) == ["hold.lasts"]
    assert looks.events(9 * MINUTE_US) == []


def test_a_clock_that_was_set_back_makes_no_hold_last_longer(world: World, looks: Looks) -> None:
    pause(world.client, by="maria", reason="maintenance")
    looks.look(60 * MINUTE_US)

    assert looks.events(-60 * MINUTE_US) == []
    assert looks.events(10 * MINUTE_US) == ["hold.lasts"]


# Outages


def test_an_outage_is_told_when_it_begins_and_when_it_ends(world: World, looks: Looks) -> None:
    open_breaker(world, ROUTE, "failing", looks.now_us)
    (began,) = looks.documents()
    assert looks.events() == looks.events(MINUTE_US) == []

    close_breaker(world, ROUTE)
    (ended,) = looks.documents()

    assert (began["type"], ended["type"]) == ("outage.began", "outage.ended")
    assert began["data"]["since"] == ended["data"]["since"] == began["timestamp"]
    assert began["text"].startswith(f"client acme: calls of {SHOWN} have been failing since ")
    assert ended["text"].startswith(f"client acme: calls of {SHOWN} may leave again, ")
    assert looks.events() == []


def test_an_outage_that_widens_to_its_client_has_one_end(world: World, looks: Looks) -> None:
    open_breaker(world, ROUTE, "failing", looks.now_us)
    assert looks.events() == ["outage.began"]
    close_breaker(world, ROUTE)
    open_breaker(world, "client", "failing", looks.now_us)

    assert [notice.data["scope"] for notice in looks.deliver()] == ["client"]
    close_breaker(world, "client")
    assert looks.events() == ["outage.ended"]


# Dead letters and workers


def test_a_dead_letter_is_told_after_none_and_not_each(world: World, looks: Looks) -> None:
    die(world, 1, job="j1")
    (notice,) = looks.deliver()
    assert (notice.event, notice.data["dead_letters"]) == ("dead_letter.appeared", 1)

    die(world, 2, job="j2")
    assert looks.events() == ["job.ended"]
    world.client.store.xtrim(world.client.keys.dead, 0)
    assert looks.events() == []
    die(world, 1, job="j3")
    assert sorted(looks.events()) == ["dead_letter.appeared", "job.ended"]


def test_a_worker_that_cannot_make_calls_is_told_after_a_while(world: World, looks: Looks) -> None:
    presence = world.start_heartbeat("w1@here")
    world.clients.obstacles["acme"].note("client acme: canary-of-the-path cannot be read")
    presence.keep(now=True)

    assert looks.events() == looks.events(20_000_000) == []
    (notice,) = looks.deliver(10_000_000)

    assert notice.event == "worker.hindered"
    assert notice.data["worker"].startswith("w1@here (process ")
    assert notice.data["clients"] == ["acme"]
    assert looks.events() == []


def test_a_worker_that_takes_no_bells_is_told_after_a_while(
    world: World, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = SimpleNamespace(why="the broker refuses: canary-of-the-broker", is_refused=True)
    monkeypatch.setattr(presence, "reception", refused)
    world.start_heartbeat("w1@here").keep(now=True)

    assert looks.events() == []
    (notice,) = looks.deliver(30_000_000)

    assert notice.text.startswith("worker w1@here (process ")
    assert " has taken no bells since " in notice.text
    assert "canary" not in notice.document
    assert notice.data["clients"] == []


@pytest.mark.parametrize("ends", ["at once", "after some seconds"])
def test_a_worker_that_ends_soon_after_each_start_is_told_once(
    world: World, looks: Looks, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    why = "its process 12 ended with exit code 1 (canary), soon after each start"
    ours = Restarts()
    monkeypatch.setattr(presence, "restarts", ours)
    told = []
    for _ in range(7):
        ours.note("ended with exit code 1 (canary)")
        report_failing(world.clients.settings, "w1", "calls", why)
        told += looks.deliver(10_000_000)
        if ends != "at once":
            world.start_heartbeat("w1").keep(now=True)
            told += looks.deliver(3_000_000)

    (notice,) = told
    assert notice.event == "worker.hindered"
    assert notice.text.startswith("worker w1@")
    assert "canary" not in notice.document
    assert notice.data["clients"] == []


# What no document holds, and what stops no look


def test_no_document_has_a_word_of_a_row_a_provider_or_an_operator(
    world: World, looks: Looks
) -> None:
    looks.look()
    die(world, 1, job="j2")
    world.submit(2)
    world.client.governor().settle(world.admit(world.bells(1)[0]), ORDERED)
    pause(world.client, by="maria", reason="canary-of-the-operator")
    open_breaker(world, ROUTE, "failing", looks.now_us)
    looks.look()
    looks.look(11 * MINUTE_US)
    close_breaker(world, ROUTE)
    looks.look()

    shown = json.dumps(looks.documents())

    assert len(json.loads(shown)) >= 4
    keys = world.client.store.scan_iter(f"{world.client.keys.transactions}*")
    words = ["canary", "maria", "mustermann", "things", "j1-0", "j2-0", "made-"]
    for secret in [*words, *(key[-36:] for key in keys)]:
        assert secret not in shown


def test_a_damaged_key_of_one_client_hides_no_event_of_another(world: World, looks: Looks) -> None:
    text = world.config.read_text()
    world.config.write_text(
        text + text[text.index("[clients.acme]") :].replace("acme]", "b]").replace("acme.", "b.")
    )
    looks.look()
    die(world, 1)
    for key in ("gov", "jobs", "dead"):
        world.client.store.set(f"{world.namespace}:{{b}}:{key}", "no such type")

    assert set(load(world.config).clients) == {"acme", "b"}
    assert sorted(looks.events()) == ["dead_letter.appeared", "job.ended"]
