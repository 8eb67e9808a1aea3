"""What lanes and tenants get while all have work, by a held clock: nobody waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.rig import APP, EP, MS, Rig
from tests.support.stored import transaction_hash
from workers.governor.grants import Settled
from workers.settings.client import TenantSettings

if TYPE_CHECKING:
    from workers.store.connection import Store


def serve_so_many(rig: Rig, count: int) -> list[str]:
    """The keys that are rung, one by one as tokens come back, and served at once."""
    rung: list[str] = []
    while len(rung) < count:
        keys = rig.ring(after_us=125 * MS)
        rung += [key for key in keys if rig.serve(key) is Settled.END]
    return rung


def test_a_lane_behind_one_that_is_never_empty_has_one_call_in_twenty(store: Store) -> None:
    rig = Rig(store, APP)
    bulk, normal = (set(rig.line_up(90, lane=lane)) for lane in (2, 1))

    rung = serve_so_many(rig, 60)

    assert [number for number, key in enumerate(rung, 1) if key in bulk] == [20, 40, 60]
    assert len(normal.intersection(rung)) == 57


def test_behind_urgent_calls_that_never_end_both_later_lanes_go_on(store: Store) -> None:
    reserved = APP.model_copy(update={"reserve": 2})
    rig = Rig(store, reserved)
    bulk, normal, urgent = (set(rig.line_up(90, lane=lane)) for lane in (2, 1, 0))

    rung = serve_so_many(rig, 84)

    assert len(bulk.intersection(rung)) == len(normal.intersection(rung)) == 4
    assert len(urgent.intersection(rung)) == 76


def test_a_lane_has_its_share_of_each_limit(store: Store) -> None:
    rig = Rig(store, APP, EP)
    bulk, _ = (set(rig.line_up(90, "POST /ep", lane=lane)) for lane in (2, 1))
    rig.line_up(200, lane=2)  # of the other limit, which nobody in the lane before uses

    rung = serve_so_many(rig, 160)

    assert len(bulk.intersection(rung)) in {3, 4, 5}


def test_a_lane_that_gets_what_others_leave_takes_nothing_from_an_urgent_call(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(200, lane=2)
    serve_so_many(rig, 40)

    for _ in range(40):
        (urgent,) = rig.line_up(1, lane=0)
        assert rig.ring(after_us=125 * MS) == [urgent]
        rig.serve(urgent)
        (other,) = rig.ring(after_us=125 * MS)
        rig.serve(other)


def test_a_chain_that_goes_on_by_itself_leaves_a_later_lane_its_share(store: Store) -> None:
    rig = Rig(store, APP)
    rig.fill()
    (key,) = rig.line_up(1, *["POST /x"] * 40)
    assert rig.ring() == [key]
    rig.line_up(9, lane=2)

    settled = []
    for step in range(1, 22):
        rig.fill()
        settled.append(rig.serve(key, step))
        if settled[-1] is Settled.BACKLOG:
            break

    assert settled == [Settled.RING] * 19 + [Settled.BACKLOG]


def test_what_went_before_a_lane_is_forgotten_when_nothing_of_it_waits(store: Store) -> None:
    rig = Rig(store, APP)
    (bulk,) = rig.line_up(1, lane=2)
    rig.line_up(90)
    rig.fill()
    for key in rig.ring(after_us=0):
        rig.serve(key)
    assert rig.governed("s") == {"2:app": 5, "2:client": 5}

    flow = transaction_hash(rig, bulk)["fl"]
    store.lrem(f"{rig.keys.prefix}backlog:{flow}", 1, bulk)
    store.srem(rig.keys.prefix + "active", flow)
    rig.ring()

    assert rig.governed("s") == {}


def test_tenants_share_by_their_quotas_where_none_has_a_weight(store: Store) -> None:
    rig = Rig(store, APP)
    quotas = {name: TenantSettings(quota=quota) for name, quota in (("big", 300), ("small", 100))}
    rig.client = rig.client.model_copy(update={"tenants": quotas})
    big, small = (set(rig.line_up(90, tenant=tenant)) for tenant in ("big", "small"))

    rung = serve_so_many(rig, 80)

    assert len(big.intersection(rung)) == pytest.approx(60, abs=2)
    assert len(small.intersection(rung)) == pytest.approx(20, abs=2)
