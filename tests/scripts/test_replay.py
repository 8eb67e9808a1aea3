"""A dead letter that is replayed, by a held clock on the scripts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.rig import (
    APP,
    DONE,
    FAILED,
    GRACE_US,
    LEASE_US,
    MS,
    RETRY,
    SEND,
    Rig,
    S,
    a_step,
    looking,
    replayed,
)
from tests.support.stored import job_hash, transaction_hash
from workers.answer.guards import Memo, NextCall
from workers.answer.outcome import Outcome
from workers.answer.verdict import Finish, Verdict, to_json
from workers.errors import LedgerDamaged
from workers.governor import flows
from workers.governor.governor import KEY_LIFE_S
from workers.governor.grants import Settled
from workers.ledger import audit
from workers.ledger.ledger import NewTransaction, Replayed

if TYPE_CHECKING:
    from workers.store.connection import Store

#: The memo of a step that is looked up first.
LOOK_FIRST = Memo(next=NextCall.LOOKUP)
UNKNOWN = Finish(state="unknown", outcome=Outcome.UNKNOWN, error="nobody knows")


def opened_as(flow: str) -> NewTransaction:
    """The transaction `it` of one step."""
    return NewTransaction("it", flow, "k", 1, 0)


def a_dead_one(
    store: Store, verdict: Verdict = FAILED, guards: str = "k", *routes: str
) -> tuple[Rig, str]:
    """The only transaction of its job, which ended so at its last step."""
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1, *routes, guards=guards)
    rig.fill()
    rig.ring()
    for step in range(1, len(routes)):
        assert rig.serve(key, step) is Settled.RING
    assert rig.serve(key, max(len(routes), 1), verdict) is Settled.END
    return rig, key


def test_a_replay_takes_back_what_the_end_did(store: Store) -> None:
    rig, key = a_dead_one(store)
    before = {"rows": "1", "released": "1", "pages": "1", "next_page": "1"}

    assert replayed(rig, key) is Replayed.WAITS

    job = job_hash(rig, "j1")
    assert before.items() <= job.items()
    assert (job["failed"], job["ended"], job["finished_tx"], job["replayed"]) == (
        "0",
        "0",
        "0",
        "1",
    )
    assert "finished_us" not in job
    assert rig.dead() == []
    assert rig.governed("q") == {"1": 1}
    tx = transaction_hash(rig, key)
    assert (tx["s"], tx["at"], tx["u"]) == ("w", "0", "0")
    assert not {"e", "cr", "d"} & tx.keys()
    [entry] = audit.of_transaction(store, rig.keys, key)
    assert (entry.action, entry.by, entry.reason) == ("dead replay", "maria", "the list is there")


def test_what_was_replayed_goes_on_at_the_step_where_it_stopped_and_can_end_again(
    store: Store,
) -> None:
    rig, key = a_dead_one(store, FAILED, "k", "POST /x", "POST /x", "POST /x")
    first_sent = transaction_hash(rig, key)["t1"]
    replayed(rig, key)
    rig.fill()

    assert rig.ring() == [key]
    assert rig.word(key, 1) == "drop: other step"
    assert rig.serve(key, 3) is Settled.END

    job = job_hash(rig, "j1")
    assert (job["failed"], job["succeeded"], job["ended"]) == ("0", "1", "1")
    assert job["finished_us"] == str(rig.us)
    assert transaction_hash(rig, key)["t1"] == first_sent  # the age of the key


def test_a_second_replay_does_nothing_and_an_old_letter_answers_no_newer_death(
    store: Store,
) -> None:
    rig, key = a_dead_one(store)
    letter = transaction_hash(rig, key)["d"]
    entry = audit.addition("dead replay", key=key)
    assert rig.ledger.replay(key, letter, entry) is Replayed.WAITS
    before = rig.dump()

    assert rig.ledger.replay(key, letter, entry) is Replayed.NOT_DEAD
    assert rig.dump() == before

    rig.fill()
    rig.ring()
    rig.serve(key, verdict=FAILED)
    before = rig.dump()
    assert rig.ledger.replay(key, letter, entry) is Replayed.NOT_DEAD
    assert rig.dump() == before
    assert replayed(rig, key) is Replayed.WAITS


@pytest.mark.parametrize("how", ["succeeded", "cancelled", "open", "missing"])
def test_what_is_not_dead_is_left_as_it_is(store: Store, how: str) -> None:
    rig = Rig(store, APP)
    key, *_ = rig.line_up(1)
    rig.fill()
    rig.ring()
    if how in {"succeeded", "cancelled"}:
        rig.serve(key, verdict=DONE if how == "succeeded" else replace(FAILED, state="cancelled"))
    key = "nobody" if how == "missing" else key
    before = rig.dump()

    assert rig.ledger.replay(key, "1-0", audit.addition("dead replay")) is Replayed.NOT_DEAD
    assert rig.dump() == before


def test_rows_that_joined_before_and_after_the_end_wait_with_it(store: Store) -> None:
    rig = Rig(store)
    job = rig.accept(2, pages=2)
    flow = flows.flow(rig.client, 1, "-", "POST /x")
    opened = [opened_as(flow.id)]
    rig.ledger.open(job, 0, rig.definitions(flow), opened, [("it", 0)])
    rig.ring()
    rig.serve("it", verdict=FAILED)
    assert job_hash(rig, job)["failed"] == "2"
    rig.ledger.open(job, 1, rig.definitions(flow), [], [("it", 0), ("it", 0)])
    assert (job_hash(rig, job)["failed"], job_hash(rig, job)["ended"]) == ("4", "4")
    assert "finished_us" in job_hash(rig, job)

    assert replayed(rig, "it") is Replayed.WAITS

    it = job_hash(rig, job)
    assert (it["failed"], it["ended"], it["replayed"]) == ("0", "0", "4")
    rig.ring()
    rig.serve("it")
    it = job_hash(rig, job)
    assert (it["succeeded"], it["ended"], it["finished_us"]) == ("4", "4", str(rig.us))


@pytest.mark.parametrize("guard", ["k", "u", "r"])
def test_an_unknown_end_is_sent_again_under_a_guard_and_stays_in_doubt(
    store: Store, guard: str
) -> None:
    rig, key = a_dead_one(store, UNKNOWN, guard)

    assert replayed(rig, key) is Replayed.WAITS

    rig.fill()
    rig.ring()
    grant = rig.grant(key)
    assert (grant.unknown, grant.attempts, grant.looking) == (True, 0, False)


def test_an_unknown_end_without_a_guard_is_replayed_only_as_not_executed(store: Store) -> None:
    rig, key = a_dead_one(store, UNKNOWN, "kn", "POST /x", "POST /x")
    before = rig.dump()

    assert replayed(rig, key) is Replayed.UNSURE
    assert rig.dump() == before

    assert replayed(rig, key, not_executed=True) is Replayed.WAITS
    rig.fill()
    rig.ring()
    assert not rig.grant(key, 2).unknown


def test_a_failed_end_without_a_guard_was_surely_not_executed(store: Store) -> None:
    rig, key = a_dead_one(store, FAILED, "n")

    assert replayed(rig, key) is Replayed.WAITS


def test_that_it_was_not_executed_may_be_stated_under_every_guard(store: Store) -> None:
    rig, key = a_dead_one(store, UNKNOWN, "k")

    assert replayed(rig, key, not_executed=True) is Replayed.WAITS

    rig.fill()
    rig.ring()
    assert not rig.grant(key).unknown


def test_an_unknown_end_under_guard_lookup_is_looked_up_first_by_its_own_limits(
    store: Store,
) -> None:
    rig, key = a_step(store)
    rig.serve(key, verdict=UNKNOWN)

    assert replayed(rig, key) is Replayed.WAITS
    rig.fill()
    assert rig.ring() == [key]

    look = rig.grant(key)
    assert (look.looking, look.memo, look.unknown) == (True, LOOK_FIRST, True)
    assert rig.governed("c")["ep"] == rig.us + 250 * MS


def test_an_end_under_a_lookup_is_looked_up_anew(store: Store) -> None:
    rig, key = a_step(store)
    look = looking(rig, key)
    unsure = replace(UNKNOWN, outcome=Outcome.NOT_EXECUTED, memo=None)
    rig.governor.settle(look, unsure)

    replayed(rig, key)
    rig.fill()
    rig.ring()

    assert rig.grant(key).memo == LOOK_FIRST


def test_stated_as_not_executed_a_step_with_a_lookup_is_sent_by_the_limits_of_its_send(
    store: Store,
) -> None:
    rig, key = a_step(store)
    look = looking(rig, key)
    rig.governor.settle(look, replace(UNKNOWN, outcome=Outcome.NOT_EXECUTED))

    replayed(rig, key, not_executed=True)
    rig.fill()
    rig.ring()

    send = rig.grant(key)
    assert (send.looking, send.unknown) == (False, False)
    assert transaction_hash(rig, key)["fl"].startswith(flows.flow(rig.client, 1, "-", SEND).id)


def test_what_was_sent_in_vain_and_never_found_is_looked_up_once_more(store: Store) -> None:
    rig, key = a_step(store)
    look = looking(rig, key)
    rig.governor.settle(
        look,
        Finish(
            state="failed",
            outcome=Outcome.NOT_EXECUTED,
            attempt=True,
            memo=Memo(),
            error="never found",
        ),
    )
    assert transaction_hash(rig, key)["fl"].startswith(flows.flow(rig.client, 1, "-", SEND).id)

    assert replayed(rig, key) is Replayed.WAITS
    rig.fill()
    rig.ring()

    look = rig.grant(key)
    assert (look.memo, look.attempts, look.unknown) == (LOOK_FIRST, 0, True)


def test_a_refused_step_with_a_lookup_that_was_never_in_doubt_is_sent_at_once(
    store: Store,
) -> None:
    rig, key = a_step(store)
    rig.serve(key, verdict=FAILED)

    replayed(rig, key)
    rig.fill()
    rig.ring()

    assert not rig.grant(key).looking


def test_one_under_which_workers_died_is_no_suspect_any_more(store: Store) -> None:
    rig = Rig(store)
    key, *_ = rig.line_up(1)
    for _ in range(3):
        rig.ring()
        rig.grant(key)
        rig.us += LEASE_US
        rig.governor.sweep()
    assert rig.state(key) == "unknown"

    replayed(rig, key)

    assert store.zcard(rig.keys.quarantine) == 0
    assert rig.ring() == [key]
    assert transaction_hash(rig, key).get("cr") is None


def test_what_its_attempts_counted_is_forgotten_and_its_patience_begins_anew(store: Store) -> None:
    rig, key = a_dead_one(store, replace(UNKNOWN, memo=Memo(waits=3), attempt=True))
    assert "ca" in transaction_hash(rig, key)

    replayed(rig, key)
    rig.fill()
    rig.ring()

    assert rig.grant(key).memo == Memo()
    assert not {"ca", "t3", "t4"} & set(transaction_hash(rig, key))


def test_a_late_settle_of_the_send_before_the_death_is_void(store: Store) -> None:
    rig = Rig(store)
    key, *_ = rig.line_up(1, guards="n")
    rig.ring()
    frozen = rig.grant(key)
    rig.us += LEASE_US
    rig.governor.sweep()
    replayed(rig, key, not_executed=True)

    assert rig.governor.settle(frozen, DONE) is Settled.STALE
    rig.ring()
    assert rig.governor.settle(frozen, DONE) is Settled.STALE
    rig.grant(key)
    assert rig.governor.settle(frozen, DONE) is Settled.STALE


def test_the_attempts_of_the_step_are_counted_anew(store: Store) -> None:
    rig, key = a_dead_one(store, replace(UNKNOWN, attempt=True))
    assert transaction_hash(rig, key)["at"] == "1"

    replayed(rig, key)

    rig.fill()
    rig.ring()
    assert rig.grant(key).attempts == 0


def test_an_old_key_is_replayed_and_admit_says_what_becomes_of_it(store: Store) -> None:
    rig, key = a_dead_one(store)
    rig.us += KEY_LIFE_S * S
    replayed(rig, key)
    rig.fill()
    rig.ring()

    assert rig.rotate(key) == "old: fresh"  # it surely was not executed
    assert rig.dead() == []


def test_an_old_key_that_may_have_been_executed_dies_again(store: Store) -> None:
    rig, key = a_dead_one(store, UNKNOWN, "k")
    rig.us += KEY_LIFE_S * S
    replayed(rig, key)
    rig.fill()
    rig.ring()

    assert rig.rotate(key) == "old: unknown"
    assert [it["key"] for it in rig.dead()] == [key]


def test_a_job_with_enough_in_its_lines_asks_for_no_page_after_a_replay(store: Store) -> None:
    rig = Rig(store)
    job = rig.accept(1, pages=2)
    store.hset(rig.keys.job(job), "low", 1)
    flow = flows.flow(rig.client, 1, "-", "POST /x")
    rig.ledger.open(job, 0, rig.definitions(flow), [opened_as(flow.id)], [])
    rig.ring()
    rig.serve("it", verdict=FAILED)
    assert rig.governor.ring("w", 8).needs_page == job

    replayed(rig, "it")

    assert rig.governor.ring("w", 8).needs_page == ""


def test_the_ids_of_finished_steps_are_kept_and_a_single_step_has_none(store: Store) -> None:
    rig = Rig(store)
    chain, *_ = rig.line_up(1, "POST /x", "POST /x", "POST /x")
    single, *_ = rig.line_up(1)
    rig.ring()

    for step, name in enumerate(("123", "", "789"), 1):
        rig.serve(chain, step, replace(DONE, provider_id=name))
        if step == 2:
            assert transaction_hash(rig, chain)["ids"] == "123\n"
    rig.serve(single, verdict=replace(DONE, provider_id="1"))

    assert transaction_hash(rig, chain)["ids"] == "123\n\n789"
    assert "ids" not in transaction_hash(rig, single)


def test_an_attempt_adds_no_id(store: Store) -> None:
    rig = Rig(store)
    key, *_ = rig.line_up(1, "POST /x", "POST /x")
    rig.ring()

    grant = rig.grant(key)
    verdict = json.dumps(json.loads(to_json(RETRY)) | {"provider_id": "lost"})
    rig.governor._run("settle", key, 1, grant.fence, verdict, GRACE_US)

    assert "ids" not in transaction_hash(rig, key)


@pytest.mark.parametrize(
    "name", ["dead", "audit", "job:j1", "needs_page", "gov", "flows", "deadlines", "active", "tx"]
)
def test_a_key_of_a_wrong_type_stops_a_replay_before_its_first_write(
    store: Store, name: str
) -> None:
    rig, key = a_dead_one(store)
    letter = transaction_hash(rig, key)["d"]
    full = rig.keys.prefix + (f"tx:{key}" if name == "tx" else name)
    store.delete(full)
    store.set(full, "of another kind")
    before = rig.dump()

    with pytest.raises(LedgerDamaged):
        rig.ledger.replay(key, letter, audit.addition("dead replay"))

    assert rig.dump() == before
