"""Steps that make no call: no limit, hold or breaker is theirs, only the threads of their pool."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestration.dispatch.looks import find_due
from tests.support.rig import APP, DONE, GRACE_US, MS, Rig, S
from tests.support.stored import transaction_hash
from workers.answer.guards import Memo
from workers.answer.outcome import Outcome
from workers.answer.verdict import Requeue
from workers.governor.grants import Settled
from workers.ledger import audit

if TYPE_CHECKING:
    from workers.store.connection import Store

ACT_LEASE_US = 40 * S
BACK = Requeue(step_back=True, outcome=Outcome.NOT_EXECUTED, error="it expired", memo=Memo())
AGAIN = replace(BACK, step_back=False, attempt=True, delay_s=1)


def pools(rig: Rig, **threads: int) -> list[tuple[str, str, bool]]:
    """What a worker of each of these pools rings, one beat later: keys, pools, local or not."""
    rig.us += 25 * MS
    rung = []
    for pool, count in threads.items():
        rig.free()
        while bells := rig.governor.ring(f"w-{pool}", count, pool).bells:
            rung += bells
    return [(it.key, it.pool, it.local) for it in rung]


def test_a_step_that_makes_no_call_leaves_whatever_holds_the_client_and_is_charged_nothing(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, "calls", guards="r")
    rig.governor._run("pause", 60 * S, "an operator's", *audit.addition("pause"))
    store.hset(rig.keys.governor, "k:client", rig.us + 60 * S)

    assert pools(rig, calls=1) == [(key, "calls", True)]
    assert rig.governor.settle(rig.grant(key), AGAIN) is Settled.BACKLOG

    rig.us += S
    rig.ring()
    assert rig.serve(key) is Settled.END
    gov = store.hgetall(rig.keys.governor)
    assert not [it for it in gov if it[:2] in {"n:", "u:", "x:"}]
    assert "app" not in rig.governed("c")
    assert rig.governed("b") == rig.governed("l") == {}


def test_transfers_wait_for_workers_of_their_own_and_never_outnumber_their_threads(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    keys = rig.line_up(10, "media", guards="r")

    assert pools(rig, calls=8) == []
    assert pools(rig, media=3) == [(key, "media", True) for key in keys[:3]]
    first, *_ = [rig.grant(key) for key in keys[:3]]
    assert pools(rig, calls=8, media=3) == []
    rig.governor.settle(first, DONE)
    assert pools(rig, calls=8, media=3) == [(keys[3], "media", True)]


def test_steps_that_no_worker_does_are_rung_for_when_one_comes(store: Store) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, "media", guards="r")

    def turn(worker: str, pool: str) -> tuple[float | None, list[str]]:
        rig.us += 25 * MS
        ring = rig.governor.ring(worker, 4, pool)
        return ring.turn_s, [bell.key for bell in ring.bells]

    assert turn("one", "calls") == (None, [])
    _, rung = turn("two", "media")
    assert rung == []
    assert find_due(store, "rig", [rig.keys.client]) == [rig.keys.client]
    assert turn("one", "calls")[1] == [key]


def test_transfers_that_are_out_take_no_room_from_calls(store: Store) -> None:
    rig = Rig(store)
    transfers = rig.line_up(6, "media", guards="r")
    calls = rig.line_up(20)
    pools(rig, calls=0, media=6)
    for key in transfers:
        rig.grant(key)

    assert pools(rig, calls=8, media=6) == [(key, "calls", False) for key in calls[:10]]


def test_a_chain_stops_before_a_step_that_other_threads_do(store: Store) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, "POST /x", "media", "media", "calls", "POST /x", guards="krrrk")
    rig.fill()
    threads = {"calls": 8, "media": 2}

    steps = []
    for step in range(1, 6):
        rung = pools(rig, **threads) if not steps or steps[-1] is Settled.BACKLOG else []
        steps.append(rig.serve(key, step))
        assert bool(rung) == (step != 3)

    assert steps == [Settled.BACKLOG, Settled.RING, Settled.BACKLOG, Settled.BACKLOG, Settled.END]


def test_a_lease_that_is_renewed_outlives_its_time_and_one_that_is_not_is_taken_over(
    store: Store,
) -> None:
    rig = Rig(store)
    (key,) = rig.line_up(1, "media", guards="r")
    pools(rig, media=1)
    grant = rig.governor.admit(key, 1, local=True)
    for _ in range(5):
        rig.us += ACT_LEASE_US - 1
        assert rig.governor.sweep() == (0, 0, 0)
        assert rig.governor.renew(grant)

    rig.us += ACT_LEASE_US
    assert rig.governor.sweep() == (0, 1, 0)

    assert not rig.governor.renew(grant)
    assert pools(rig, media=1) == [(key, "media", True)]
    rig.governor.admit(key, 1, local=True)
    assert rig.governor.settle(grant, DONE) is Settled.STALE


def test_a_step_back_does_the_one_before_once_more_and_each_keeps_one_id(store: Store) -> None:
    rig = Rig(store)
    (key,) = rig.line_up(1, "POST /x", "GET /sign", "media", guards="krr")
    named = {n: replace(DONE, provider_id=f"p{n}", values=f'{{"s": {n}}}') for n in (1, 2)}
    pools(rig, calls=1, media=1)
    rig.serve(key, 1, named[1])
    rig.serve(key, 2, named[2])
    pools(rig, calls=1, media=1)

    assert rig.serve(key, 3, BACK) is Settled.BACKLOG

    assert pools(rig, calls=1, media=1) == [(key, "calls", False)]
    assert rig.serve(key, 2, replace(named[2], provider_id="again")) is Settled.BACKLOG
    pools(rig, calls=1, media=1)
    assert [it["s"] for it in rig.grant(key, 3).answers] == [1, 2, 2]
    assert transaction_hash(rig, key)["ids"] == "p1\nagain"


@pytest.mark.parametrize("many", [1, 100])
def test_suspects_that_wait_for_a_worker_of_their_pool_keep_no_other_one_waiting(
    store: Store, many: int
) -> None:
    rig = Rig(store)
    transfers = rig.line_up(many, "media", guards="r")
    (call,) = rig.line_up(1)
    pools(rig, calls=1, media=many)
    for key in (*transfers, call):
        rig.grant(key)
    rig.us += 70 * S
    rig.governor.sweep()

    assert pools(rig, calls=1) == [(call, "calls", False)]


def test_a_bell_for_a_transfer_that_nobody_answers_is_given_back(store: Store) -> None:
    rig = Rig(store)
    (key,) = rig.line_up(1, "media", guards="r")
    pools(rig, media=1)
    rig.us += GRACE_US

    assert rig.governor.sweep() == (1, 0, 0)

    assert pools(rig, media=1) == [(key, "media", True)]
