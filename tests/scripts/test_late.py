"""Answers that come after their lease, because a clock was stepped forward or a worker froze."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.rig import APP, DONE, FAILED, LATER, LEASE_US, RETRY, Rig, S, a_step, replayed
from tests.support.stored import job_hash, transaction_hash
from workers.governor.grants import Settled
from workers.ledger.ledger import Replayed
from workers.settings.limits import LimitSettings
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from workers.governor.grants import Grant
    from workers.store.connection import Store


def step_forward(rig: Rig) -> None:
    """The store's clock goes five hours ahead, and the sweep ends the leases."""
    rig.us += 5 * 3600 * S
    rig.ring()
    rig.governor.sweep()


def out(store: Store, guards: str) -> tuple[Rig, Grant]:
    """A call that is out, the only one of its job."""
    rig = Rig(store, APP, LimitSettings(name="few", count=1, shape="concurrent"))
    (key,) = rig.line_up(1, guards=guards)
    rig.fill()
    rig.ring()
    return rig, rig.grant(key)


def is_consistent(rig: Rig) -> bool:
    return Scripts(rig.store, rig.keys, rig.clock)("check_counters") == []


@pytest.mark.parametrize("guards", ["k", "u", "n", "r"])
def test_a_late_answer_is_recorded_while_nobody_else_was_granted_the_call(
    store: Store, guards: str
) -> None:
    rig, grant = out(store, guards)
    step_forward(rig)

    assert rig.governor.settle(grant, DONE) is Settled.END

    job = job_hash(rig, "j1")
    assert rig.state(grant.key) == "succeeded"
    assert (job["succeeded"], job["ended"], job["finished_tx"]) == ("1", "1", "1")
    assert (job.get("unknown", "0"), job["finished_us"]) == ("0", str(rig.us))
    assert rig.dead() == []
    assert "d" not in transaction_hash(rig, grant.key)
    assert is_consistent(rig)
    assert rig.governor.settle(grant, DONE) is Settled.STALE
    assert rig.ring_on(S) == []


def test_a_late_answer_is_recorded_while_the_call_is_rung_again(store: Store) -> None:
    rig, grant = out(store, "k")
    step_forward(rig)
    assert rig.ring_on(2 * S) == [grant.key]

    assert rig.governor.settle(grant, DONE) is Settled.END

    assert rig.word(grant.key) == "drop: ended"
    assert is_consistent(rig)


def test_a_late_refusal_leaves_no_doubt_and_no_death(store: Store) -> None:
    rig, grant = out(store, "n")
    step_forward(rig)

    assert rig.governor.settle(grant, LATER) is Settled.BACKLOG

    tx = transaction_hash(rig, grant.key)
    assert (tx["s"], tx["u"], tx["cr"], rig.dead()) == ("w", "0", "0", [])
    assert "finished_us" not in job_hash(rig, "j1")
    assert is_consistent(rig)
    rig.fill()
    assert rig.ring_on(3 * S) == [grant.key]
    assert rig.serve(grant.key) is Settled.END


def test_a_late_failure_is_a_dead_letter_of_its_own_reason(store: Store) -> None:
    rig, grant = out(store, "n")
    step_forward(rig)

    assert rig.governor.settle(grant, FAILED) is Settled.END

    (letter,) = rig.dead()
    assert (letter["state"], letter["why"]) == ("failed", "no")
    assert is_consistent(rig)


def test_a_late_answer_of_a_send_is_none_of_the_look_up_that_was_to_come(store: Store) -> None:
    rig, key = a_step(store)
    grant = rig.grant(key)
    flows = transaction_hash(rig, key)["fl"]
    step_forward(rig)
    assert transaction_hash(rig, key)["fl"] != flows

    assert rig.governor.settle(grant, RETRY) is Settled.RETRY

    tx = transaction_hash(rig, key)
    assert (tx["fl"], tx["m"], tx["cr"], tx["u"]) == (flows, "", "0", "1")
    assert is_consistent(rig)


def test_an_answer_is_void_once_the_call_was_granted_anew(store: Store) -> None:
    rig, grant = out(store, "k")
    step_forward(rig)
    (key,) = rig.ring_on(2 * S)
    second = rig.grant(key)

    assert rig.governor.settle(grant, FAILED) is Settled.STALE

    assert rig.governor.settle(second, DONE) is Settled.END
    assert rig.state(key) == "succeeded"
    assert rig.governor.settle(grant, FAILED) is Settled.STALE
    assert is_consistent(rig)


def test_an_answer_is_void_once_its_transaction_was_replayed(store: Store) -> None:
    rig, grant = out(store, "n")
    step_forward(rig)
    assert replayed(rig, grant.key, not_executed=True) is Replayed.WAITS

    assert rig.governor.settle(grant, DONE) is Settled.STALE

    assert rig.state(grant.key) == "w"
    assert is_consistent(rig)


def test_a_settle_that_is_repeated_after_an_earlier_death_is_void(store: Store) -> None:
    rig, grant = out(store, "k")
    rig.us += LEASE_US
    rig.governor.sweep()
    (key,) = rig.ring_on(2 * S)
    second = rig.grant(key)
    assert rig.governor.settle(second, LATER) is Settled.BACKLOG

    assert rig.governor.settle(second, LATER) is Settled.STALE
    assert rig.governor.settle(grant, LATER) is Settled.STALE


def test_a_late_answer_of_an_outage_forgets_no_earlier_death(store: Store) -> None:
    rig, grant = out(store, "k")
    store.hset(rig.keys.transaction(grant.key), "cr", 1)
    store.hset(rig.keys.governor, "k:client", rig.us)
    step_forward(rig)
    assert transaction_hash(rig, grant.key)["cr"] == "1"  # the call hung, and its worker lives

    assert rig.governor.settle(grant, RETRY) is Settled.BACKLOG

    assert transaction_hash(rig, grant.key)["cr"] == "1"
    assert is_consistent(rig)
