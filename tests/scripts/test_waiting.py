"""Transactions that wait for another one, by a held clock: each is woken once, however it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.rig import APP, FAILED, LEASE_US, MS, Rig, S, replayed, resume
from tests.support.stored import transaction_hash
from workers.answer.guards import Memo
from workers.answer.outcome import Outcome
from workers.answer.verdict import Advance, Awaited, Requeue
from workers.governor.grants import Settled
from workers.ledger import audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.answer.verdict import Verdict
    from workers.store.connection import Store

#: The step of the maker that the others wait for, and how long they wait at most.
MADE, AT_MOST_S = 2, 3600
NEXT = Advance(outcome=Outcome.EXECUTED, status=200)


def wait_for(maker: str, step: int = MADE) -> Requeue:
    """What a look comes to that was too early."""
    return Requeue(
        outcome=Outcome.EXECUTED,
        error="another row makes it",
        memo=Memo(),
        delay_s=AT_MOST_S,
        part_done=True,
        waits_for=Awaited(maker, step),
    )


def waiting(store: Store, guards: str = "k", count: int = 3) -> tuple[Rig, str, list[str]]:
    """A transaction of three calls, and some that were looked at and wait for its second one."""
    rig = Rig(store, APP)
    (maker,) = rig.line_up(1, *["POST /x"] * 3, guards=guards)
    waiters = rig.line_up(count, "calls", guards="r")
    for key in waiters:
        bring(rig, key)
        assert rig.serve(key, 1, wait_for(maker)) is Settled.BACKLOG
    return rig, maker, waiters


def bring(rig: Rig, key: str) -> None:
    """Ring until the bell of this transaction is out, and its limits are full."""
    for _ in range(400):
        if rig.state(key) == "r":
            rig.fill()
            return
        rig.ring()
    raise AssertionError("not rung in ten seconds")


def advance_to(rig: Rig, maker: str, step: int) -> None:
    """The maker does its steps before this one, whose bell is out then."""
    for done in range(int(transaction_hash(rig, maker)["k"]), step):
        bring(rig, maker)
        rig.serve(maker, done, NEXT)
    bring(rig, maker)


def rung_of(rig: Rig, keys: list[str], us: int = S) -> list[str]:
    """Which of these are rung in so many us."""
    return [key for key in rig.ring_on(us) if key in keys]


def test_who_waits_is_rung_once_when_the_step_is_done_and_not_before(store: Store) -> None:
    rig, maker, waiters = waiting(store)
    assert rung_of(rig, waiters, 60 * S) == []
    advance_to(rig, maker, 2)
    assert rung_of(rig, waiters) == []
    rig.fill()
    rig.serve(maker, 2, NEXT)

    assert rung_of(rig, waiters) == waiters
    assert [rig.serve(key) for key in waiters] == [Settled.END] * 3
    assert not store.exists(rig.keys.waiters(maker))
    assert "aw" not in transaction_hash(rig, maker)


def expire(rig: Rig, maker: str) -> None:
    """A worker dies under the maker, whose second step nothing guards."""
    rig.grant(maker, 2)
    rig.us += LEASE_US
    rig.governor.sweep()


def settled(verdict: Verdict) -> Callable[[Rig, str], object]:
    return lambda rig, maker: rig.serve(maker, 2, verdict)


def recovered(rig: Rig, maker: str) -> None:
    job = transaction_hash(rig, maker)["j"]
    assert rig.ledger.recover(job, rig.us - S, [maker], dry=False) == ["UNKNOWN"]


def rotated(rig: Rig, maker: str) -> None:
    store = rig.store
    old = {"t1": rig.us - 24 * 3600 * S, "u": 1}
    store.hset(rig.keys.transaction(maker), mapping=old)
    assert rig.rotate(maker, 2) == "old: unknown"


def damaged(rig: Rig, maker: str) -> None:
    store = rig.store
    store.hset(rig.keys.transaction(maker), "at", "no{such}thing")
    rig.us += 4 * S
    rig.governor.sweep()
    assert rig.state(maker) == "unknown"


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(settled(FAILED), id="failed"),
        pytest.param(settled(replace(FAILED, state="cancelled")), id="cancelled"),
        pytest.param(settled(replace(FAILED, state="expired")), id="expired"),
        pytest.param(expire, id="its worker died"),
        pytest.param(recovered, id="lost with a backup"),
        pytest.param(rotated, id="its key grew old"),
        pytest.param(damaged, id="damaged"),
    ],
)
def test_who_waits_is_rung_when_the_other_one_ends(
    store: Store, end: Callable[[Rig, str], object]
) -> None:
    rig, maker, waiters = waiting(store, guards="knk")
    advance_to(rig, maker, 2)

    end(rig, maker)

    assert rung_of(rig, waiters) == waiters


@pytest.mark.parametrize("then", ["was done", "ended"])
def test_who_looked_too_early_goes_again_at_once_when_it_was_done_meanwhile(
    store: Store, then: str
) -> None:
    rig, maker, (first, *_) = waiting(store)
    advance_to(rig, maker, 3)
    if then == "ended":
        rig.serve(maker, 3)
    bring(rig, first)

    assert rig.serve(first, 1, wait_for(maker)) is Settled.BACKLOG

    assert rung_of(rig, [first]) == [first]


def test_a_worker_that_dies_while_it_looks_leaves_nobody_unwoken(store: Store) -> None:
    rig, maker, waiters = waiting(store)
    (late,) = rig.line_up(1, "calls", guards="r")
    bring(rig, late)
    rig.grant(late)
    rig.us += LEASE_US
    rig.governor.sweep()
    bring(rig, late)  # from quarantine
    assert rig.serve(late, 1, wait_for(maker)) is Settled.BACKLOG

    advance_to(rig, maker, 2)
    rig.serve(maker, 2, NEXT)

    assert sorted(rung_of(rig, [*waiters, late])) == [*waiters, late]


def test_a_pause_of_the_client_holds_nobody_who_is_woken(store: Store) -> None:
    rig, maker, waiters = waiting(store)
    bring(rig, maker)
    grant = rig.grant(maker)
    rig.governor._run("pause", 600 * S, "an operator's", *audit.addition("pause"))

    rig.governor.settle(grant, FAILED)

    assert rung_of(rig, waiters) == waiters


def test_who_waits_again_after_a_replay_is_woken_again(store: Store) -> None:
    rig, maker, (first, *_) = waiting(store)
    for key in (maker, first):
        bring(rig, key)
        rig.serve(key, 1, FAILED)

    for key in (maker, first):
        assert replayed(rig, key) == "WAITS"
        bring(rig, key)
    assert rig.serve(first, 1, wait_for(maker)) is Settled.BACKLOG
    assert rung_of(rig, [first], 2 * S) == []
    advance_to(rig, maker, 2)
    rig.serve(maker, 2, NEXT)

    assert rung_of(rig, [first]) == [first]


def test_a_dead_letter_that_is_discarded_leaves_nobody_who_waits_for_it(store: Store) -> None:
    rig, maker, waiters = waiting(store)
    bring(rig, maker)
    rig.serve(maker, 1, FAILED)
    letter = transaction_hash(rig, maker)["d"]
    assert rig.governor._run("discard", maker, letter, *audit.addition("x")) == "DISCARDED"
    assert rung_of(rig, waiters) == waiters

    rig.serve(waiters[0], 1, wait_for(maker))

    assert rung_of(rig, waiters[:1]) == waiters[:1]  # to end: nobody makes it any more


def test_who_went_on_since_is_not_woken_from_another_wait(store: Store) -> None:
    rig, maker, (first, *_) = waiting(store)
    flow = transaction_hash(rig, first)["fl"]
    store.hset(rig.keys.transaction(first), "k", 2)
    bring(rig, maker)

    rig.serve(maker, 1, FAILED)

    due = store.zscore(f"{rig.keys.prefix}backlog:{flow}:due", first)
    assert due == pytest.approx(rig.us + AT_MOST_S * S, abs=11 * S)


def test_who_waits_for_nobody_that_is_known_looks_again_late(store: Store) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, "calls", guards="r")
    rig.ring()

    assert rig.serve(key, 1, wait_for("nobody")) is Settled.BACKLOG

    assert rig.ring_on(S) == []
    rig.us += AT_MOST_S * S
    assert rig.ring() == [key]


def test_a_resume_of_the_client_wakes_nobody_who_waits_for_another_row(store: Store) -> None:
    rig, _, waiters = waiting(store)
    rig.governor._run("pause", 600 * S, "an operator's", *audit.addition("pause"))

    assert resume(rig) == ["client"]

    assert rung_of(rig, waiters, 200 * MS) == []
