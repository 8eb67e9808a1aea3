"""Where live changes, pauses, clocks and the breaker meet, by a held clock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestration.operate import limits as operate_limits
from tests.support.rig import (
    APP,
    BURSTY,
    HELD,
    REFUSED,
    STEADY,
    TICK_US,
    Rig,
    S,
    breaker,
    change,
    client_of,
    grants,
    opened,
    pause,
    probe,
    resume,
    spent,
)
from workers.answer.verdict import Pause, Reach
from workers.governor import flows, overrides
from workers.settings.client import TenantSettings
from workers.settings.limits import LimitSettings

if TYPE_CHECKING:
    from workers.store.connection import Store

EXPORTS = LimitSettings(
    name="exports", count=100, window_s=60, shape="fixed_window", match="POST /exports"
)
MINUTE = replace(HELD, pause=Pause(60), delay_s=60)


def held_for_a_minute(store: Store, *limits: LimitSettings) -> Rig:
    """A client of which one route was just refused."""
    rig = Rig(store, *limits)
    rig.line_up(60, "POST /exports")
    rig.fill()
    for key in rig.ring(threads=1):
        rig.serve(key, verdict=MINUTE)
    assert rig.ring_on(2 * S) == []
    return rig


def test_a_pause_of_a_route_goes_on_under_the_limit_that_it_gets(store: Store) -> None:
    rig = held_for_a_minute(store, APP)

    change(rig, APP, EXPORTS)

    assert spent(rig, 57 * S) == []
    assert spent(rig, 5 * S)


def test_a_pause_of_a_limit_goes_on_for_its_route_when_the_limit_goes(store: Store) -> None:
    rig = held_for_a_minute(store, APP, EXPORTS)

    change(rig, APP)

    assert spent(rig, 57 * S) == []
    assert spent(rig, 5 * S)


def test_a_rate_in_place_of_calls_at_once_starts_empty(store: Store) -> None:
    rate = LimitSettings(name="app", count=10, reserve=0)
    rig = Rig(store, rate)
    rig.line_up(90)
    rig.fill()
    rig.ring(threads=0)
    change(rig, LimitSettings(name="app", count=50, shape="concurrent"))
    assert len(spent(rig, TICK_US)) == 50

    change(rig, rate)

    assert rig.ring() == []


def test_a_limit_that_is_toggled_owes_what_one_change_owes(store: Store) -> None:
    rig = Rig(store, STEADY)
    rig.fill()
    rig.ring(threads=0)
    for _ in range(10):
        change(rig, BURSTY)
        rig.ring(threads=0)
        change(rig, STEADY)
        rig.ring(threads=0)

    full: Any = rig.store.hget(rig.keys.governor, "c:app")
    assert int(full) - rig.us < 70 * S


def test_a_cap_that_a_tenant_gets_later_holds_back_nobody_else(store: Store) -> None:
    rig = Rig(store, APP, a=1, b=1)
    rig.line_up(200, tenant="a")
    theirs = set(rig.line_up(200, tenant="b"))
    rig.fill()
    rig.ring(threads=0)
    cap = LimitSettings(name="cap", count=100, window_s=100, shape="fixed_window", reserve=0)
    tenants = {"a": TenantSettings(limits=(cap,)), "b": TenantSettings()}
    rig.client = rig.client.model_copy(update={"tenants": tenants})

    flows.refresh(rig.store, rig.keys, rig.client, clock=rig.clock)

    rung = []
    for _ in range(20 * S // TICK_US):
        for key in rig.ring():
            rig.serve(key)
            rung.append(key)
    of_b = len(theirs.intersection(rung))
    assert len(rung) >= 155
    assert len(rung) - of_b <= 24


def test_a_probe_that_was_out_when_somebody_resumed_decides_nothing(store: Store) -> None:
    rig, _ = opened(store)
    out = probe(rig)

    resume(rig)
    rig.governor.settle(out, REFUSED)

    assert not breaker(rig)


def test_after_a_resume_one_refusal_does_not_open_the_breaker(store: Store) -> None:
    rig, _ = opened(store)
    resume(rig)

    (grant,) = grants(rig, 1)
    rig.governor.settle(grant, REFUSED)

    assert not breaker(rig)


def test_a_resume_of_all_ends_the_providers_longer_hold_of_the_client_too(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(30)
    rig.fill()
    out = [rig.grant(key) for key in rig.ring()]
    pause(rig, 60)
    for grant in out:
        rig.governor.settle(grant, replace(HELD, pause=Pause(7200, Reach.CLIENT), delay_s=7200))

    assert resume(rig) == ["client"]
    assert not spent(rig, 5 * S)
    assert resume(rig, everything=True)

    assert spent(rig, 5 * S)


def test_clocks_that_are_set_back_again_and_again_after_a_pause_stop_nothing(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(90)
    pause(rig, 5)
    spent(rig, 10 * S)

    for _ in range(3):
        rig.us -= 60 * S
        rig.governor.ring("w", 10)
        rig.governor.sweep()

    assert spent(rig, 2 * S)
    assert pause(rig, 9) == rig.us + 9 * S
    assert resume(rig)


def test_a_damaged_transaction_stops_no_change(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.fill()
    *_, key = rig.ring()
    rig.store.delete(rig.keys.transaction(key))
    rig.store.set(rig.keys.transaction(key), "damaged")

    operate_limits.set_limit(client_of(rig), "app", {"rate": 4.0}, by="maria", reason="why not")

    # The bells of the others are counted anew; the sweep sets the damaged one aside.
    assert overrides.read(rig.store, rig.keys).limits
    out = rig.store.zcard(rig.keys.deadlines)
    assert int(rig.store.hget(rig.keys.governor, "b:client") or 0) == out - 1
