"""What the dispatcher does with jobs that it cannot open or ring: it strands none of them."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from orchestration.dispatch import breaker_log, delays, page_opener, pages
from orchestration.dispatch.dispatcher import Dispatcher
from orchestration.dispatch.looks import find_due
from orchestration.dispatch.page_opener import MOST_AT_ONCE, PageOpener
from orchestration.dispatch.wakes import Wakes
from tests.support.fleet import Fleet, calls, until
from tests.support.stored import a_job
from workers.broker import names, transport
from workers.governor import flows
from workers.ledger.ledger import PageCounts
from workers.ledger.transaction import TransactionState
from workers.store.connection import store_now_us

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where the rows of a page are kept.
PAGE = 0


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A store and a client, and no worker."""
    with Fleet() as it:
        yield it


def app_of(fleet: Fleet) -> Celery:
    """An application on the broker of the fleet."""
    transport.install()
    app = Celery("bells", broker=f"redis://127.0.0.1:{fleet.broker_port}/1", set_as_current=False)
    app.conf.update(
        names.name_settings("headgate"),
        broker_transport_options=transport.transport_options() | names.key_options("headgate"),
    )
    return app


@pytest.fixture
def turns(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Take turns as the dispatcher of a worker of 4 threads; warnings are repeated at once."""
    for module, name in ((page_opener, "REST_S"), (delays, "REPEAT_S"), (breaker_log, "LOOK_S")):
        monkeypatch.setattr(module, name, 0.0)
    app = app_of(fleet)
    it = Dispatcher(app, fleet.clients, "w1", threads=4)

    def take(count: int = 1) -> list[float | None]:
        turns = []
        for _ in range(count):
            turns.append(it.take_turn("acme")[1])
            it.page_opener.open_asked(0)
        return turns

    return take


def test_a_page_that_cannot_be_read_strands_neither_its_job_nor_another_one(
    fleet: Fleet, turns: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.submit(calls(10), job="damaged")
    fleet.submit(calls(10), job="sound")
    store, name = fleet.client.store, fleet.client.keys.page("damaged", PAGE)
    page = store.execute_command("GET", name, NEVER_DECODE=True)
    store.set(name, b"no page")

    turns(20)

    assert (fleet.job("damaged").next_page, fleet.job("sound").next_page) == (0, 1)
    assert "job damaged: its next page cannot be opened" in caplog.text
    store.set(name, page)
    until(lambda: turns() and fleet.job("damaged").next_page == 1)


def test_bells_of_a_kind_that_only_a_newer_release_knows_go_back_to_their_backlog(
    fleet: Fleet, turns: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.submit(calls(10), job="new")
    until(lambda: turns() and fleet.job("new").next_page == 1)
    fleet.client.store.hset(fleet.client.keys.job("new"), "kind", "holograms")
    fleet.client.ledger._params.clear()

    until(lambda: turns() and "is of kind 'holograms', which this worker lacks" in caplog.text)

    states = {it.state for it in fleet.transactions("new").values()}
    assert states == {TransactionState.WAITING}


def test_rows_that_this_release_cannot_do_go_back_for_growing_times_and_others_are_rung(
    fleet: Fleet, turns: Any
) -> None:
    fleet.submit(calls(10, prefix="n"), job="new")
    until(lambda: turns() and fleet.job("new").next_page == 1)
    store, keys = fleet.client.store, fleet.client.keys
    store.hset(keys.job("new"), "kind", "holograms")
    fleet.client.ledger._params.clear()
    fleet.submit(calls(5, prefix="g"), job="good")

    until(lambda: turns() and is_rung(fleet, "good", 5), 60, "the good rows")

    # Each came back once, and none is due before its time.
    (flow,) = store.smembers(keys.active)
    due: Any = store.zrange(keys.backlog(flow) + ":due", 0, -1, withscores=True)
    assert len(due) == 10
    assert all(at_us > store_now_us(store) for _, at_us in due)


def is_rung(fleet: Fleet, job: str, rows: int) -> bool:
    """Whether so many rows of the job are rung."""
    states = [it.state for it in fleet.transactions(job).values()]
    return states.count(TransactionState.RUNG) == rows


def test_the_rows_of_a_job_that_cannot_be_read_go_back_and_others_are_rung(
    fleet: Fleet, turns: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.submit(calls(10, prefix="d"), job="damaged")
    until(lambda: turns() and fleet.job("damaged").next_page == 1)
    fleet.client.store.hset(fleet.client.keys.job("damaged"), "job_params", "garbage")
    fleet.client.ledger._params.clear()
    fleet.submit(calls(5, prefix="g"), job="good")

    until(lambda: turns() and is_rung(fleet, "good", 5), 60, "the good rows")

    assert "job damaged cannot be read" in caplog.text
    assert "was not rung" not in caplog.text


@pytest.mark.parametrize("state", ["waiting", "rung"])
def test_a_row_whose_job_is_not_there_stands_aside_and_others_go_on(
    fleet: Fleet, state: str
) -> None:
    fleet.submit(calls(10))
    governor = fleet.client.governor()
    while pages.open_next_page(fleet.client, "job") is not None:
        pass
    keys = fleet.keys()
    if state == "rung":
        until(lambda: governor.ring("gone", 100).bells, what="bells that nobody publishes")
        governor.step_down("gone", "calls")
    lost = next(
        key
        for key in keys.values()
        if (state == "rung") == (fleet.client.ledger.transactions([key])[0].state == "r")  # type: ignore[union-attr]
    )
    store = fleet.client.store
    store.hset(fleet.client.keys.transaction(lost), "j", "no{such}job")

    fleet.start_worker("w1")

    until(lambda: f"tx:{lost}" in store.hgetall(fleet.client.keys.damaged), what="the lost one")
    until(lambda: fleet.ended() == 9, what="the others", fleet=fleet)
    assert len(fleet.effects()) == 9


def test_rows_whose_page_cannot_be_read_end_and_leave_the_quota_to_others(fleet: Fleet) -> None:
    fleet.submit(calls(30, prefix="d"), job="damaged")
    fleet.client.governor()
    while pages.open_next_page(fleet.client, "damaged") is not None:
        pass
    store, name = fleet.client.store, fleet.client.keys.page("damaged", PAGE)
    store.delete(name)
    store.lpush(name, "no page")
    fleet.submit(calls(100, prefix="g"), job="good")
    fleet.start_worker("w1")

    assert fleet.wait("good") == {"succeeded": 100}

    assert fleet.wait("damaged") == {"failed": 30}
    (letter, *_) = [one for one in fleet.transactions("damaged").values() if one.error]
    assert "cannot be read" in letter.error
    damaged: Any = store.hgetall(fleet.client.keys.damaged)
    assert "job:damaged:page:0" in damaged
    assert len(fleet.effects()) == 100


@pytest.mark.parametrize("damage", ["garbage", "of another time", "gone"])
def test_a_flow_that_cannot_be_read_is_defined_anew_out_of_its_rows(
    fleet: Fleet, damage: str
) -> None:
    fleet.submit(calls(5, prefix="c"), job="own")
    fleet.client.governor()
    while pages.open_next_page(fleet.client, "own") is not None:
        pass
    store, name = fleet.client.store, fleet.client.keys.flows
    ((flow, definition),) = store.hgetall(name).items()  # type: ignore[union-attr]
    hot = definition.partition("\n")[0]
    text = {"garbage": "garbage", "of another time": f"{hot}\ngarbage"}.get(damage)
    store.hset(name, flow, text) if text else store.hdel(name, flow)
    store.hset(name, "1:-:deadbeef", "garbage")  # nothing waits in it, so nobody misses it
    fleet.start_worker("w1")

    assert fleet.wait("own") == {"succeeded": 5}

    assert store.hget(name, flow) == definition
    assert "was not rung" not in fleet.log("w1")


def test_a_job_of_another_schema_strands_no_other_one(
    fleet: Fleet, turns: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.submit(calls(10), job="newer")
    fleet.submit(calls(10), job="sound")
    fleet.client.store.hset(fleet.client.keys.job("newer"), "schema", 2)
    fleet.client.ledger._params.clear()

    turns(20)

    assert fleet.job("sound").next_page == 1
    assert "job newer is stored in schema 2, and this release reads 1" in caplog.text
    assert "is not rung" not in caplog.text


def test_a_job_with_a_key_of_a_wrong_type_strands_no_other_one(
    fleet: Fleet, turns: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.submit(calls(10, prefix="d"), job="damaged")
    fleet.submit(calls(10, prefix="s"), job="sound")
    row = fleet.client.ledger.rows("damaged")[0]
    key = fleet.client.key("damaged", row["id"])
    fleet.client.store.set(fleet.client.keys.transaction(key), "no hash")

    turns(20)

    # What stood in the way is put aside, for a person to look at.
    assert (fleet.job("damaged").next_page, fleet.job("sound").next_page) == (1, 1)
    assert fleet.client.store.hlen(fleet.client.keys.damaged) == 1
    assert fleet.transactions("damaged")[row["id"]].state in {"w", "r"}  # rung, if it came to that
    assert "is not rung" not in caplog.text


def test_bells_of_a_job_of_another_schema_go_back_to_their_backlog(
    fleet: Fleet, turns: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.submit(calls(10), job="newer")
    until(lambda: turns() and fleet.job("newer").next_page == 1)
    fleet.client.store.hset(fleet.client.keys.job("newer"), "schema", 2)
    fleet.client.ledger._params.clear()

    until(lambda: turns() and "job newer is stored in schema 2" in caplog.text)

    fleet.client.store.hset(fleet.client.keys.job("newer"), "schema", 1)
    states = {it.state for it in fleet.transactions("newer").values()}
    assert states == {TransactionState.WAITING}


def test_a_store_above_four_fifths_of_its_memory_opens_nothing_and_the_work_under_way_ends(
    fleet: Fleet, turns: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.submit(calls(10), job="first")
    turns(2)
    store = fleet.client.store
    store.config_set("maxmemory", int(store.info("memory")["used_memory"] * 1.1))
    fleet.submit(calls(10), job="second")

    turns(20)

    assert (fleet.job("first").next_page, fleet.job("second").next_page) == (1, 0)
    assert "above 80% of its memory: job second waits" in caplog.text
    store.config_set("maxmemory", 0)
    until(lambda: turns() and fleet.job("second").next_page == 1)


def test_work_of_which_nobody_noted_that_a_ring_is_needed_is_found_by_a_worker_that_starts(
    fleet: Fleet,
) -> None:
    fleet.submit(calls(3))
    fleet.client.governor()
    while pages.open_next_page(fleet.client, "job") is not None:
        pass
    fleet.client.store.hdel(fleet.client.keys.governor, "next")  # as an earlier release leaves it

    fleet.start_worker("w1")

    assert fleet.wait() == {"succeeded": 3}


def test_a_page_that_is_asked_for_again_before_it_was_opened_is_opened_once(fleet: Fleet) -> None:
    fleet.submit(calls(60), page=30)
    fleet.client.governor()
    opener = PageOpener(fleet.clients)
    for _ in range(3):
        opener.ask("acme", "job")

    for _ in range(3):
        opener.open_asked(0)

    assert fleet.job().next_page == 1
    opener.ask("acme", "job")
    opener.open_asked(0)
    assert fleet.job().next_page == 2


def test_who_opens_a_page_wakes_the_dispatchers(fleet: Fleet, turns: Any) -> None:
    turns(2)
    wakes = Wakes(fleet.client.store, fleet.client.keys.namespace)
    assert wakes.wait(5) is None  # it has just subscribed
    fleet.submit(calls(1))
    assert wakes.wait(5) == {"acme"}  # a page is to be opened
    assert wakes.wait(0) == set()

    turns()

    assert wakes.wait(5) == {"acme"}
    assert find_due(fleet.client.store, fleet.client.keys.namespace, ["acme"]) == ["acme"]
    wakes.close()


@pytest.mark.parametrize(("step_s", "opened"), [(0.0, MOST_AT_ONCE), (1.0, 1)])
def test_pages_of_few_transactions_are_opened_several_in_a_tick_while_it_lasts(
    fleet: Fleet, turns: Any, monkeypatch: pytest.MonkeyPatch, step_s: float, opened: int
) -> None:
    ledger = fleet.client.ledger
    ledger.begin(a_job("batches", "contacts", contact_list="list-1"))
    for page in range(2 * MOST_AT_ONCE):
        ledger.accept("batches", page, [a_batch(page)], PageCounts(rows=2, rejected=0, calls=1))
    ledger.start("batches")
    clock = itertools.count(0.0, step_s)
    monkeypatch.setattr(page_opener, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    turns()

    # With one page a tick, 40 calls a second would be the most, whatever the limits allow.
    assert fleet.job("batches").next_page == opened


def a_batch(page: int) -> dict[str, Any]:
    rows = [{"line": 2 * page + n, "id": f"c{page}-{n}", "data": {}} for n in (2, 3)]
    return {"line": rows[0]["line"], "id": rows[0]["id"], "rows": rows}


def test_the_log_says_what_is_held_that_it_widened_and_what_may_leave_again(
    fleet: Fleet, turns: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.submit(calls(4))
    turns(4)
    store, keys = fleet.client.store, fleet.client.keys
    spans = flows.spans(store, keys)
    scope = next(name for name in spans if name.startswith("r:"))
    route = f"{spans[scope][0].partition(' ')[0]} *"  # its words may be somebody's name
    failing = {"cause": "failing", "why": "the provider answered 503", "opened_us": 1}
    later_us = round(time.time() * 1e6) + 60_000_000

    def hold(name: str) -> str:
        """Hold this scope alone; returns what is logged."""
        caplog.clear()
        store.hdel(keys.governor, "k:client", f"k:{scope}")
        if name:
            store.hset(keys.breaker(name), mapping=failing)
            store.hset(keys.governor, f"k:{name}", later_us)
        turns(4)
        return caplog.text

    assert f"client acme: {route} has been failing since" in hold(scope)
    widened = hold("client")
    assert f"client acme: the hold of {route} covers the whole client now" in widened
    assert "client acme: the provider has been failing since" in widened
    assert "leave again" not in widened
    assert "client acme: its calls leave again" in hold("")
    assert hold("") == ""
    hold(scope)
    assert f"client acme: calls of {route} leave again" in hold("")
