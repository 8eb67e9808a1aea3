"""Answers of 429 by a held clock: whose fault each is, what it holds, and when it ends its row.

The rules are those of lua/includes/own_refusals.lua.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.rig import DONE, FAILS, LATER, TICK_US, Rig, S, breaker, resume
from tests.support.stored import transaction_hash
from workers.answer.outcome import Health, Outcome
from workers.answer.verdict import GiveUp, Pause, Requeue, Retry
from workers.governor.grants import Grant, Settled
from workers.ledger import audit
from workers.settings.limits import LimitSettings, bucket_of

if TYPE_CHECKING:
    from workers.store.connection import Store

#: A limit that never binds: what is held here is held by refusals.
WIDE = LimitSettings(name="app", count=10_000, shape="bucket", reserve=0, match="POST /x")
GIVE_UP = GiveUp(state="failed", max_retries=1, patience_s=600.0)
#: As the worker judges a 429 that orders one second.
REFUSED = Requeue(
    outcome=Outcome.NOT_EXECUTED,
    throttled=True,
    status=429,
    pause=Pause(1.0),
    delay_s=2.0,
    give_up=GIVE_UP,
    error="the provider answered 429",
)
#: Good answers after which a refusal is over.
ENOUGH = 8


def a_rig(store: Store, rows: int = 300) -> Rig:
    rig = Rig(store, WIDE)
    rig.line_up(rows)
    rig.fill()
    return rig


def held_us(rig: Rig) -> int:
    """How long from now on nothing may leave."""
    bucket = bucket_of(WIDE)
    hold = rig.governed("c")["app"] - bucket.interval_us * bucket.burst
    return max(0, hold - rig.us)


def calls(rig: Rig, count: int) -> list[Grant]:
    """So many calls that are out, of rows that never went; bells of others go back."""
    found: list[Grant] = []
    for _ in range(400):
        for key in rig.ring():
            is_fresh = "t1" not in transaction_hash(rig, key)
            if is_fresh and len(found) < count:
                found.append(rig.grant(key))
            else:
                rig.governor.requeue(key, 1)
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} of {count} calls were granted")


def again(rig: Rig, key: str, after_us: int = 3 * S) -> Grant:
    """The row once more, when it is due; bells of others go back."""
    rig.us += after_us
    for _ in range(400):
        rung = rig.ring()
        for other in set(rung) - {key}:
            rig.governor.requeue(other, 1)
        if key in rung:
            return rig.grant(key)
    raise AssertionError(f"{key} was not rung")


def serve(rig: Rig, count: int) -> None:
    """So many other rows are answered well."""
    for grant in calls(rig, count):
        rig.governor.settle(grant, DONE)


def refuse_again(rig: Rig, key: str, good: int = ENOUGH, verdict: Requeue = REFUSED) -> Settled:
    """The row is refused once more, after so many good answers to others."""
    rig.us += S + 1
    serve(rig, good)
    return rig.governor.settle(again(rig, key), verdict)


def refused(rig: Rig, verdict: Requeue = REFUSED) -> str:
    """A row that is refused for the first time."""
    (grant,) = calls(rig, 1)
    assert rig.governor.settle(grant, verdict) is Settled.BACKLOG
    return grant.key


def first_calls(rig: Rig, count: int) -> list[Grant]:
    """So many calls that are out, three at most, of the rows that are first; none goes back."""
    return [rig.grant(key) for key in rig.ring(count)]


def ring_later(rig: Rig, threads: int = 100) -> list[str]:
    """The keys that are rung in one beat, when all that were refused are due and limits full."""
    rig.us += 3 * S
    rig.fill()
    return rig.ring(threads)


def attempts(rig: Rig, key: str) -> int:
    return int(transaction_hash(rig, key)["at"])


# Whose it is.


def test_the_first_429_of_a_row_holds_its_scope(store: Store) -> None:
    rig = a_rig(store)

    refused(rig)

    assert held_us(rig) == S


def test_a_row_that_is_refused_again_while_others_go_through_waits_alone(store: Store) -> None:
    rig = a_rig(store)
    key = refused(rig)

    assert refuse_again(rig, key) is Settled.APART

    assert held_us(rig) == 0
    assert refuse_again(rig, key) is Settled.STILL_APART
    assert held_us(rig) == 0


@pytest.mark.parametrize("good", [0, ENOUGH - 1])
def test_too_few_good_answers_show_nothing(store: Store, good: int) -> None:
    rig = a_rig(store)
    key = refused(rig)

    assert refuse_again(rig, key, good) is Settled.BACKLOG

    assert held_us(rig) == S


def test_good_answers_to_calls_that_were_out_already_show_nothing(store: Store) -> None:
    rig = a_rig(store)
    bad, *others = calls(rig, ENOUGH + 1)
    rig.governor.settle(bad, REFUSED)
    for grant in others:
        rig.governor.settle(grant, DONE)

    assert refuse_again(rig, bad.key, 0) is Settled.BACKLOG

    assert held_us(rig) == S


def test_where_other_rows_were_just_refused_in_a_row_a_row_holds_the_scope_with_them(
    store: Store,
) -> None:
    rig = a_rig(store)
    key = refused(rig)
    rig.us += S + 1
    serve(rig, ENOUGH)
    for grant in calls(rig, 2):
        rig.governor.settle(grant, REFUSED)

    assert rig.governor.settle(again(rig, key), REFUSED) is Settled.BACKLOG

    assert held_us(rig) == S


def test_a_refusal_is_not_over_for_others_because_its_row_is_done(store: Store) -> None:
    rig = a_rig(store)
    first, second = calls(rig, 2)
    for grant in (first, second):
        rig.governor.settle(grant, REFUSED)

    rig.governor.settle(again(rig, second.key), DONE)

    assert not rig.store.exists(rig.keys.evidence)
    assert refuse_again(rig, first.key, 0) is Settled.BACKLOG
    assert held_us(rig) == S


def test_a_first_refusal_holds_the_scope_whatever_others_were_answered(store: Store) -> None:
    rig = a_rig(store)
    key = refused(rig)
    refuse_again(rig, key)

    refused(rig)

    assert held_us(rig) == S


# What it holds, where the provider does not say for how long.


def test_a_hold_is_twice_as_long_as_the_one_before_whichever_row_is_refused(store: Store) -> None:
    rig = a_rig(store)
    unordered = replace(REFUSED, pause=Pause(1.0, most_s=6.0))
    holds = []
    for _ in range(5):
        refused(rig, unordered)
        holds.append(held_us(rig) / S)
        rig.us += held_us(rig) + 1

    assert holds == [1, 2, 4, 6, 6]

    serve(rig, 1)
    refused(rig, unordered)
    assert held_us(rig) == S


def test_calls_that_were_out_together_do_not_double_the_hold(store: Store) -> None:
    rig = a_rig(store)
    for grant in calls(rig, 5):
        rig.governor.settle(grant, replace(REFUSED, pause=Pause(1.0, most_s=30.0)))

    assert held_us(rig) == S


# When it ends its row.


def test_a_row_that_is_refused_alone_ends_by_its_attempts(store: Store) -> None:
    rig = a_rig(store)
    key = refused(rig)
    seen = []
    while (settled := refuse_again(rig, key)) is not Settled.END:
        seen.append((settled, attempts(rig, key)))

    assert seen == [(Settled.APART, 0), (Settled.STILL_APART, 1)]
    assert transaction_hash(rig, key)["s"] == "failed"
    assert transaction_hash(rig, key)["e"] == "the provider answered 429"
    assert not rig.store.exists(rig.keys.evidence)


def test_it_is_no_attempt_when_another_row_was_refused_since(store: Store) -> None:
    rig = a_rig(store)
    key = refused(rig)
    refuse_again(rig, key)
    for _ in range(4):
        refused(rig)
        assert refuse_again(rig, key) is Settled.STILL_APART

    assert attempts(rig, key) == 0


def test_then_it_ends_by_its_patience(store: Store) -> None:
    rig = a_rig(store)
    key = refused(rig)
    refuse_again(rig, key)
    for _ in range(10):
        rig.us += 60 * S
        refused(rig)
        settled = refuse_again(rig, key)

    assert settled is Settled.END

    assert "so it went for" in transaction_hash(rig, key)["e"]


def test_a_lone_row_ends_by_its_patience_and_not_by_its_attempts(store: Store) -> None:
    rig = a_rig(store, 1)
    key = refused(rig)
    for _ in range(10):
        assert rig.governor.settle(again(rig, key), REFUSED) is Settled.BACKLOG
        assert held_us(rig) == S

    for _ in range(9):
        rig.us += 57 * S
        assert rig.governor.settle(again(rig, key), REFUSED) is Settled.BACKLOG
    rig.us += 57 * S
    assert rig.governor.settle(again(rig, key), REFUSED) is Settled.END

    assert attempts(rig, key) == 0
    assert transaction_hash(rig, key)["s"] == "failed"


@pytest.mark.parametrize("rows", [2, 15])
def test_a_few_rows_that_are_all_refused_for_ever_end_by_their_patience(
    store: Store, rows: int
) -> None:
    rig = a_rig(store, rows)
    keys = []
    for _ in range(rows):
        keys.append(refused(rig))
        rig.us += S + 1
    for _ in range(12):
        for key in [key for key in keys if rig.state(key) == "w"]:
            rig.governor.settle(again(rig, key, 60 * S), REFUSED)

    assert rig.states(keys) == Counter(failed=rows)
    assert "so it went for" in transaction_hash(rig, keys[0])["e"]
    assert {transaction_hash(rig, key)["at"] for key in keys} == {"0"}


def test_no_row_ends_where_a_whole_scope_refuses(store: Store) -> None:
    rig = a_rig(store, 16)
    keys = []
    for _ in range(16):
        keys.append(refused(rig))
        rig.us += S + 1
    for _ in range(20):
        for key in keys[:3]:
            settled = rig.governor.settle(again(rig, key, 60 * S), REFUSED)
            assert settled is Settled.BACKLOG

    assert [attempts(rig, key) for key in keys] == [0] * 16


def test_several_rows_that_are_refused_for_ever_hold_no_other_and_end_by_their_attempts(
    store: Store,
) -> None:
    rig = a_rig(store)
    bad = []
    for _ in range(20):
        bad.append(refused(rig))
        rig.us += held_us(rig) + 1
        serve(rig, 2)
    settled = []
    for _ in range(3):
        serve(rig, ENOUGH + 2)
        for key in bad:
            settled.append(rig.governor.settle(again(rig, key), REFUSED))
            assert held_us(rig) == 0

    assert settled == [Settled.APART] * 20 + [Settled.STILL_APART] * 20 + [Settled.END] * 20


def test_rows_of_which_a_half_is_refused_at_first_are_judged_once_all_were_tried(
    store: Store,
) -> None:
    rig = a_rig(store)
    bad = []
    for _ in range(ENOUGH):
        bad.append(refused(rig))
        rig.us += held_us(rig) + 1
        serve(rig, 1)
    serve(rig, ENOUGH)

    assert {rig.governor.settle(again(rig, key), REFUSED) for key in bad} == {Settled.APART}


def test_a_wait_that_is_ordered_is_not_cut_by_the_patience(store: Store) -> None:
    rig = a_rig(store)
    key = refused(rig)
    hour = replace(REFUSED, pause=Pause(3600.0), delay_s=3601.0)

    refuse_again(rig, key, verdict=hour)

    ((_, due),) = [
        pair
        for name in rig.store.scan_iter(f"{rig.keys.prefix}backlog:*:due")
        for pair in rig.store.zrange(name, 0, -1, withscores=True)
        if pair[0] == key
    ]
    assert due >= rig.us + 3600 * S


@pytest.mark.parametrize("rows", [1, 5])
def test_a_few_rows_that_obey_an_order_of_hours_lose_no_patience_by_it(
    store: Store, rows: int
) -> None:
    rig = a_rig(store, rows)
    hour = replace(REFUSED, pause=Pause(3600.0), delay_s=3601.0, retry_after_s=3600.0)
    keys = [refused(rig, hour)]
    for _ in range(rows - 1):
        rig.us += 3600 * S
        keys.append(refused(rig, hour))
    for _ in range(8 // rows or 2):  # before their keys are 23 h old
        for key in keys:
            rig.us += 3602 * S
            assert rig.governor.settle(again(rig, key), hour) is Settled.BACKLOG

    assert rig.states(keys) == Counter(w=rows)


@pytest.mark.parametrize("ordered_s", [59, 61, 120])
def test_a_lone_row_that_is_refused_for_ever_ends_also_where_each_429_orders_a_wait(
    store: Store, ordered_s: int
) -> None:
    rig = a_rig(store, 1)
    ordered = replace(
        REFUSED,
        pause=Pause(ordered_s),
        delay_s=ordered_s + 1.0,
        retry_after_s=float(ordered_s),
    )
    key = refused(rig, ordered)
    sends = 1
    while rig.governor.settle(again(rig, key, (ordered_s + 1) * S), ordered) is not Settled.END:
        sends += 1

    assert 10 <= sends <= 12


def test_a_refusal_of_which_nothing_more_is_heard_is_open_for_ten_minutes(store: Store) -> None:
    rig = a_rig(store)
    refused(rig)
    field = "429:app"
    assert rig.store.hexists(rig.keys.governor, field)

    rig.us += 600 * S - TICK_US
    rig.ring(threads=0)
    assert rig.store.hexists(rig.keys.governor, field)
    rig.ring(threads=0)

    assert not rig.store.hexists(rig.keys.governor, field)


def test_an_ordered_wait_that_an_operator_ended_is_no_gift_to_the_patience(store: Store) -> None:
    rig = a_rig(store, 1)
    (grant,) = calls(rig, 1)
    bad = Retry(
        outcome=Outcome.NOT_EXECUTED, status=503, health=Health.BAD, delay_s=1.0, give_up=GIVE_UP
    ).from_backlog()
    rig.governor.settle(grant, bad)
    hour = replace(REFUSED, pause=Pause(3600.0), delay_s=3601.0, retry_after_s=3600.0)
    rig.governor.settle(again(rig, grant.key), replace(hour, give_up=None))
    assert resume(rig, everything=True)

    began = rig.us
    while rig.governor.settle(again(rig, grant.key, 50 * S), bad) is not Settled.END:
        assert rig.us - began < 3600 * S

    assert 500 * S < rig.us - began < 700 * S


def test_no_refusal_ends_a_row_or_is_its_own_while_a_breaker_is_open(store: Store) -> None:
    rig = a_rig(store)
    key = refused(rig)
    rig.us += S + 1
    serve(rig, ENOUGH)
    bad = again(rig, key)
    for grant in calls(rig, 16):
        rig.governor.settle(grant, FAILS)
    assert breaker(rig, "app") or breaker(rig)
    rig.us += 700 * S

    assert rig.governor.settle(bad, REFUSED) is not Settled.APART
    assert transaction_hash(rig, key)["s"] == "w"


def test_a_replayed_row_is_compared_anew(store: Store) -> None:
    rig = a_rig(store)
    key = refused(rig)
    while refuse_again(rig, key) is not Settled.END:
        pass
    letter = transaction_hash(rig, key)["d"]
    rig.ledger.replay(key, letter, audit.addition("dead replay", key=key), not_executed=False)

    assert rig.governor.settle(again(rig, key), REFUSED) is Settled.BACKLOG

    assert held_us(rig) == S


# Who goes first.


def test_eight_others_go_before_each_row_that_was_refused(store: Store) -> None:
    rig = a_rig(store)
    bad = first_calls(rig, 2)
    for grant in bad:
        rig.governor.settle(grant, REFUSED)

    rung = ring_later(rig)

    assert [rung.index(grant.key) for grant in bad] == [8, 17]


def test_the_turns_of_others_are_counted_from_one_ring_to_the_next(store: Store) -> None:
    rig = a_rig(store)
    (bad,) = first_calls(rig, 1)
    rig.governor.settle(bad, REFUSED)

    rung = [ring_later(rig, threads) for threads in (4, 8, 12)]  # at most 125 % of these are out

    assert [bad.key in keys for keys in rung] == [False, True, False]


def test_rows_that_were_refused_go_at_once_where_nobody_else_waits(store: Store) -> None:
    rig = a_rig(store, 3)
    keys = [refused(rig)]
    for _ in range(2):
        rig.us += S + 1
        keys.append(refused(rig))

    assert ring_later(rig) == keys


def test_a_row_that_is_due_and_was_not_refused_goes_first(store: Store) -> None:
    rig = a_rig(store)
    again_later, bad = first_calls(rig, 2)
    rig.governor.settle(again_later, LATER)
    rig.governor.settle(bad, REFUSED)

    rung = ring_later(rig)

    assert rung.index(again_later.key) == 0
    assert rung.index(bad.key) == 8


def test_once_the_refusal_is_over_what_is_due_goes_first(store: Store) -> None:
    rig = a_rig(store)
    (bad,) = first_calls(rig, 1)
    rig.governor.settle(bad, REFUSED)
    rig.us += S + 1
    rig.fill()
    for _ in range(ENOUGH):
        (grant,) = first_calls(rig, 1)
        rig.governor.settle(grant, DONE)

    assert ring_later(rig)[0] == bad.key


@pytest.mark.parametrize("share", [10, 2])
def test_good_rows_lose_a_hold_for_each_row_that_is_always_refused_and_for_each_eight_rows(
    store: Store, share: int
) -> None:
    rig = a_rig(store, 100)
    unordered = replace(REFUSED, pause=Pause(1.0, most_s=30.0), delay_s=1.5)
    bad = {f"j1-{i:03}" for i in range(0, 100, share)}
    good = {f"j1-{i:03}" for i in range(100)} - bad
    holds = 0
    begun_us = rig.us
    while any(rig.state(key) != "succeeded" for key in good):
        assert rig.us - begun_us < 300 * S
        for key in rig.ring(2):
            if isinstance(grant := rig.governor.admit(key, 1), Grant):
                was_held = held_us(rig)
                rig.governor.settle(grant, unordered if key in bad else DONE)
                holds += held_us(rig) > was_held

    assert holds <= len(bad) + 100 / 8
