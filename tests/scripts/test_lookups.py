"""A step that asks before it sends again, by a held clock on the scripts."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from tests.support.rig import DONE, LEASE_US, LOST, MS, SEND, S, a_step, looking, scope_of
from tests.support.stored import transaction_hash
from workers.answer.guards import Guard, LookupResult, Memo, NextCall, StepState
from workers.answer.judging import RetryPolicy, judge
from workers.answer.outcome import Answer, Health, Outcome, read
from workers.answer.verdict import UNSENT, Requeue, Retry
from workers.governor import flows
from workers.governor.governor import KEY_LIFE_S
from workers.governor.grants import Settled

if TYPE_CHECKING:
    from workers.store.connection import Store

NOT_YET = Requeue(
    outcome=Outcome.NOT_EXECUTED, delay_s=2, memo=Memo(next=NextCall.LOOKUP, lookups=1)
)
REFUSED_ACCESS = Answer(status=403)
ABSENT = Requeue(outcome=Outcome.NOT_EXECUTED, attempt=True, memo=Memo())


def test_what_goes_out_after_an_unknown_send_is_the_lookup_and_it_waits_first(store: Store) -> None:
    rig, key = a_step(store)
    first = rig.grant(key)
    rig.governor.settle(first, LOST)

    assert not first.looking
    assert rig.ring_on(2 * S - 25 * MS) == []
    assert rig.ring_on(50 * MS) == [key]
    look = rig.grant(key)
    assert (look.looking, look.memo, look.unknown, look.attempts) == (True, LOST.memo, True, 0)


def test_a_lookup_is_charged_to_the_limits_of_its_own_route(store: Store) -> None:
    rig, key = a_step(store)
    rig.grant(key)
    assert rig.governed("c")["ep"] < rig.us  # the send is not its affair

    rig, key = a_step(store)
    looking(rig, key)

    assert rig.governed("c")["ep"] == rig.us + 250 * MS
    assert rig.governed("c")["app"] == rig.us + 125 * MS


def test_a_lookup_waits_for_a_limit_of_its_own_route(store: Store) -> None:
    rig, key = a_step(store)
    rig.serve(key, verdict=LOST)
    rig.us += 2 * S
    store.hset(rig.keys.governor, "c:ep", rig.us + 10 * S)

    assert rig.ring_on(5 * S) == []
    assert rig.ring_on(5 * S) == [key]


def test_the_bell_of_a_lookup_counts_at_its_own_limits_in_celerys_countdown_too(
    store: Store,
) -> None:
    rig, key = a_step(store)
    retry = Retry(outcome=Outcome.UNKNOWN, delay_s=2, memo=LOST.memo)

    assert rig.serve(key, verdict=retry) is Settled.RETRY
    rig.us += 2 * S
    rig.fill()
    rig.ring()

    assert rig.governed("b") == {"client": 1, "app": 1, "ep": 1}
    assert rig.grant(key).looking
    assert rig.governed("b") == {}


def test_found_is_the_end_of_the_step_and_of_the_doubt(store: Store) -> None:
    rig, key = a_step(store, steps=2)
    look = looking(rig, key)

    assert rig.governor.settle(look, replace(DONE, provider_id="p7")) is Settled.RING

    tx = transaction_hash(rig, key)
    assert (tx["k"], tx["u"], tx["m"], tx["id"]) == ("2", "0", "", "p7")
    before = rig.governed("c")["ep"]
    assert not rig.grant(key, 2).looking
    assert rig.governed("c")["ep"] == before  # the second step is a send again


def test_absent_leads_back_to_the_send_under_the_same_key_and_spends_an_attempt(
    store: Store,
) -> None:
    rig, key = a_step(store)
    look = looking(rig, key)
    assert rig.governor.settle(look, NOT_YET) is Settled.BACKLOG
    assert rig.ring_on(2 * S + 25 * MS) == [key]
    again = rig.grant(key)
    assert (again.memo, again.attempts) == (NOT_YET.memo, 0)

    rig.governor.settle(again, ABSENT)
    assert rig.ring_on(S) == [key]
    resend = rig.grant(key)

    assert (resend.looking, resend.unknown, resend.attempts) == (False, False, 1)
    assert transaction_hash(rig, key)["fl"].startswith(flows.flow(rig.client, 1, "-", SEND).id)


def test_a_lookup_that_was_not_sent_is_still_to_be_made(store: Store) -> None:
    rig, key = a_step(store)
    look = looking(rig, key)

    rig.governor.settle(look, UNSENT)
    assert rig.ring_on(S) == [key]

    assert rig.grant(key).memo == LOST.memo


def test_after_its_worker_died_under_a_send_a_step_is_looked_up_at_once(store: Store) -> None:
    rig, key = a_step(store)
    rig.grant(key)
    rig.us += LEASE_US
    assert rig.governor.sweep() == (0, 1, 0)
    rig.fill()

    assert rig.ring() == [key]

    look = rig.grant(key)
    assert (look.memo, look.unknown) == (Memo(next=NextCall.LOOKUP), True)
    assert rig.governed("c")["ep"] == rig.us + 250 * MS


def test_after_its_worker_died_under_a_lookup_a_step_is_looked_up_again_at_once(
    store: Store,
) -> None:
    rig, key = a_step(store)
    looking(rig, key)
    rig.us += LEASE_US
    rig.governor.sweep()
    rig.fill()

    assert rig.ring() == [key]

    assert rig.grant(key).memo == LOST.memo


def test_an_old_key_may_be_asked_about_and_replaced_when_nothing_is_found(store: Store) -> None:
    rig, key = a_step(store)
    rig.serve(key, verdict=LOST)
    rig.us += KEY_LIFE_S * S
    rig.fill()
    assert rig.ring() == [key]

    look = rig.grant(key)
    rig.governor.settle(look, ABSENT)
    assert rig.ring_on(S) == [key]

    assert rig.rotate(key) == "old: fresh"  # the look-up was no send
    assert rig.ring_on(S) == [key]
    assert rig.grant(key).generation == 2


def test_no_lookup_ends_a_row_while_the_scope_of_its_send_is_held(store: Store) -> None:
    rig, key = a_step(store)
    held = scope_of(rig, SEND)
    look = looking(rig, key)
    state = StepState(
        guard=Guard.LOOKUP, memo=Memo(next=NextCall.LOOKUP, lookups=2), lookup=LookupResult.ABSENT
    )
    answer = Answer(status=200)
    judged = judge(answer, read(answer), state, RetryPolicy(), Random(1))
    assert isinstance(judged, Retry)
    absent = replace(judged, delay_s=1.0).from_backlog()
    for _ in range(40):
        store.hset(rig.keys.governor, f"k:{held}", rig.us)
        assert rig.governor.settle(look, absent) is Settled.BACKLOG
        rig.us += 60 * S
        rig.fill()
        assert rig.ring() == [key]
        rig.serve(key, verdict=replace(LOST, health=Health.BAD))
        rig.us += 2 * S
        rig.fill()
        assert rig.ring() == [key]
        look = rig.grant(key)

    store.hdel(rig.keys.governor, f"k:{held}")
    store.hset(rig.keys.governor, f"d:{held}", rig.us)  # patience begins anew
    assert rig.governor.settle(look, absent) is Settled.BACKLOG


def test_a_lookup_that_is_refused_access_ends_no_row_while_its_scope_is_held(store: Store) -> None:
    rig, key = a_step(store)
    look = looking(rig, key)
    for _ in range(4):
        state = StepState(
            guard=Guard.LOOKUP,
            memo=look.memo,
            doubt=True,
            lookup=LookupResult.UNSURE,
            renews_token=False,
        )
        verdict = judge(REFUSED_ACCESS, read(REFUSED_ACCESS), state, RetryPolicy(), Random(1))
        store.hset(rig.keys.governor, "k:ep", rig.us)
        assert rig.governor.settle(look, replace(verdict, delay_s=0.5)) is not Settled.END
        rig.us += 2400 * S
        rig.governor.sweep()
        rig.fill()
        look = rig.grant(*rig.ring())

    assert look.looking
    assert rig.state(key) == "s"
