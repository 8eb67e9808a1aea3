"""What the scripts promise, one behaviour a test, on a real store by a held clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.rig import (
    APP,
    DONE,
    EP,
    FAILED,
    GRACE_US,
    HELD,
    LATER,
    LEASE_US,
    MS,
    RETRY,
    TICK_US,
    Rig,
    S,
)
from tests.support.stored import a_job, job_hash
from workers.answer.outcome import Outcome
from workers.answer.verdict import (
    UNSENT,
    Finish,
    Pause,
    Requeue,
    Verdict,
    to_json,
)
from workers.errors import LedgerDamaged, StoreAway
from workers.governor import flows
from workers.governor.grants import Grant, Hindrance, Settled
from workers.governor.state import GovernorState
from workers.ledger import audit
from workers.ledger.ledger import NewTransaction, PageCounts
from workers.ledger.transaction import FINAL
from workers.settings.client import ClientSettings
from workers.settings.limits import LimitSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.store.connection import Store

#: 2 tokens, one every 10.7 ms: so tight that it has a lead of 50 ms.
TIGHT = LimitSettings(name="tight", count=100, shape="fixed_window", match="POST /tight")


# Limits


def test_a_limit_without_state_starts_empty(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)

    rung = [len(rig.ring()) for _ in range(11)]

    assert rung == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def test_a_limit_that_lost_its_state_grants_nothing_and_starts_empty(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.fill()
    first, *_ = rig.ring(threads=1)

    store.hdel(rig.keys.governor, "c:app")

    assert rig.word(first) == "wait: 125000"
    assert rig.ring_on(100 * MS) == []


def test_a_call_is_charged_to_all_its_limits(store: Store) -> None:
    rig = Rig(store, APP, EP)
    key, *_ = rig.line_up(1, "POST /ep")
    rig.fill()
    rig.ring()

    rig.grant(key)

    cells = rig.governed("c")
    assert (cells["app"], cells["ep"]) == (rig.us + 125 * MS, rig.us + 250 * MS)


def test_a_starved_limit_leaves_the_others_uncharged(store: Store) -> None:
    rig = Rig(store, APP, EP)
    key, *_ = rig.line_up(1, "POST /ep")
    rig.fill()
    rig.ring()
    store.hset(rig.keys.governor, "c:ep", rig.us + 500 * MS)
    before = rig.governed("c")

    assert rig.word(key) == "wait: 250000"
    assert rig.governed("c") == before
    assert rig.governed("b") == {}


def test_a_flow_starved_by_its_own_limit_does_not_block_the_others(store: Store) -> None:
    rig = Rig(store, APP, EP)
    starved = rig.line_up(9, "POST /ep", lane=0)
    others = rig.line_up(9, lane=2)
    rig.fill()

    rung = rig.ring()

    assert set(rung[:2]) == set(starved[:2])
    assert rung[2:] == others[:3]


def test_a_client_without_limits_is_bound_by_its_threads_alone(store: Store) -> None:
    rig = Rig(store)
    rig.line_up(50)

    assert len(rig.ring(threads=8)) == 10


def test_a_bucket_fills_while_nobody_rings(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.fill()

    assert len(rig.ring(after_us=60 * S)) == 5


def test_a_limit_of_which_nobody_knows_how_full_it_is_starts_empty(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.ring()

    assert rig.ring_on(75 * MS) == []
    assert len(rig.ring_on(50 * MS)) == 1


def test_a_call_leaves_at_its_token_and_not_a_microsecond_before(store: Store) -> None:
    rig = Rig(store, APP)
    early, punctual = rig.line_up(2)
    rig.fill()
    rig.ring()
    store.hset(rig.keys.governor, "c:app", rig.us + 625 * MS)

    rig.us += 125 * MS - 1
    assert rig.word(early) == "wait: 1"
    rig.us += 1
    assert rig.grant(punctual).start_in_s == 0


# Limits so tight that bells ring ahead of their tokens


def test_a_limit_with_a_lead_rings_ahead_and_admits_a_moment_to_come(store: Store) -> None:
    rig = Rig(store, TIGHT)
    rig.line_up(9, "POST /tight")
    rig.fill()

    rung = rig.ring(after_us=0)
    starts_us = [round(rig.grant(key).start_in_s * S) for key in rung]

    interval_us = 10_715
    assert starts_us == [0, 0, *(n * interval_us for n in range(1, 5))]  # 50 ms ahead
    assert rig.ring(after_us=0) == []


def test_no_moment_is_granted_more_than_100_ms_ahead(store: Store) -> None:
    rig = Rig(store, TIGHT)
    first, second = rig.line_up(2, "POST /tight")
    rig.fill()
    rig.ring()
    store.hset(rig.keys.governor, "c:tight", rig.us + 10_715 + 100 * MS + 1)

    assert rig.word(first) == "wait: 100001"
    rig.us += 1
    assert rig.grant(second).start_in_s == 0.1


def test_a_call_put_off_by_one_limit_counts_at_its_start_in_the_others(store: Store) -> None:
    rig = Rig(store, APP, TIGHT)
    keys = rig.line_up(3, "POST /tight")
    rig.fill()
    assert rig.ring(after_us=0) == keys
    for key in keys[:2]:
        rig.grant(key)
    store.hset(rig.keys.governor, "c:app", rig.us)

    start_us = round(rig.grant(keys[2]).start_in_s * S)

    assert start_us == 10_715
    assert rig.governed("c")["app"] == rig.us + start_us + 125 * MS


# Bells and leases


def test_a_call_that_must_wait_goes_to_the_head_of_its_line(store: Store) -> None:
    rig = Rig(store, APP)
    first, second, *_ = rig.line_up(9)
    rig.fill()
    assert rig.ring(threads=1) == [first]
    store.hset(rig.keys.governor, "c:app", rig.us + 625 * MS)

    assert rig.word(first) == "wait: 125000"
    rig.fill()

    assert rig.ring()[:2] == [first, second]


def test_a_second_bell_is_dropped_while_the_lease_is_held(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    rig.fill()
    rig.ring()
    rig.grant(key)
    before = rig.dump()

    assert rig.word(key) == "drop: lease held"
    assert rig.dump() == before


def test_bells_of_older_and_newer_steps_are_dropped(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1, "POST /x", "POST /x", "POST /x")
    rig.fill()
    rig.ring()
    assert rig.serve(key, 1) is Settled.RING

    assert rig.word(key, 1) == "drop: other step"
    assert rig.word(key, 3) == "drop: other step"
    assert isinstance(rig.governor.admit(key, 2), Grant)


def test_bells_of_nobody_and_of_the_ended_are_dropped(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    rig.fill()
    rig.ring()
    rig.serve(key)

    assert rig.word(key) == "drop: ended"
    assert rig.word("nobody") == "drop: missing"


def test_an_unanswered_bell_is_given_back_and_then_dropped(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    rig.fill()
    rig.ring()
    rig.us += GRACE_US - 1
    assert not rig.governor.ring("w", 8).sweep
    assert rig.governor.sweep() == (0, 0, 0)

    rig.us += 1

    assert rig.governor.ring("w", 8).sweep
    assert rig.governor.sweep() == (1, 0, 0)
    assert rig.word(key) == "drop: in the backlog"
    assert rig.governed("b") == {}


def test_a_bell_that_cannot_be_published_goes_back_at_once(store: Store) -> None:
    rig = Rig(store, APP)
    first, second = rig.line_up(2)
    rig.fill()
    rig.ring()

    rig.governor.requeue(first, 1)
    rig.governor.requeue(first, 1)
    rig.governor.requeue(second, 2)  # of another step: not the bell that is out

    assert rig.states([first, second]) == {"w": 1, "r": 1}
    assert rig.governed("b") == {"client": 1, "app": 1}
    assert rig.governed("q") == {"1": 1}
    assert rig.ring() == [first]


def test_a_grant_whose_reply_was_lost_is_settled_as_not_sent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    rig.fill()
    rig.ring()
    run = rig.governor._run

    def lossy(name: str, *args: Any) -> Any:
        answer = run(name, *args)
        if name == "admit":
            raise StoreAway("the reply was lost")
        return answer

    monkeypatch.setattr(rig.governor, "_run", lossy)

    assert rig.word(key) == "wait: the store was away"
    assert rig.ring() == [key]


def test_bells_and_leases_stay_within_five_quarters_of_the_threads(store: Store) -> None:
    rig = Rig(store)
    rig.line_up(50)

    assert len(rig.ring(threads=4, worker="a")) == 5
    assert len(rig.ring(threads=4, worker="b")) == 5
    first, second, *_ = rig.ring(threads=8, worker="c")
    rig.grant(first)
    assert rig.ring(threads=4, worker="a") == []
    rig.serve(second)
    assert len(rig.ring(threads=4, worker="b")) == 1


def test_the_threads_of_a_dead_worker_count_for_five_seconds(store: Store) -> None:
    rig = Rig(store)
    rig.line_up(50)
    rig.ring(threads=4, worker="dead", after_us=0)
    assert len(rig.ring(threads=8, worker="live", after_us=5 * S - 1)) == 10

    for key in rig.ring(threads=16, worker="live", after_us=1):
        rig.serve(key)

    assert set(rig.store.hkeys(rig.keys.governor)) >= {"w:live"}
    assert not rig.store.hexists(rig.keys.governor, "w:dead")
    assert len(rig.ring(threads=16, worker="live")) == 20 - 15


def test_of_several_workers_one_rings_and_the_others_follow_when_it_is_gone(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.fill()

    def turn(worker: str) -> tuple[bool, int, float | None]:
        ring = rig.governor.ring(worker, 1)
        return ring.owns, len(ring.bells), ring.turn_s

    assert turn("one") == (True, 1, 0.025)
    assert turn("two") == (False, 0, 1.0)
    rig.us += S - 1
    assert turn("two") == (False, 0, 0.000001)
    rig.us += 1
    owns, rung, _ = turn("two")
    assert owns
    assert rung == 1  # of two threads: one bell of the first worker is out
    assert turn("one") == (False, 0, 1.0)


def test_who_steps_down_rings_no_more_and_others_do_so_at_once(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.fill()
    rig.governor.ring("one", 1)
    rig.governor.ring("two", 1)

    rig.governor.step_down("one", "calls")

    ring = rig.governor.ring("two", 1)
    assert (ring.owns, ring.threads["calls"]) == (True, 1)
    rig.governor.step_down("three", "calls")  # who never rang takes nothing from others
    assert not rig.governor.ring("four", 1).owns


# Settling


def test_a_late_settle_after_a_take_over_is_void(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    rig.fill()
    rig.ring()
    late = rig.grant(key)
    rig.us += LEASE_US
    assert rig.governor.sweep() == (0, 1, 0)
    rig.fill()
    assert rig.ring() == [key]
    newer = rig.grant(key)
    before = rig.dump()

    assert rig.governor.settle(late, FAILED) is Settled.STALE
    assert rig.dump() == before
    assert rig.governor.settle(newer, DONE) is Settled.END


@pytest.mark.parametrize("verdict", [DONE, FAILED, LATER, RETRY, HELD, UNSENT], ids=repr)
def test_a_settle_that_is_repeated_does_nothing(store: Store, verdict: Verdict) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1, "POST /x", "POST /x")
    rig.fill()
    rig.ring()
    grant = rig.grant(key)
    rig.governor.settle(grant, verdict)
    before = rig.dump()

    assert rig.governor.settle(grant, verdict) is Settled.STALE
    assert rig.dump() == before


def test_the_chain_goes_on_by_itself_while_nothing_waits_and_a_token_is_there(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1, "POST /x", "POST /x")
    rig.line_up(1, lane=2)  # who waits in a lower lane has to wait
    rig.fill()
    rig.ring(threads=1)

    assert rig.serve(key) is Settled.RING
    assert rig.governed("b") == {"client": 1, "app": 1}
    assert rig.state(key) == "r"


@pytest.mark.parametrize("lane", [0, 1])
def test_the_chain_stops_for_those_who_wait_in_its_lane_or_above(store: Store, lane: int) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1, "POST /x", "POST /x")
    rig.fill()
    rig.ring()
    rig.line_up(1, lane=lane)

    assert rig.serve(key) is Settled.BACKLOG
    assert rig.state(key) == "w"


def test_the_chain_stops_when_every_token_is_spoken_for(store: Store) -> None:
    rig = Rig(store, APP)
    key, *others = rig.line_up(5, "POST /x", "POST /x")
    rig.fill()
    assert len(rig.ring(after_us=0)) == 5

    assert rig.serve(key) is Settled.BACKLOG
    assert rig.states(others) == {"r": 4}


def test_a_countdown_is_a_bell_only_from_its_due_time(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    rig.fill()
    rig.ring()
    assert rig.serve(key, verdict=RETRY) is Settled.RETRY
    assert rig.governed("b") == {}
    assert rig.word(key) == "drop: not due"

    rig.us += 2 * S
    rig.fill()
    rig.ring(after_us=0)

    assert rig.governed("b") == {"client": 1, "app": 1}
    assert rig.grant(key).attempts == 1
    assert rig.governed("b") == {}


def test_a_countdown_that_ends_a_moment_early_is_admitted(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    rig.fill()
    rig.ring()
    rig.serve(key, verdict=RETRY)
    rig.us += 2 * S - 20 * MS - 1
    assert rig.word(key) == "drop: not due"

    rig.us += 1

    assert rig.grant(key).unknown
    assert rig.governed("b") == {}
    assert rig.store.zcard(rig.keys.retries) == 0


def test_a_countdown_whose_message_was_lost_goes_to_the_line(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    rig.fill()
    rig.ring()
    rig.serve(key, verdict=RETRY)

    rig.us += 2 * S + GRACE_US

    assert rig.governor.sweep() == (1, 0, 0)
    assert rig.governed("b") == {}
    rig.fill()
    assert rig.ring() == [key]


def test_attempts_and_doubts_belong_to_one_step(store: Store) -> None:
    rig = Rig(store)
    key, *_ = rig.line_up(1, "POST /x", "POST /x")
    rig.ring()
    rig.serve(key, 1, RETRY)
    rig.us += 2 * S
    again = rig.grant(key, 1)
    assert (again.attempts, again.unknown) == (1, True)

    rig.governor.settle(again, DONE)

    following = rig.grant(key, 2)
    assert (following.attempts, following.unknown) == (0, False)


def test_a_countdown_takes_no_thread(store: Store) -> None:
    rig = Rig(store)
    rig.line_up(50)
    for key in rig.ring(threads=8):
        rig.serve(key, verdict=RETRY)

    assert len(rig.ring(threads=8)) == 10


def test_a_backoff_in_the_line_is_over_when_it_is_due(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    rig.fill()
    rig.ring()
    settled_us = rig.us
    assert rig.serve(key, verdict=LATER) is Settled.BACKLOG

    assert rig.ring_on(2 * S - TICK_US) == []
    assert rig.ring() == [key]
    assert rig.us == settled_us + 2 * S


def test_a_pause_holds_the_client_and_its_end_is_paced_from_empty(store: Store) -> None:
    rig = Rig(store, APP)
    keys = rig.line_up(9)
    rig.fill()
    rung = rig.ring(after_us=0)
    paused_us = rig.us
    assert rig.serve(keys[0], verdict=HELD) is Settled.BACKLOG

    assert {rig.word(key) for key in rung[1:]} == {"wait: 2125000"}  # and a token of 125 ms
    rings_us = [rig.us - paused_us for _ in range(110) for _ in rig.ring()]

    assert rings_us == [2 * S + number * 125 * MS for number in range(1, 6)]


def test_a_pause_never_shortens_a_longer_one(store: Store) -> None:
    rig = Rig(store, APP)
    first, second = rig.line_up(2)
    rig.fill()
    rig.ring()
    grants = [rig.grant(first), rig.grant(second)]
    rig.governor.settle(grants[0], HELD)

    def held() -> dict[str, str]:
        """The buckets, those of routes included."""
        gov: Any = store.hgetall(rig.keys.governor)
        return {name: full_at for name, full_at in gov.items() if name.startswith("c:")}

    before = held()
    rig.us += 500 * MS

    rig.governor.settle(grants[1], Requeue(pause=Pause(1), outcome=Outcome.NOT_EXECUTED))

    assert held() == before


def test_a_client_is_paused_while_nobody_has_a_token_and_the_provider_gives_none(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(2)
    rig.fill()
    rig.ring(threads=1)
    store.hset(rig.keys.oauth, mapping={"failed_until_us": rig.us + 5 * S, "failure_refused": "0"})

    assert rig.governor.requeue(key, 1, Hindrance(pause_s=1))

    assert rig.ring_on(S) == []
    assert rig.ring_on(125 * MS) == [key]


@pytest.mark.parametrize(
    ("what", "failure"),
    [
        ("nobody asked", {}),
        ("one worker's secret is refused", {"failed_until_us": 5 * S, "failure_refused": "1"}),
        (
            "others have a token",
            {"failed_until_us": 5 * S, "generation": "7", "expires_us": 60 * S},
        ),
    ],
)
def test_what_keeps_one_worker_from_its_calls_pauses_nobody(
    store: Store, what: str, failure: dict[str, int | str]
) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(2)
    rig.fill()
    rig.ring(threads=1)
    for field, value in failure.items():
        moment = rig.us + value if isinstance(value, int) else value
        store.hset(rig.keys.oauth, field, moment)

    assert not rig.governor.requeue(key, 1, Hindrance(what, pause_s=1))

    assert rig.ring_on(125 * MS)[0] == key
    assert store.hget(rig.keys.governor, "y:client") is None


# Deaths


@pytest.mark.parametrize("guard", ["k", "u", "r"])
def test_an_expired_lease_goes_back_under_a_guard(store: Store, guard: str) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1, guards=guard)
    rig.fill()
    rig.ring()
    rig.grant(key)
    rig.us += LEASE_US - 1
    assert rig.governor.sweep() == (0, 0, 0)

    rig.us += 1

    assert rig.governor.sweep() == (0, 1, 0)
    rig.fill()
    assert rig.ring() == [key]
    assert rig.grant(key).unknown


def test_an_expired_lease_without_a_guard_ends_unknown(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1, "POST /x", "POST /x", guards="kn")
    rig.fill()
    rig.ring()
    rig.serve(key, 1)
    rig.grant(key, 2)

    rig.us += LEASE_US

    assert rig.governor.sweep() == (0, 1, 1)
    assert rig.state(key) == "unknown"
    assert [(it["key"], it["state"]) for it in rig.dead()] == [(key, "unknown")]
    assert "without a guard" in rig.dead()[0]["why"]


def test_a_transaction_under_which_workers_die_is_a_dead_letter(store: Store) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    swept = []

    for _ in range(3):
        rig.fill()
        rig.ring()
        rig.grant(key)
        rig.us += LEASE_US
        swept.append(rig.governor.sweep())

    assert swept == [(0, 1, 0), (0, 1, 0), (0, 1, 1)]
    assert rig.state(key) == "unknown"
    assert rig.dead() == [
        {"key": key, "job": "j1", "state": "unknown", "why": "its worker died or froze 3 times"}
    ]


def test_suspects_ring_one_at_a_time_while_others_go_on(store: Store) -> None:
    rig = Rig(store)
    suspects = rig.line_up(3)
    rig.ring()
    for key in suspects:
        rig.grant(key)
    rig.us += LEASE_US
    assert rig.governor.sweep() == (0, 3, 0)
    others = rig.line_up(3)

    assert rig.ring() == [suspects[0], *others]
    assert rig.ring() == []
    rig.serve(suspects[0])
    assert rig.ring() == [suspects[1]]
    rig.governor.requeue(suspects[1], 1)
    assert rig.ring() == [suspects[2]]


def test_a_suspect_that_is_gone_does_not_block_the_others(store: Store) -> None:
    rig = Rig(store)
    gone, waiting = rig.line_up(2)
    rig.ring()
    for key in (gone, waiting):
        rig.grant(key)
    rig.us += LEASE_US
    rig.governor.sweep()

    store.hset(rig.keys.transaction(gone), "s", "cancelled")

    assert waiting in rig.ring() + rig.ring()


def test_a_suspect_is_none_any_more_once_the_step_under_which_a_worker_died_succeeds(
    store: Store,
) -> None:
    rig = Rig(store)
    key, *_ = rig.line_up(1, "POST /x", "POST /x")
    rig.ring()
    rig.grant(key)
    rig.us += LEASE_US
    rig.governor.sweep()
    rig.ring()

    assert rig.serve(key, 1) is Settled.RING
    assert store.hget(rig.keys.governor, "quarantined") is None
    assert rig.serve(key, 2, RETRY) is Settled.RETRY


def test_a_suspect_that_fails_again_stays_one(store: Store) -> None:
    rig = Rig(store)
    key, *_ = rig.line_up(1)
    rig.ring()
    rig.grant(key)
    rig.us += LEASE_US
    rig.governor.sweep()
    rig.ring()

    assert rig.serve(key, 1, RETRY) is Settled.BACKLOG
    assert store.zrange(rig.keys.quarantine, 0, -1) == [key]


# Order and fairness


def test_lanes_go_in_their_order(store: Store) -> None:
    rig = Rig(store, APP)
    bulk, normal, urgent = (rig.line_up(2, lane=lane) for lane in (2, 1, 0))
    rig.fill()

    assert rig.ring(after_us=0) == [*urgent, *normal, bulk[0]]


def test_what_is_due_goes_before_what_is_new(store: Store) -> None:
    rig = Rig(store, APP)
    first, second, third = rig.line_up(3)
    rig.fill()
    assert rig.ring(threads=1) == [first]

    rig.serve(first, verdict=UNSENT)

    assert rig.ring() == [first, second, third]


def test_tenants_share_by_weight(store: Store) -> None:
    rig = Rig(store, APP, big=3, small=1)
    big, small = (rig.line_up(90, tenant=tenant) for tenant in ("big", "small"))
    rig.fill()

    served: Counter[str] = Counter()
    for _ in range(16):
        for key in rig.ring(after_us=500 * MS):  # 4 tokens
            served["big" if key in big else "small"] += 1
            rig.serve(key)

    assert served.total() >= 64
    assert served["big"] == pytest.approx(3 * served["small"], abs=3)
    assert set(small) & set(rig.ring(after_us=500 * MS))


def test_a_tenant_is_not_owed_its_idle_time(store: Store) -> None:
    rig = Rig(store)
    rig.line_up(80, tenant="busy")
    for key in rig.ring(threads=32):
        rig.serve(key)
    rig.line_up(80, tenant="idle")

    jobs = Counter(key.split("-")[0] for key in rig.ring(threads=8))

    assert jobs.total() == 10
    assert jobs["j2"] in {5, 6}


def test_an_idle_tenants_share_is_used_by_the_others(store: Store) -> None:
    rig = Rig(store, APP, idle=1000)
    keys = rig.line_up(5, tenant="busy")
    rig.fill()

    assert rig.ring() == keys


def test_a_tenant_gets_no_more_by_using_several_routes(store: Store) -> None:
    rig = Rig(store, APP, EP)
    one = rig.line_up(9, tenant="one")
    two = [rig.line_up(9, route, tenant="two") for route in ("POST /x", "POST /ep")]
    del two
    rig.fill()

    rung = rig.ring(after_us=0)

    assert len(rung) == 5
    assert len(set(rung) & set(one)) in {2, 3}


def test_no_route_of_a_tenant_starves_another(store: Store) -> None:
    rig = Rig(store, APP, EP)
    lines = [rig.line_up(40, "POST /x"), rig.line_up(40, "POST /ep")]
    rig.fill()

    rung: set[str] = set()
    for _ in range(10):
        for key in rig.ring(after_us=125 * MS):
            rung.add(key)
            rig.serve(key)

    assert [len(rung & set(line)) > 1 for line in lines] == [True, True]


@pytest.mark.parametrize("routes", [("POST /x", "POST /ep"), ("POST /ep", "POST /x")])
def test_later_steps_on_another_route_go_before_new_transactions(
    store: Store, routes: tuple[str, str]
) -> None:
    rig = Rig(store, APP, EP)
    first, *_ = rig.line_up(40, *routes)
    rig.fill()
    assert rig.ring(threads=1) == [first]
    assert rig.serve(first) is Settled.BACKLOG

    assert rig.ring(threads=1) == [first]


def test_a_flow_is_forgotten_when_nothing_waits_in_it_any_more(store: Store) -> None:
    rig = Rig(store, APP)
    first, second = rig.line_up(2)
    rig.fill()
    rig.ring()
    rig.serve(first)
    rig.serve(second, verdict=LATER)
    rig.ring()
    assert store.scard(rig.keys.active) == 1  # the second one waits for its backoff

    assert rig.ring_on(2 * S) == [second]
    rig.serve(second)
    rig.ring()

    assert store.scard(rig.keys.active) == 0


# The ledger


def test_a_page_that_is_accepted_twice_is_stored_and_counted_once(store: Store) -> None:
    rig = Rig(store, APP)
    rig.ledger.begin(a_job("j1"))

    for _ in range(2):
        assert rig.ledger.accept("j1", 0, [{}, {}], PageCounts(rejected=1, calls=1)) == 1

    job = rig.ledger.job("j1")
    assert job is not None
    assert (job.pages, job.rows, job.ended) == (1, 2, 1)


def test_a_page_that_is_opened_twice_is_released_once(store: Store) -> None:
    rig = Rig(store)
    job = rig.accept(1, pages=2)
    flow = flows.flow(rig.client, 1, "-", "POST /x")
    page = [NewTransaction("key", flow.id, "k", 1, 0)]

    opened = [rig.ledger.open(job, 0, rig.definitions(flow), page, []) for _ in range(2)]

    assert opened == [True, False]
    assert rig.governed("q") == {"1": 1}
    assert job_hash(rig, job)["released"] == "1"
    assert not rig.ledger.open(job, 2, rig.definitions(flow), page, [])  # nor out of order
    assert not rig.ledger.open("nobody", 0, rig.definitions(flow), page, [])


def test_joined_rows_end_as_the_first_before_and_after_its_end(store: Store) -> None:
    rig = Rig(store)
    first, *_ = rig.line_up(1)
    before = rig.line_up(0, joined=(first, first))
    del before
    rig.ring()

    rig.serve(first, verdict=FAILED)
    rig.line_up(0, joined=(first,))

    assert job_hash(rig, "j1")["failed"] == "3"
    assert job_hash(rig, "j3") == job_hash(rig, "j3") | {"failed": "1", "ended": "1"}
    assert "finished_us" in job_hash(rig, "j3")


def test_the_counters_and_the_open_rows_sum_to_the_rows_at_any_time(store: Store) -> None:
    rig = Rig(store)
    keys = rig.line_up(6, "POST /x", guards="n", rejected=2)
    ends: list[Verdict | None] = [
        DONE,
        FAILED,
        Finish(state="unknown", outcome=Outcome.UNKNOWN, error="?"),
        Finish(state="cancelled", outcome=Outcome.NOT_EXECUTED),
        RETRY,
        None,  # its worker dies
    ]
    rig.ring()

    for key, verdict in zip(keys, ends, strict=True):
        grant = rig.grant(key)
        if verdict:
            rig.governor.settle(grant, verdict)
        _must_sum(rig, keys)
    assert "finished_us" not in job_hash(rig, "j1")
    rig.us += LEASE_US
    rig.governor.sweep()
    _must_sum(rig, keys)
    rig.ring()
    rig.serve(keys[4])

    _must_sum(rig, keys)
    job = job_hash(rig, "j1")
    assert {state: job[state] for state in FINAL if state in job} == {
        "succeeded": "2",
        "failed": "1",
        "unknown": "2",
        "cancelled": "1",
        "rejected": "2",
    }
    assert job["finished_us"] == str(rig.us)


def _must_sum(rig: Rig, keys: list[str]) -> None:
    job = job_hash(rig, "j1")
    still_open = sum(len(state) == 1 for state in rig.states(keys).elements())
    ended = sum(int(job.get(state, 0)) for state in FINAL)
    assert ended == int(job["ended"])
    assert ended + still_open == int(job["rows"])


def test_a_job_asks_for_its_next_page_when_few_are_unfinished(store: Store) -> None:
    rig = Rig(store)
    job = rig.accept(1, pages=3)
    store.hset(rig.keys.job(job), "low", 1)
    flow = flows.flow(rig.client, 1, "-", "POST /x")
    assert rig.governor.ring("w", 8).needs_page == job

    asked = []
    for page in range(3):
        opened = [NewTransaction(f"key{page}", flow.id, "k", 1, 0)]
        rig.ledger.open(job, page, rig.definitions(flow), opened, [])
        asked.append(rig.governor.ring("w", 8).needs_page)
        rig.serve(f"key{page}")
        asked.append(rig.governor.ring("w", 8).needs_page)

    assert asked == ["", job, "", job, "", ""]


def test_one_pacer_at_a_time_opens_the_next_page_and_another_when_that_one_died(
    store: Store,
) -> None:
    rig = Rig(store)
    job = rig.accept(1, pages=2)
    assert [rig.governor.ring("w1", 8).needs_page for _ in range(2)] == [job, ""]

    rig.us += 250 * MS  # the page of the first one is not open yet
    rig.free()
    assert rig.governor.ring("w2", 8).needs_page == job

    flow = flows.flow(rig.client, 1, "-", "POST /x")
    rig.ledger.open(job, 0, rig.definitions(flow), [NewTransaction("key", flow.id, "k", 1, 0)], [])
    assert rig.governor.ring("w2", 8).needs_page == job


def test_the_grants_of_the_newest_sixteen_seconds_are_kept_and_no_older_ones(store: Store) -> None:
    rig = Rig(store)
    for key in rig.line_up(90):
        assert rig.ring(threads=1, after_us=S // 2) == [key]
        rig.serve(key)

    counts = GovernorState.read(store, rig.keys).grants_by_second()
    newest = rig.us // S
    assert sorted(counts) == list(range(newest - 15, newest + 1))
    assert {counts[newest - ago] for ago in range(1, 16)} == {2}


def test_a_limit_that_is_taken_out_and_put_back_is_whole_again(store: Store) -> None:
    rig = Rig(store, APP, EP)
    rig.line_up(9, "POST /ep")
    rig.fill()
    rung = rig.ring(after_us=0)
    without = rig.client.model_copy(update={"limits": (APP,)})

    flows.refresh(store, rig.keys, without)
    for key in rung:
        rig.serve(key)
    flows.refresh(store, rig.keys, rig.client)
    rig.fill()

    assert rig.governed("b") == {}
    assert len(rig.ring(after_us=0)) == 2


# Keys of a wrong type


def _ring(rig: Rig) -> None:
    rig.ring()


def _admit(rig: Rig) -> None:
    rig.governor._run("admit", "j1-000", 1, "fence", LEASE_US, S, "", "client")


def _admit_in_vain(rig: Rig) -> None:
    rig.store.hset(rig.keys.governor, "c:app", rig.us + S)
    _admit(rig)


def _rotate(rig: Rig) -> None:
    rig.governor._run("rotate", "j1-000", 1, 1, 1, 3, *audit.addition("rotate key"))


def _rotate_in_vain(rig: Rig) -> None:
    rig.governor._run("rotate", "j1-000", 1, 1, 1, 1, *audit.addition("rotate key"))


def _settle(verdict: Verdict) -> Callable[[Rig], None]:
    def settle(rig: Rig) -> None:
        rig.governor._run("settle", "j1-001", 1, "held", to_json(verdict), GRACE_US)

    return settle


def _settle_needs_page(rig: Rig) -> None:
    _settle(FAILED)(rig)


def _roll_clock_back(rig: Rig) -> None:
    rig.us -= 9 * S
    rig.governor._run("clock_rollback")


def _sweep(rig: Rig) -> None:
    rig.us += LEASE_US
    rig.governor.sweep()


def _requeue(rig: Rig) -> None:
    rig.governor.requeue("j1-000", 1)


def _open(rig: Rig) -> None:
    flow = flows.flow(rig.client, 2, "-", "POST /x")
    page = [NewTransaction("j2-000", flow.id, "k", 1, 0)]
    rig.ledger.open("j2", 0, rig.definitions(flow), page, ["j1-000"])


def _accept(rig: Rig) -> None:
    rig.ledger.accept("j3", 0, [{}], PageCounts(calls=1))


def _start(rig: Rig) -> None:
    rig.ledger.start("j3")


APP_CLIENT = ClientSettings(name="acme", base_url="http://provider", limits=(APP,))
BACKLOG = flows.flow(APP_CLIENT, 1, "-", "POST /x").id
WRITES: dict[Callable[[Rig], None], str] = {
    _ring: "gov flows deadlines retries quarantine active needs_page",
    _admit: "tx:j1-000 gov flows deadlines",
    _admit_in_vain: f"gov deadlines retries active backlog:{BACKLOG}:due",
    _rotate: f"tx:j1-000 gov flows deadlines retries active audit backlog:{BACKLOG}:due",
    _rotate_in_vain: "gov deadlines dead job:j1",
    _settle(DONE): f"tx:j1-001 gov flows deadlines backlog:{BACKLOG}:due active",
    _settle(FAILED): "deadlines job:j1 dead attempts",
    _settle_needs_page: "deadlines job:j1 dead needs_page",
    _roll_clock_back: "gov flows deadlines retries quarantine permits",
    _settle(LATER): f"gov deadlines retries backlog:{BACKLOG}:due active",
    _settle(RETRY): "gov deadlines retries",
    _sweep: ("gov flows deadlines retries quarantine active dead attempts needs_page"),
    _requeue: f"tx:j1-000 gov flows deadlines retries active backlog:{BACKLOG}:due",
    _open: "job:j2 flows gov active needs_page deadlines dead",
    _accept: "job:j3",
    _start: "job:j3 needs_page",
}


def test_a_page_is_opened_although_a_key_of_a_wrong_type_stands_where_it_goes(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    rig.line_up(1)
    rig.accept(1)
    moved = f"backlog:{flows.flow(APP_CLIENT, 2, '-', 'POST /x').id}", "tx:j2-000"
    for name in moved:
        store.set(rig.keys.prefix + name, "of another kind")

    flow = flows.flow(rig.client, 2, "-", "POST /x")
    page = [NewTransaction("j2-000", flow.id, "k", 1, 0)]
    assert rig.ledger.open("j2", 0, rig.definitions(flow), page, [])

    assert {*store.hkeys(rig.keys.damaged)} == {*moved}
    assert store.get(f"{rig.keys.prefix}damaged:tx:j2-000") == "of another kind"
    assert rig.state("j2-000") == "w"


@pytest.mark.parametrize(
    ("act", "name"),
    [
        pytest.param(act, name, id=f"{number}{act.__name__}-{name}")
        for number, (act, names) in enumerate(WRITES.items())
        for name in names.split()
    ],
)
def test_a_key_of_a_wrong_type_stops_a_script_before_its_first_write(
    store: Store, act: Callable[[Rig], None], name: str
) -> None:
    rig = Rig(store, APP)
    rig.line_up(4, "POST /x", "POST /x", guards="n")  # j1: rung, sent, counting down, waiting
    rig.accept(2)  # j2: its page waits to be opened
    rig.ledger.begin(a_job("j3", low=1))
    if act is _start:
        _accept(rig)
    rig.fill()
    rig.ring(threads=3)
    rig.serve("j1-002", verdict=RETRY)
    rig.governor._run("admit", "j1-001", 1, "held", LEASE_US, S, "", "client")
    rig.us += 2 * S  # the countdown is over, and the ring has yet to see it
    full = rig.keys.prefix + name
    store.delete(full)
    store.set(full, "of another kind")
    if act is _admit_in_vain and name != "gov":
        store.hset(rig.keys.governor, "c:app", rig.us + S)
    if act is _settle_needs_page and name != "job:j1":
        store.hset(rig.keys.job("j1"), "pages", 2)
    before = rig.dump()

    with pytest.raises(LedgerDamaged):
        act(rig)

    after = rig.dump()
    assert [it for it in before | after if before.get(it) != after.get(it)] == []


def test_in_a_store_without_memory_an_answer_is_still_recorded_and_nothing_new_leaves(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    store.function_flush()  # what settles is loaded by the first script that runs
    first, second = rig.line_up(2)
    rig.fill()
    assert rig.ring() == [first, second]
    grant = rig.governor.admit(first, 1)
    assert isinstance(grant, Grant)
    store.config_set("maxmemory", 1)
    try:
        assert rig.governor.settle(grant, DONE) is Settled.END
        rig.governor.requeue(second, 1)
        with pytest.raises(StoreAway, match="OutOfMemory"):
            rig.ring()
    finally:
        store.config_set("maxmemory", 0)
    assert (rig.state(first), rig.state(second)) == ("succeeded", "w")


def test_the_reserve_of_a_burst_is_for_urgent_calls_and_no_part_of_the_rate(store: Store) -> None:
    rig = Rig(store, LimitSettings(name="app", count=10, burst=5, rate=8, reserve=2))
    bulk = rig.line_up(100, lane=2)
    rig.fill()
    assert rig.ring(after_us=0) == bulk[:3]

    urgent = rig.line_up(4, lane=0)
    assert rig.ring(after_us=0) == urgent[:2]

    for key in (*bulk[:3], *urgent[:2]):
        rig.serve(key)
    later = []
    for _ in range(10 * S // TICK_US):
        rung = rig.ring()
        later += rung
        for key in rung:
            rig.serve(key)
    assert len(later) in (78, 79, 80)  # 10 s at 8/s; the reserve was filled first


def test_no_more_calls_are_out_than_a_limit_has_places_and_their_end_frees_them(
    store: Store,
) -> None:
    few = LimitSettings(name="few", count=2, shape="concurrent", match="POST /few")
    rig = Rig(store, APP, few)
    keys, free = rig.line_up(4, "POST /few"), rig.line_up(2, "POST /free")
    rig.fill()

    rung = rig.ring(after_us=0)
    assert sorted(rung) == sorted([*keys[:2], *free])  # who needs no place does not wait
    first, second = (rig.grant(key) for key in keys[:2])
    assert rig.governed("l") == {"few": 2}
    rig.fill()
    assert rig.ring() == []

    rig.governor.settle(first, DONE)
    rig.fill()
    assert rig.ring() == [keys[2]]
    rig.us += LEASE_US  # the worker of the second one died
    rig.governor.sweep()
    assert rig.governed("l") == {}
    assert rig.governor.settle(second, DONE) is Settled.END  # its place is free once
    assert rig.governed("l") == {}


def test_a_pause_holds_its_route_only_until_a_second_one_is_refused_in_the_same_second(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    a, b, c = rig.line_up(3, "POST /a"), rig.line_up(3, "POST /b"), rig.line_up(99, "POST /c")
    rig.fill()
    rig.ring(after_us=0)
    refused = replace(HELD, pause=Pause(60.0))
    on_a, on_b = rig.grant(a[0]), rig.grant(b[0])

    rig.governor.settle(on_a, refused)
    rig.fill()
    rung = set(rig.ring(after_us=0))
    assert rung & set(c)
    assert not rung & set(a)

    for key in (*a, *b, *c):
        rig.governor.requeue(key, 1)  # no bell is out that would take the tokens
    rig.us += 900 * MS
    rig.governor.settle(on_b, refused)
    assert rig.ring_on(30 * S) == []


def test_routes_refused_at_other_times_are_paused_each_for_itself(store: Store) -> None:
    rig = Rig(store, APP)
    a, b, c = rig.line_up(3, "POST /a"), rig.line_up(3, "POST /b"), rig.line_up(9, "POST /c")
    rig.fill()
    rig.ring(after_us=0)
    refused = replace(HELD, pause=Pause(7200.0))
    on_a, on_b = rig.grant(a[0]), rig.grant(b[0])

    rig.governor.settle(on_a, refused)
    rig.us += 1100 * MS
    rig.governor.settle(on_b, refused)

    assert {key[:2] for key in rig.ring_on(5 * S)} == {c[0][:2]}
