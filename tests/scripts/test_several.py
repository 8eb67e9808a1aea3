"""Steps that take several calls, polls or parts, by a held clock on the scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.rig import APP, DONE, FAILED, GRACE_US, LEASE_US, MS, RETRY, Rig, S, replayed
from tests.support.stored import transaction_hash
from workers.answer.outcome import Answer
from workers.answer.verdict import Requeue, continue_step
from workers.governor.grants import Settled
from workers.ledger.ledger import Replayed

if TYPE_CHECKING:
    from workers.store.connection import Store

PART = continue_step(Answer(status=200))
NOT_YET = continue_step(Answer(status=200), 5)


def a_rung_one(store: Store, *routes: str, guards: str = "k") -> tuple[Rig, str]:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, *routes, guards=guards)
    rig.fill()
    assert rig.ring() == [key]
    return rig, key


def test_a_part_that_is_done_takes_the_step_back_to_the_line_for_the_next_one(store: Store) -> None:
    rig, key = a_rung_one(store, "POST /x", "POST /y")

    assert rig.serve(key, verdict=PART) is Settled.BACKLOG

    assert rig.ring() == [key]
    grant = rig.grant(key)
    assert (grant.step, grant.part, grant.attempts) == (1, 1, 0)


def test_the_next_step_begins_without_parts(store: Store) -> None:
    rig, key = a_rung_one(store, "POST /x", "POST /y")
    rig.serve(key, verdict=PART)
    rig.ring()

    assert rig.serve(key) is Settled.RING

    assert rig.grant(key, 2).part == 0


def test_a_poll_goes_again_no_sooner_than_it_was_told_and_holds_nothing_meanwhile(
    store: Store,
) -> None:
    rig, key = a_rung_one(store, guards="r")

    rig.serve(key, verdict=NOT_YET)

    assert rig.governed("b") == {}
    assert rig.ring_on(5 * S - 25 * MS) == []
    assert rig.ring() == [key]


def test_each_part_has_attempts_and_doubts_of_its_own(store: Store) -> None:
    rig, key = a_rung_one(store)
    rig.serve(key, verdict=Requeue(outcome=RETRY.outcome, attempt=True))
    rig.ring()

    rig.serve(key, verdict=PART)

    rig.ring()
    grant = rig.grant(key)
    assert (grant.part, grant.attempts, grant.unknown) == (1, 0, False)


def test_parts_that_are_done_stay_done_when_a_worker_dies_or_a_dead_letter_is_replayed(
    store: Store,
) -> None:
    rig, key = a_rung_one(store)
    rig.serve(key, verdict=PART)
    rig.ring()
    rig.grant(key)
    rig.us += LEASE_US
    rig.governor.sweep()
    assert rig.ring_on(S) == [key]
    assert rig.grant(key).part == 1
    rig.us += LEASE_US
    rig.governor.sweep()
    assert rig.ring_on(S) == [key]
    rig.serve(key, verdict=FAILED)

    assert replayed(rig, key) is Replayed.WAITS

    assert rig.ring_on(S) == [key]
    assert rig.grant(key).part == 1


def test_a_worker_that_died_under_a_part_makes_no_suspect_of_the_parts_after_it(
    store: Store,
) -> None:
    rig, key = a_rung_one(store, "POST /x", "POST /y")
    rig.grant(key)
    rig.us += LEASE_US
    rig.governor.sweep()
    assert rig.ring_on(S) == [key]
    assert store.hget(rig.keys.governor, "quarantined") == key

    rig.serve(key, verdict=PART)

    assert transaction_hash(rig, key)["cr"] == "0"
    assert store.hget(rig.keys.governor, "quarantined") is None
    assert store.zcard(rig.keys.quarantine) == 0
    assert rig.ring_on(S) == [key]


def test_a_poll_that_is_replayed_waits_as_long_again(store: Store) -> None:
    rig, key = a_rung_one(store, guards="r")
    rig.serve(key, verdict=continue_step(Answer(status=200)))
    rig.ring()
    rig.serve(key, verdict=FAILED)

    replayed(rig, key)

    rig.ring_on(S)
    assert rig.grant(key).part == 0


def test_after_a_restored_backup_each_part_to_come_is_asked_about_first(store: Store) -> None:
    rig, key = a_rung_one(store, guards="l")
    rig.ledger.recover("j1", rig.us, [key])
    assert rig.ring_on(GRACE_US) == [key]
    assert rig.grant(key).looking
    rig.us += LEASE_US
    rig.governor.sweep()
    rig.ring_on(S)

    rig.serve(key, verdict=PART)  # it was found

    rig.ring_on(S)
    grant = rig.grant(key)
    assert (grant.part, grant.looking, grant.unknown) == (1, True, True)


def test_after_a_restored_backup_the_next_part_without_a_guard_is_not_sent(store: Store) -> None:
    rig, key = a_rung_one(store, "GET /x", "POST /y", guards="rn")
    rig.ledger.recover("j1", rig.us, [key])
    rig.ring_on(GRACE_US)

    assert (
        rig.serve(key, verdict=PART) is Settled.BACKLOG
    )  # a poll: nothing guards it, nothing need

    rig.ring_on(S)
    assert rig.serve(key, verdict=DONE) is Settled.END
    assert rig.state(key) == "unknown"
