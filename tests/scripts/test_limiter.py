"""Calls from outside of jobs, by a held clock: limits, pauses and breaker are the workers' own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.apart import settings_apart
from tests.support.rig import (
    APP,
    DONE,
    MS,
    REFUSED,
    TICK_US,
    Rig,
    S,
    breaker,
    opened,
    probe,
)
from workers.answer.quota_headers import Feedback
from workers.answer.verdict import Pause, Reach
from workers.clients import Client
from workers.errors import CircuitOpen, Throttled
from workers.session.limiter import Limiter, Permit
from workers.settings.limits import LimitSettings
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from workers.store.connection import Store

FEW = LimitSettings(name="few", count=1, shape="concurrent")


def gate(rig: Rig, lane: int = 1) -> Limiter:
    """The entry of the rig's client."""
    routes: set[str] = set()
    client = SimpleNamespace(
        name="acme",
        store=rig.store,
        keys=rig.keys,
        configured=rig.client,
        settings=lambda: rig.client,
        fleet=settings_apart(),
        routes=lambda: routes,
        look=lambda: (0, rig.client),
        require_bound=lambda: None,
    )
    client.flow = partial(Client.flow, client)
    return Limiter(cast("Client", client), lane, clock=rig.clock)


def ask(it: Limiter, wait_s: float = 9) -> Permit | float:
    return it.acquire("POST /x", wait_s)


def entry(it: Limiter) -> Permit:
    """A guest that may go."""
    answer = ask(it)
    assert isinstance(answer, Permit), answer
    return answer


def until_entry(rig: Rig, it: Limiter) -> Permit:
    """A guest that asks until it may go."""
    for _ in range(400):
        answer = ask(it)
        if isinstance(answer, Permit):
            return answer
        rig.us += 25 * MS
    raise AssertionError("no token in ten seconds")


