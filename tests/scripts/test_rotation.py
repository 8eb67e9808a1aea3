"""Keys that grow old: replaced when that is safe, and not otherwise; by a held clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.rig import APP, DONE, LATER, LEASE_US, RETRY, Rig, S
from tests.support.stored import job_hash, transaction_hash
from workers.answer.guards import Memo, NextCall
from workers.answer.outcome import Answer, Outcome
from workers.answer.verdict import Requeue, Verdict, continue_step
from workers.governor.governor import KEY_LIFE_S, MOST_KEYS, QUIET_S
from workers.governor.grants import KeyExpired, Settled
from workers.ledger import attempts, audit

if TYPE_CHECKING:
    from workers.store.connection import Store

DAY_US = 24 * 3600 * S
REFUSED_KEY = Requeue(
    outcome=Outcome.NOT_EXECUTED, attempt=True, memo=Memo(next=NextCall.FRESH_KEY), status=409
)


def a_sent_one(store: Store, verdict: Verdict = LATER, steps: int = 1) -> tuple[Rig, str]:
    """A transaction that was sent once, with this verdict."""
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, *["POST /x"] * steps)
    rig.fill()
    rig.ring()
    rig.serve(key, verdict=verdict)
    return rig, key


def ring_later(rig: Rig, key: str, us: int) -> None:
    """Time goes by, and then it is rung."""
    rig.us += us
    rig.fill()
    assert rig.ring_on(S) == [key]


def spend_keys(rig: Rig, key: str) -> None:
    """It is sent in vain under all but the last of the keys that a step may have."""
    for _ in range(MOST_KEYS - 1):
        ring_later(rig, key, DAY_US)
        assert rig.rotate(key) == "old: fresh"
        assert rig.ring_on(S) == [key]
        rig.serve(key, verdict=LATER)


def test_a_key_that_was_never_executed_is_replaced_and_the_attempts_begin_anew(
    store: Store,
) -> None:
    failed = Requeue(outcome=Outcome.NOT_EXECUTED, attempt=True)
    rig, key = a_sent_one(store, failed)
    sent_us = int(transaction_hash(rig, key)["t1"])
    ring_later(rig, key, DAY_US)
    charged = rig.governed("c")

    assert rig.rotate(key) == "old: fresh"

    assert rig.governed("c") == charged  # it is no call
    assert rig.governed("b") == {}
    (entry,) = audit.read(store, rig.keys)
    told = (entry.action, entry.key, entry.reason, entry.facts["attempts"])
    assert told == ("rotate key", key, "too old for the provider to remember it", "1")
    assert entry.facts["first_sent_us"] == str(sent_us)
    assert rig.ring_on(S) == [key]
    fresh = rig.grant(key)
    assert (fresh.generation, fresh.attempts, fresh.key) == (2, 0, key)
    assert int(transaction_hash(rig, key)["t1"]) == rig.us  # its age begins with its first send


def test_the_age_runs_from_the_first_send_and_not_from_the_wait_before_it(store: Store) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1)
    ring_later(rig, key, 5 * DAY_US)
    assert rig.serve(key, verdict=LATER) is Settled.BACKLOG
    ring_later(rig, key, (KEY_LIFE_S - 3600) * S)
    assert rig.grant(key).generation == 1


def test_a_key_is_kept_until_its_newest_send_is_long_over(store: Store) -> None:
    rig, key = a_sent_one(store)
    ring_later(rig, key, (KEY_LIFE_S - 120) * S)
    rig.serve(key, verdict=LATER)
    heard_us = rig.us
    ring_later(rig, key, 120 * S)

    assert rig.rotate(key) == "old: quiet"
    # Minutes of silence by long beats, the end of it by real ones.
    assert rig.ring_on(heard_us + QUIET_S * S - rig.us - 10 * S, beat_us=S // 4) == []
    assert rig.ring_on(heard_us + QUIET_S * S - rig.us - S) == []
    assert rig.ring_on(2 * S) == [key]
    assert rig.rotate(key) == "old: fresh"


def test_a_key_under_which_a_send_may_have_been_executed_is_never_replaced(store: Store) -> None:
    rig, key = a_sent_one(store, RETRY)
    rig.us += DAY_US
    rig.ring()  # the countdown is over

    assert rig.rotate(key) == "old: unknown"

    assert audit.read(store, rig.keys) == []
    assert [it["state"] for it in rig.dead()] == ["unknown"]
    assert job_hash(rig, "j1")["unknown"] == "1"
    assert rig.governed("b") == {}


def test_after_a_worker_died_under_a_send_its_key_is_never_replaced(store: Store) -> None:
    rig, key = a_sent_one(store)
    ring_later(rig, key, S)
    rig.grant(key)
    rig.us += LEASE_US
    rig.governor.sweep()
    ring_later(rig, key, DAY_US)

    assert rig.rotate(key) == "old: unknown"
    (told,) = attempts.read(store, rig.keys, rig.ledger.job("j1"), key)
    assert (told.step, told.what, told.outcome) == (1, "send", "unknown")


def test_each_step_and_each_replay_may_be_sent_under_as_many_keys_as_the_first(
    store: Store,
) -> None:
    rig, key = a_sent_one(store)
    spend_keys(rig, key)
    ring_later(rig, key, DAY_US)
    assert rig.rotate(key) == "old: failed"

    letter = transaction_hash(rig, key)["d"]
    rig.ledger.replay(key, letter, audit.addition("dead replay", key=key))
    assert rig.ring_on(S) == [key]

    assert rig.rotate(key) == "old: fresh"


def test_a_step_that_was_never_sent_is_not_held_to_the_keys_of_the_one_before(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, "POST /x", "POST /y")
    rig.fill()
    rig.ring()
    rig.serve(key, verdict=LATER)
    spend_keys(rig, key)
    assert rig.ring_on(3 * S) == [key]
    rig.serve(key)
    rig.us += DAY_US
    rig.governor.sweep()
    assert rig.ring_on(S) == [key]

    assert rig.rotate(key, 2) == "old: fresh"


def test_a_key_that_waits_says_what_for(store: Store) -> None:
    rig, key = a_sent_one(store)
    store.hset(rig.keys.transaction(key), "m", Memo(next=NextCall.FRESH_KEY).to_text())
    assert rig.ring_on(3 * S) == [key]

    assert rig.rotate(key) == "old: quiet"

    assert transaction_hash(rig, key)["e"].startswith("it waits for a fresh key")


def test_a_read_carries_no_key_and_goes_on_however_old_its_transaction_is(store: Store) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, "GET /x", guards="r")
    rig.fill()
    rig.ring()
    rig.grant(key)
    rig.us += LEASE_US
    rig.governor.sweep()
    ring_later(rig, key, DAY_US)

    assert rig.grant(key).generation == 1


def test_a_key_does_not_age_while_the_reads_before_its_first_send_wait(store: Store) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, "GET /x", "POST /x", guards="rk")
    rig.fill()
    rig.ring()
    rig.serve(key, verdict=continue_step(Answer(status=200), 30 * 3600))
    rig.us += 2 * DAY_US
    assert rig.ring_on(S) == [key]
    rig.serve(key)
    rig.us += DAY_US
    rig.governor.sweep()  # its bell, which nobody answered
    assert rig.ring_on(S) == [key]

    assert rig.grant(key, 2).generation == 1
    assert int(transaction_hash(rig, key)["t1"]) == rig.us


def test_keys_are_not_replaced_for_ever(store: Store) -> None:
    rig, key = a_sent_one(store)
    spend_keys(rig, key)
    ring_later(rig, key, DAY_US)

    assert rig.rotate(key) == "old: failed"

    assert len(audit.read(store, rig.keys)) == MOST_KEYS - 1
    assert f"under {MOST_KEYS} keys" in transaction_hash(rig, key)["e"]


def test_the_next_step_of_a_chain_that_waited_for_days_goes_under_a_fresh_key(store: Store) -> None:
    rig, key = a_sent_one(store, DONE, steps=2)
    rig.governor.requeue(key, 2)
    ring_later(rig, key, DAY_US)
    aged = rig.governor.admit(key, 2)
    assert isinstance(aged, KeyExpired)
    assert rig.governor.rotate(aged, audit.addition("rotate key", key=key)) == "old: fresh"
    assert rig.ring_on(S) == [key]
    assert rig.grant(key, 2).generation == 2


def test_a_key_that_the_provider_refuses_is_replaced_before_its_time(store: Store) -> None:
    rig, key = a_sent_one(store, REFUSED_KEY)
    assert rig.ring_on(S) == [key]

    assert rig.rotate(key) == "old: quiet"
    ring_later(rig, key, QUIET_S * S)
    assert rig.rotate(key) == "old: fresh"

    assert audit.read(store, rig.keys)[0].reason == "the provider takes it no more"
    assert rig.ring_on(S) == [key]
    assert rig.grant(key).memo == Memo()


@pytest.mark.parametrize("change", ["settled", "older"])
def test_a_rotation_that_comes_late_changes_nothing(store: Store, change: str) -> None:
    rig, key = a_sent_one(store)
    ring_later(rig, key, DAY_US)
    aged = rig.governor.admit(key, 1)
    assert isinstance(aged, KeyExpired)
    assert rig.rotate(key) == "old: fresh"
    assert rig.ring_on(S) == [key]
    if change == "settled":
        rig.serve(key)
    before = rig.dump()

    assert rig.governor.rotate(aged, audit.addition("rotate key")) == "old: drop"

    assert rig.dump() == before