def test_a_guest_is_charged_to_the_limits_of_the_workers(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.fill()
    it = gate(rig)

    for _ in range(5):
        entry(it)

    assert isinstance(ask(it), float)
    assert rig.ring() == []


def test_a_guest_takes_no_token_of_which_a_bell_has_spoken(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.fill()
    rung = rig.ring()
    assert len(rung) == 5

    assert isinstance(ask(gate(rig)), float)

    assert [rig.grant(key) for key in rung]


def test_the_next_token_is_left_to_a_guest_that_asks_beside_a_full_backlog(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(90)
    it, went, rung = gate(rig), 0, 0
    rig.ring_on(500 * MS)

    for _ in range(8 * S // TICK_US):  # eight seconds, eight calls a second
        rung += len([rig.serve(key) for key in rig.ring()])
        answer = ask(it)
        if isinstance(answer, Permit):
            it.release(answer, "good")
            went += 1

    assert went >= 20
    assert rung + went >= 60


def test_a_guest_that_asks_no_more_leaves_its_token_to_the_others(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(90)
    rig.ring_on(500 * MS)
    assert isinstance(ask(gate(rig)), float)

    served = sum(len([rig.serve(key) for key in rig.ring()]) for _ in range(2 * S // TICK_US))
    assert served >= 15


def test_a_guest_is_told_when_it_must_wait_longer_than_it_would(store: Store) -> None:
    rig = Rig(store, APP)
    it = gate(rig)

    with pytest.raises(Throttled) as told:
        ask(it, wait_s=0.05)

    assert 0.05 < told.value.wait_s <= 0.7
    assert not isinstance(told.value, CircuitOpen)


def test_an_open_breaker_is_told_apart_and_a_guest_may_be_its_probe(store: Store) -> None:
    rig, _ = opened(store)
    it = gate(rig)

    with pytest.raises(CircuitOpen) as told:
        ask(it, wait_s=1.9)
    assert told.value.wait_s == pytest.approx(2)

    rig.us += 2 * S
    first = probe_of(rig, it)
    assert rig.ring_on(S) == []
    it.release(first, "good")
    assert breaker(rig)["good"] == "1"


def test_a_call_fails_at_once_while_a_breaker_is_open_however_long_it_would_wait(
    store: Store,
) -> None:
    rig, _ = opened(store)

    with pytest.raises(CircuitOpen) as told:
        ask(gate(rig), wait_s=30)

    assert told.value.wait_s == pytest.approx(2)


def test_a_call_fails_at_once_while_the_provider_holds_what_is_to_be_probed(store: Store) -> None:
    rig, late = opened(store, more=1)
    rig.governor.settle(late[0], replace(REFUSED, pause=Pause(60, Reach.CLIENT)))
    rig.us += 2 * S

    with pytest.raises(CircuitOpen) as told:
        ask(gate(rig), wait_s=99)

    assert told.value.wait_s == pytest.approx(58)


def test_a_call_that_may_be_the_probe_waits_for_its_token(store: Store) -> None:
    rig, _ = opened(store)
    it = gate(rig)
    rig.us += 3 * S
    store.hset(rig.keys.governor, "c:app", rig.us + 625 * MS)  # it is empty

    assert isinstance(ask(it), float)
    until_entry(rig, it)


def test_a_call_need_not_connect_to_learn_that_a_breaker_is_open(store: Store) -> None:
    rig, _ = opened(store)
    it = gate(rig)

    with pytest.raises(CircuitOpen):
        it.require_closed("POST /x")
    rig.us += 2 * S
    it.require_closed("POST /x")

    assert "probers" not in breaker(rig)


def test_a_connection_that_failed_was_the_probe_of_a_breaker_that_is_open(store: Store) -> None:
    rig, _ = opened(store)
    it = gate(rig)
    rig.us += 2 * S
    rig.fill()

    it.report_unreachable("POST /x", "connection refused")

    assert breaker(rig)["why"] == "connection refused"
    with pytest.raises(CircuitOpen):
        it.require_closed("POST /x")


def test_a_host_that_reaches_no_provider_opens_no_breaker(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(1)
    it = gate(rig)

    for _ in range(20):
        rig.fill()
        it.report_unreachable("POST /x", "connection refused")

    assert not rig.store.exists(rig.keys.prefix + "evidence")
    it.require_closed("POST /x")


def probe_of(rig: Rig, it: Limiter) -> Permit:
    """The guest that is let through; a bell that came first is answered meanwhile."""
    for _ in range(400):
        for key in rig.ring():
            rig.governor.requeue(key, 1)
        answer = ask(it)
        if isinstance(answer, Permit):
            return answer
    raise AssertionError("no guest in ten seconds")


def test_while_a_bell_is_the_probe_no_guest_goes(store: Store) -> None:
    rig, _ = opened(store)
    grant = probe(rig)

    with pytest.raises(CircuitOpen):
        ask(gate(rig))

    rig.governor.settle(grant, DONE)


def test_a_refused_guest_pauses_what_was_refused_for_all(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.fill()
    it = gate(rig)

    it.release(entry(it), "refused", pause_s=2, why="slow down")

    assert rig.ring_on(2 * S - 50 * MS) == []
    with pytest.raises(Throttled):
        ask(it, wait_s=0.1)


def test_refused_guests_open_the_breaker(store: Store) -> None:
    rig = Rig(store, APP)
    it = gate(rig)
    for _ in range(20):
        it.release(until_entry(rig, it), "refused")

    with pytest.raises(CircuitOpen):
        ask(it, wait_s=1)


def test_what_the_headers_leave_holds_everybody(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.fill()
    it = gate(rig)

    it.release(entry(it), "good", quota=Feedback(100, 0, 3.0))

    assert rig.ring_on(3 * S - 50 * MS) == []


def test_a_guest_frees_its_place_when_it_leaves_or_its_lease_is_over(store: Store) -> None:
    rig = Rig(store, FEW)
    it = gate(rig)

    first = entry(it)
    assert isinstance(ask(it), float)
    it.release(first, "good")
    entry(it)
    assert isinstance(ask(it), float)
    assert Scripts(store, rig.keys, rig.clock)("check_counters") == []

    rig.us += 71 * S
    assert rig.governor.ring("w", 1).sweep
    rig.governor.sweep()
    entry(it)
    it.release(first, "good")  # long gone: nothing happens
    assert rig.governed("l") == {"few": 1}


def test_a_place_of_a_process_that_died_is_free_a_day_later_where_no_worker_runs(
    store: Store,
) -> None:
    rig = Rig(store, FEW)
    it = gate(rig)
    entry(it)  # and its process is killed

    rig.us += 60 * S
    assert isinstance(ask(it), float)
    rig.us += 24 * 3600 * S

    it.release(entry(it), "answered")
    assert rig.governed("l") == {}


def test_what_dead_workers_left_out_holds_back_no_session(store: Store) -> None:
    rig = Rig(store, FEW)
    sent, rung = rig.line_up(2)
    (first,) = rig.ring()
    rig.grant(first)
    it = gate(rig)
    assert isinstance(ask(it), float)

    rig.us += 24 * 3600 * S

    it.release(entry(it), "answered")
    assert Scripts(store, rig.keys, rig.clock)("check_counters") == []

    assert rig.ring() in ([sent], [rung])
    assert isinstance(ask(it), float)
    rig.us += 24 * 3600 * S

    it.release(entry(it), "answered")
    assert Scripts(store, rig.keys, rig.clock)("check_counters") == []


def test_permits_of_processes_that_died_are_forgotten_although_no_limit_is_short(
    store: Store,
) -> None:
    rig = Rig(store)
    it = gate(rig)
    for _ in range(9):
        entry(it)
    rig.us += 24 * 3600 * S

    entry(it)

    assert store.zcard(rig.keys.prefix + "permits") == 1


def test_a_session_goes_on_after_the_clock_was_set_back_where_no_worker_runs(store: Store) -> None:
    rig = Rig(store, APP)
    it = gate(rig)
    it.release(until_entry(rig, it), "answered")

    rig.us -= 5 * 3600 * S

    it.release(until_entry(rig, it), "answered")


def test_a_guest_whose_flow_was_lost_defines_it_anew(store: Store) -> None:
    rig = Rig(store, APP)
    it = gate(rig)
    ask(it)
    rig.store.unlink(rig.keys.flows)

    assert isinstance(ask(it), float)
    flows: Any = rig.store.hlen(rig.keys.flows)
    assert flows == 1
