"""Outages by a held clock: what a bad answer counts, when a scope is held, who probes, and the end.

The rules are those of lua/includes/evidence.lua, breaker.lua, probes.lua and probers.lua.
"""

from __future__ import annotations

from dataclasses import fields, replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.rig import (
    APP,
    DONE,
    FAILS,
    HELD,
    LEASE_US,
    LEAST,
    MS,
    REFUSED,
    Rig,
    S,
    breaker,
    change,
    grants,
    pause,
    probe,
    resume,
    scope_of,
)
from tests.support.stored import transaction_hash
from workers.answer.guards import Guard, StepState
from workers.answer.judging import RetryPolicy, judge
from workers.answer.outcome import Answer, Health, Outcome, read
from workers.answer.verdict import UNSENT, Finish, GiveUp, Pause, Requeue, Retry
from workers.governor.grants import Grant, Hindrance, Settled
from workers.settings.limits import LimitSettings

if TYPE_CHECKING:
    from workers.answer.verdict import Verdict
    from workers.store.connection import Store

#: A limit that never binds: what is held here is held by a breaker.
WIDE = LimitSettings(name="app", count=10_000, shape="bucket", reserve=0)
#: As many rows as open a scope.
MANY = 16
GIVE_UP = FAILS.give_up
#: The same row once more: no first send.
AGAIN = replace(FAILS, is_first=False)
NO_CONNECTION = Hindrance("cannot connect", delay_s=1.5)
#: A send of unknown outcome that nothing guards.
LOST = Finish(
    state="unknown",
    outcome=Outcome.UNKNOWN,
    status=503,
    health=Health.BAD,
    attempt=True,
    is_first=True,
    error="the provider answered 503",
)


def out_of(rig: Rig, count: int) -> list[Grant]:
    """So many calls that are out at one moment."""
    rig.fill()
    return grants(rig, count)


def counted(rig: Rig, key: str) -> int:
    """What the attempts of a transaction count, in eighths."""
    return int(transaction_hash(rig, key).get("ca", 0))


def fail(rig: Rig, verdict: Verdict = FAILS, count: int = MANY) -> list[str]:
    """So many calls fail, and bells that were out go back; returns the keys of these rows."""
    out = out_of(rig, count)
    for grant in out:
        rig.governor.settle(grant, verdict)
    for name in rig.store.keys(f"{rig.keys.transactions}*"):  # type: ignore[union-attr]
        rig.governor.admit(name.removeprefix(rig.keys.transactions), 1)
    return [grant.key for grant in out]


def failed(rig: Rig) -> list[str]:
    """A scope that has just opened; returns the keys of its rows in doubt."""
    rig.line_up(MANY * 3)
    return fail(rig)


# What a bad answer counts.


@pytest.mark.parametrize(
    ("good", "bad", "eighths"),
    [(31, 1, 8), (29, 3, 8), (28, 4, 1), (11, 21, 1), (10, 22, 0), (0, 32, 0), (3, 4, 0)],
)
def test_a_bad_answer_counts_by_the_share_of_good_answers_to_other_rows(
    store: Store, good: int, bad: int, eighths: int
) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(60)
    *others, last = out_of(rig, good + bad + 1)
    for number, grant in enumerate(others):  # from the first bad one on there is evidence
        rig.governor.settle(grant, AGAIN if number < bad else DONE)

    rig.governor.settle(last, AGAIN)

    assert counted(rig, last.key) == eighths


def test_where_nothing_bad_is_known_a_bad_answer_counts_whole(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(40)
    *good, last = out_of(rig, 20)
    for grant in good:
        rig.governor.settle(grant, DONE)

    rig.governor.settle(last, FAILS)

    assert counted(rig, last.key) == 8


def test_a_row_is_no_evidence_against_itself(store: Store) -> None:
    rig = Rig(store, WIDE)
    (key,) = rig.line_up(1)

    for _ in range(12):
        (grant,) = grants(rig, 1)
        assert rig.governor.settle(grant, AGAIN) is Settled.BACKLOG
        rig.us += S

    assert counted(rig, key) == 8  # the first one: nothing was known then


def test_answers_older_than_ten_minutes_are_no_evidence(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(60)
    first, *others = out_of(rig, 20)
    rig.governor.settle(first, AGAIN)
    for grant in others:
        rig.governor.settle(grant, DONE)

    rig.us += 601 * S
    rig.governor.sweep()
    late, *_ = (grant for grant in out_of(rig, 2) if grant.key != first.key)
    rig.governor.settle(late, AGAIN)

    assert counted(rig, late.key) == 0


def test_where_all_is_well_nothing_is_kept(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(60)
    first, *others = out_of(rig, 40)
    rig.governor.settle(first, FAILS)
    assert store.hlen(rig.keys.evidence) == 1

    for grant in others:
        rig.governor.settle(grant, DONE)

    assert not store.exists(rig.keys.evidence)


# When a row ends.


def test_a_row_ends_when_its_attempts_are_spent_beside_others_that_succeed(store: Store) -> None:
    rig = Rig(store, WIDE)
    (key,) = rig.line_up(1)
    rig.line_up(400, lane=2)

    for attempt in range(4):
        out = out_of(rig, 40)
        mine = [grant for grant in out if grant.key == key]
        for grant in out:
            if grant.key != key:
                rig.governor.settle(grant, DONE)
        (grant,) = mine
        settled = rig.governor.settle(grant, replace(AGAIN, delay_s=0.05))
        assert settled is (Settled.END if attempt == 3 else Settled.BACKLOG)
        rig.us += S

    assert rig.state(key) == "unknown"
    assert rig.dead()[0]["why"] == "the provider answered 503"


def test_a_lone_row_ends_when_patience_is_over_and_says_how_long_it_was(store: Store) -> None:
    rig = Rig(store, WIDE)
    (key,) = rig.line_up(1)
    rule = GiveUp(state="failed", max_retries=3, patience_s=100)
    impatient = replace(AGAIN, delay_s=60, give_up=rule)
    (grant,) = grants(rig, 1)
    rig.governor.settle(grant, impatient)

    rig.us += 99 * S
    (grant,) = grants(rig, 1)
    assert rig.governor.settle(grant, impatient) is Settled.BACKLOG
    rig.us += 2 * S
    (grant,) = grants(rig, 1)
    assert rig.governor.settle(grant, impatient) is Settled.END

    assert rig.state(key) == "failed"
    assert rig.dead()[0]["why"].startswith("the provider answered 503; so it went for 101 s")


@pytest.mark.parametrize(("ordered_s", "due_s"), [(0, 4), (12, 12)])
def test_no_backoff_goes_beyond_patience_but_an_ordered_wait_does(
    store: Store, ordered_s: float, due_s: int
) -> None:
    rig = Rig(store, WIDE)
    (key,) = rig.line_up(1)
    impatient = replace(AGAIN, give_up=GiveUp(state="failed", max_retries=3, patience_s=20))
    (grant,) = grants(rig, 1)
    rig.governor.settle(grant, impatient)
    rig.us += 16 * S
    (grant,) = grants(rig, 1)
    again = {"delay_s": 14, "retry_after_s": ordered_s, "give_up": impatient.give_up}

    settled = rig.governor.settle(grant, Retry(outcome=Outcome.UNKNOWN, attempt=True, **again))

    assert settled is Settled.BACKLOG  # for the countdown of Celery's would be another one
    assert rig.ring_on((due_s - 1) * S, S // 2) == []
    assert rig.ring_on(S + S // 2, S // 2) == [key]


def test_attempts_without_end_are_bounded_by_patience_alone(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(1)
    rule = GiveUp(state="unknown", max_retries=None, patience_s=50)
    endless = replace(AGAIN, attempt=False, give_up=rule)

    for _ in range(8):
        (grant,) = grants(rig, 1)
        assert rig.governor.settle(grant, endless) is Settled.BACKLOG
        rig.us += 5 * S
    rig.us += 10 * S
    (grant,) = grants(rig, 1)
    assert rig.governor.settle(grant, endless) is Settled.END


def test_while_its_scope_is_held_no_row_ends(store: Store) -> None:
    rig = Rig(store, WIDE)
    failed(rig)
    rig.us += 7200 * S
    rig.governor.sweep()
    rig.governor.settle(probe(rig), DONE)  # one good answer does not free the scope
    rig.governor.settle(probe(rig), AGAIN)  # a fresh row
    rig.us += 5 * S

    late = probe(rig)

    assert late.attempts > 0
    assert rig.governor.settle(late, AGAIN) is not Settled.END


def vars_of(verdict: Requeue) -> dict[str, Any]:
    """What a verdict from the backlog has in common with one from a countdown."""
    return {known.name: getattr(verdict, known.name) for known in fields(Retry)}


def held_for(rig: Rig, seconds: int) -> list[str]:
    """A scope that was held so long and is free again; returns the keys of its rows in doubt."""
    in_doubt = failed(rig)
    rig.us += seconds * S
    rig.governor.sweep()
    for _ in range(2):
        rig.governor.settle(probe(rig), DONE)
    assert not breaker(rig, scope_of(rig))
    return [key for key in in_doubt if rig.state(key) != "succeeded"]


def test_patience_counts_no_time_in_which_the_scope_was_held(store: Store) -> None:
    rig = Rig(store, WIDE)
    in_doubt = held_for(rig, 2400)
    rig.us += 5 * S

    for number, grant in enumerate(grants(rig, 40)):  # the provider is back, but not quite
        verdict = DONE if number % 2 else replace(FAILS, is_first=grant.attempts == 0)
        assert (rig.governor.settle(grant, verdict) is Settled.END) is (verdict is DONE)

    assert "unknown" not in rig.states(in_doubt)


def test_patience_begins_anew_when_the_hold_of_the_scope_ends(store: Store) -> None:
    rig = Rig(store, WIDE)
    key, *_ = held_for(rig, 2400)
    waits = replace(AGAIN, attempt=False)

    def settled_after(seconds: int) -> Settled:
        rig.us += seconds * S
        rig.governor.sweep()
        out = grants(rig, 40)
        for grant in out:
            if grant.key != key:
                rig.governor.settle(grant, UNSENT)
        (mine,) = (grant for grant in out if grant.key == key)
        return rig.governor.settle(mine, waits)

    for _ in range(30):
        assert settled_after(59) is Settled.BACKLOG
    assert settled_after(59) is Settled.END
    assert "so it went for 18" in rig.dead()[0]["why"]


@pytest.mark.parametrize("why", ["a pause", "another row's hold", "a long backlog"])
def test_patience_counts_no_more_than_a_minute_of_what_a_row_waits_for_others(
    store: Store, why: str
) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(2)
    mine, other = grants(rig, 2)
    rig.governor.settle(mine, AGAIN)
    if why == "a pause":
        pause(rig, for_s=3600)
    elif why == "another row's hold":
        rig.governor.settle(other, replace(HELD, pause=Pause(3600), delay_s=3600))

    rig.us += 3601 * S
    rig.governor.sweep()
    (mine,) = (grant for grant in grants(rig, 2) if grant.key == mine.key)
    assert rig.governor.settle(mine, AGAIN) is Settled.BACKLOG

    since_us = int(transaction_hash(rig, mine.key)["t3"])
    assert (rig.us - since_us) // S in range(60, 66)


def test_patience_counts_no_pause_of_a_scope_however_short_each_is(store: Store) -> None:
    rig = Rig(store, WIDE)
    (key,) = rig.line_up(1)
    (grant,) = grants(rig, 1)
    rig.governor.settle(grant, AGAIN)
    for _ in range(45):
        rig.us += 51 * S
        (grant,) = grants(rig, 1)
        rig.governor.settle(grant, replace(HELD, pause=Pause(50), delay_s=50))
    rig.us += 51 * S

    (grant,) = grants(rig, 1)

    assert rig.governor.settle(grant, AGAIN) is Settled.BACKLOG
    assert (rig.us - int(transaction_hash(rig, key)["t3"])) // S < 200


def test_an_order_to_wait_counts_whole_against_the_patience_of_its_row(store: Store) -> None:
    rig = Rig(store, WIDE)
    (key,) = rig.line_up(1)
    (grant,) = grants(rig, 1)
    ordered = replace(AGAIN, delay_s=3600, retry_after_s=3600)
    assert rig.governor.settle(grant, ordered) is Settled.BACKLOG

    rig.us += 3601 * S
    (grant,) = grants(rig, 1)

    assert rig.governor.settle(grant, ordered) is Settled.END
    assert "so it went for 360" in transaction_hash(rig, key)["e"]


@pytest.mark.parametrize("ends", ["a word of an operator", "a limit of its own"])
def test_patience_begins_anew_whatever_ends_the_hold(store: Store, ends: str) -> None:
    rig = Rig(store, WIDE)
    failed(rig)
    if ends == "a limit of its own":
        change(rig, WIDE, LimitSettings(name="ep", count=1000, shape="bucket", match="POST /x"))
    rig.us += 2400 * S
    rig.governor.sweep()
    if ends == "a word of an operator":
        assert resume(rig)
    else:
        for _ in range(2):
            rig.governor.settle(probe(rig), DONE)
    rig.us += 5 * S

    out = grants(rig, 40)
    for grant in out:
        if not grant.attempts:
            rig.governor.settle(grant, DONE)
    late = [grant for grant in out if grant.attempts]
    assert late
    for grant in late:
        assert rig.governor.settle(grant, AGAIN) is Settled.BACKLOG


def test_a_step_that_is_done_forgets_what_was_counted(store: Store) -> None:
    rig = Rig(store, WIDE)
    (key,) = rig.line_up(1, "POST /x", "POST /y")
    (grant,) = grants(rig, 1)
    rig.governor.settle(grant, FAILS)
    rig.us += S
    (grant,) = grants(rig, 1)

    rig.governor.settle(grant, DONE)

    assert not {"ca", "t3", "t4"} & set(transaction_hash(rig, key))


# When a scope is held.


def test_a_scope_is_held_when_sixteen_first_sends_in_a_row_were_bad(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(60)
    scope = scope_of(rig)
    out = out_of(rig, MANY)

    for grant in out[:-1]:
        rig.governor.settle(grant, FAILS)
    assert not breaker(rig, scope)
    rig.governor.settle(out[-1], FAILS)

    assert breaker(rig, scope)["cause"] == "failing"
    assert breaker(rig, scope)["why"] == "the provider answered 503"
    assert rig.ring_on(2 * S - 50 * MS) == []


def test_the_reserve_of_urgent_rows_lets_none_through_while_their_scope_is_held(
    store: Store,
) -> None:
    rig = Rig(store, WIDE.model_copy(update={"reserve": 2}))
    rig.line_up(60, lane=0)
    fail(rig)

    assert rig.ring_on(2 * S - 50 * MS) == []
    assert len(rig.ring_on(100 * MS)) == 1


def test_one_good_answer_between_counts_anew(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(60)
    out = out_of(rig, 2 * MANY - 1)

    for grant in out[: MANY - 1]:
        rig.governor.settle(grant, FAILS)
    rig.governor.settle(out[MANY - 1], DONE)
    for grant in out[MANY:]:
        rig.governor.settle(grant, FAILS)

    assert not breaker(rig, scope_of(rig))


def test_rows_that_were_sent_before_open_nothing(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(60)

    for grant in out_of(rig, 2 * MANY):
        rig.governor.settle(grant, AGAIN)

    assert not breaker(rig, scope_of(rig))


def test_another_scope_goes_on(store: Store) -> None:
    rig = Rig(store, WIDE)
    failed(rig)

    others = rig.line_up(3, "POST /other")

    assert sorted(rig.ring()) == sorted(others)


@pytest.mark.parametrize(("after_s", "held"), [(9, "client"), (11, "both")])
def test_two_scopes_that_open_within_ten_seconds_open_the_client(
    store: Store, after_s: int, held: str
) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(MANY * 2, "POST /x")
    rig.line_up(MANY * 2, "POST /y", lane=0)
    out = out_of(rig, MANY * 3)
    of_y = [grant for grant in out if transaction_hash(rig, grant.key)["j"] == "j2"][:MANY]
    of_x = [grant for grant in out if transaction_hash(rig, grant.key)["j"] == "j1"][:MANY]
    assert len(of_x) == len(of_y) == MANY

    for grant in of_x:
        rig.governor.settle(grant, FAILS)
    rig.us += after_s * S
    for grant in of_y:
        rig.governor.settle(grant, FAILS)

    scopes = {scope_of(rig, "POST /x"), scope_of(rig, "POST /y")}
    opened = {it for it in ("client", *scopes) if breaker(rig, it)}
    assert opened == ({"client"} if held == "client" else scopes)


def test_connections_that_never_came_about_hold_the_scope_too(store: Store) -> None:
    rig = Rig(store, WIDE)
    keys = rig.line_up(40)
    rig.fill()
    rung = rig.ring()

    for key in rung[:MANY]:
        rig.governor.requeue(key, 1, NO_CONNECTION)

    assert breaker(rig, scope_of(rig))["why"] == "cannot connect"
    assert set(rung) <= set(keys)
    assert counted(rig, rung[0]) == 0


def test_a_missed_probe_has_its_turn(store: Store) -> None:
    rig = Rig(store, WIDE)
    failed(rig)
    rung = rig.ring_on(3 * S)
    assert len(rung) == 1

    rig.governor.requeue(rung[0], 1, NO_CONNECTION)

    assert rig.ring_on(4 * S - 50 * MS) == []
    assert len(rig.ring_on(S)) == 1


@pytest.mark.parametrize("other", ["a 401", "unsent"])
def test_an_order_to_wait_holds_whatever_becomes_of_the_other_probe(
    store: Store, other: str
) -> None:
    rig = Rig(store, WIDE)
    failed(rig)
    first, second = probe(rig), probe(rig)
    rig.governor.settle(second, replace(AGAIN, retry_after_s=600.0))
    proves_nothing = Requeue(outcome=Outcome.NOT_EXECUTED, status=401, health=Health.NEUTRAL)

    rig.governor.settle(first, proves_nothing if other == "a 401" else UNSENT)

    assert rig.ring_on(599 * S, S // 4) == []
    assert probe(rig)


def test_a_probe_whose_answer_proves_nothing_keeps_its_distance(store: Store) -> None:
    rig = Rig(store, WIDE)
    failed(rig)
    proves_nothing = Requeue(outcome=Outcome.NOT_EXECUTED, status=401, health=Health.NEUTRAL)

    rig.governor.settle(probe(rig), proves_nothing)

    assert rig.ring_on(4 * S - 100 * MS) == []
    assert len(rig.ring_on(S)) == 1


def test_a_probe_that_was_not_sent_is_replaced_after_a_second(store: Store) -> None:
    rig = Rig(store, WIDE)
    failed(rig)

    rig.governor.settle(probe(rig), UNSENT)

    assert rig.ring_on(S - 50 * MS) == []
    assert len(rig.ring_on(100 * MS)) == 1


# Who probes.


def test_a_row_in_doubt_and_a_fresh_one_take_turns(store: Store) -> None:
    rig = Rig(store, WIDE)
    in_doubt = set(failed(rig))

    went = []
    for _ in range(6):
        grant = probe(rig)
        went.append(grant.key in in_doubt)
        rig.governor.settle(grant, AGAIN if went[-1] else FAILS)
        in_doubt.add(grant.key)
        rig.us += 30 * S

    assert went == [True, False] * 3


def test_rows_in_doubt_take_turns_so_that_poison_costs_one(store: Store) -> None:
    rig = Rig(store, WIDE)
    in_doubt = failed(rig)

    went = []
    for _ in range(8):
        grant = probe(rig)
        went.append(grant.key)
        rig.governor.settle(grant, AGAIN)
        rig.us += 30 * S

    old = [key for key in went if key in in_doubt]
    assert len(set(old)) == len(old) == 4


def test_a_row_that_nothing_guards_probes_only_when_no_other_waits(store: Store) -> None:
    rig = Rig(store, WIDE)
    keyed = rig.line_up(MANY)
    assert set(fail(rig, replace(FAILS, delay_s=1.0))) == set(keyed)
    rig.line_up(20, guards="n")

    for _ in range(4):  # a fresh one would have each second turn
        grant = probe(rig)
        assert grant.key in keyed
        assert not grant.checks
        rig.governor.settle(grant, replace(AGAIN, delay_s=1.0))
        rig.us += 30 * S


@pytest.mark.parametrize("other", [{"tenant": "other"}, {"lane": 0}, {"lane": 2}], ids=str)
@pytest.mark.parametrize("delay_s", [1.0, 45.0])
def test_rows_that_nothing_guards_probe_only_when_no_other_one_waits_for_any_tenant_or_lane(
    store: Store, other: dict[str, Any], delay_s: float
) -> None:
    rig = Rig(store, WIDE)
    keyed = rig.line_up(MANY)
    assert set(fail(rig, replace(FAILS, delay_s=delay_s))) == set(keyed)
    rig.line_up(20, guards="n", **other)

    for _ in range(10):
        grant = probe(rig, 50)
        assert grant.key in keyed
        rig.governor.settle(grant, replace(AGAIN, delay_s=delay_s))
        rig.us += 30 * S


def test_rows_that_nothing_guards_leave_the_probe_to_one_that_counts_down(store: Store) -> None:
    rig = Rig(store, WIDE)
    keyed = rig.line_up(MANY)
    bare = rig.line_up(20, tenant="other", guards="n")
    counts_down = Retry(**vars_of(FAILS) | {"delay_s": 5.0})
    for grant in out_of(rig, MANY + 20):
        if grant.key in keyed:
            rig.governor.settle(grant, counts_down)
        else:
            rig.governor.settle(grant, UNSENT)
    assert rig.states(keyed) == {"t": MANY}

    assert not {*rig.ring_on(4 * S)} & {*bare}


def test_rows_that_nothing_guards_probe_where_the_other_ones_are_held_for_long(
    store: Store,
) -> None:
    rig = Rig(store, WIDE)
    keyed = rig.line_up(MANY)
    bare = rig.line_up(20, guards="n", tenant="other")
    for grant in out_of(rig, MANY + 20):
        verdict = replace(FAILS, delay_s=900.0) if grant.key in keyed else UNSENT
        rig.governor.settle(grant, verdict)

    assert probe(rig).key in bare


def test_a_step_that_makes_no_call_takes_no_turn_of_a_probe(store: Store) -> None:
    rig = Rig(store, WIDE)
    calls = rig.line_up(40, guards="n")
    fail(rig, REFUSED, LEAST)
    assert breaker(rig)
    rig.us += 2 * S
    local = rig.line_up(3, "calls")
    rig.fill()

    first, *others = rig.ring()

    assert first in calls
    assert sorted(others) == local


def test_a_probe_that_nothing_guards_is_told_to_let_the_clients_own_go_first(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(40, guards="n")
    fail(rig, LOST)

    first = probe(rig)
    assert first.checks
    checked = Requeue(outcome=Outcome.NOT_EXECUTED, status=200, error="the probe came first")
    assert rig.governor.settle(first, checked) is Settled.BACKLOG
    assert transaction_hash(rig, first.key).get("u", "0") == "0"
    second = probe(rig)
    assert not second.checks
    assert rig.governor.settle(second, DONE) is Settled.END
    assert not breaker(rig, scope_of(rig))


def test_what_waited_is_paced_when_the_scope_is_free_again(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(60)
    for grant in grants(rig, MANY):
        rig.governor.settle(grant, FAILS)
    rig.us += 5 * S

    for _ in range(2):
        rig.governor.settle(probe(rig), DONE)

    assert not breaker(rig, scope_of(rig))
    assert len(rig.ring(after_us=0)) <= 1


def test_a_lease_that_ends_while_its_scope_is_held_is_no_crash_of_its_row(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(60)
    hung, *out = out_of(rig, MANY + 1)
    for grant in out:
        rig.governor.settle(grant, FAILS)

    rig.us += LEASE_US
    rig.governor.sweep()

    assert rig.state(hung.key) == "w"
    assert transaction_hash(rig, hung.key)["cr"] == "0"
    assert transaction_hash(rig, hung.key)["u"] == "1"


def test_a_clock_set_back_moves_the_breaker_along(store: Store) -> None:
    rig = Rig(store, WIDE)
    failed(rig)
    before: Any = breaker(rig, scope_of(rig))

    rig.us -= 3600 * S
    rig.ring()
    rig.governor.sweep()

    after = breaker(rig, scope_of(rig))
    for moment in ("opened_us", "due_us"):
        assert int(before[moment]) - int(after[moment]) in range(3599 * S, 3601 * S)
    assert probe(rig)


def test_a_look_up_that_was_answered_badly_is_made_again_and_counts_nothing(store: Store) -> None:
    rig = Rig(store, WIDE)
    (key,) = rig.line_up(1)
    bad_look = Requeue(
        outcome=Outcome.NOT_EXECUTED,
        status=503,
        health=Health.BAD,
        delay_s=1,
        give_up=replace(GIVE_UP, max_retries=None),  # type: ignore[type-var]
        error="the provider answered 503",
    )

    for _ in range(6):
        (grant,) = grants(rig, 1)
        assert rig.governor.settle(grant, bad_look) is Settled.BACKLOG
        rig.us += S

    assert counted(rig, key) == 0
    assert transaction_hash(rig, key)["at"] == "0"


def test_a_scope_that_gets_a_limit_of_its_own_stays_held(store: Store) -> None:
    rig = Rig(store, WIDE)
    failed(rig)
    before = breaker(rig, scope_of(rig))

    change(rig, WIDE, LimitSettings(name="ep", count=1000, shape="bucket", match="POST /x"))

    assert scope_of(rig) == "ep"
    assert breaker(rig, "ep") == before
    assert [it for it in store.hkeys(rig.keys.governor) if it.startswith("k:")] == ["k:ep"]  # type: ignore[union-attr]
    for _ in range(2):
        rig.governor.settle(probe(rig), DONE)
    assert not breaker(rig, "ep")


def test_401s_to_several_rows_hold_the_client_where_nothing_good_is_known(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(60)
    out = out_of(rig, 4)

    for grant in out[:3]:
        rig.governor.settle(grant, replace(FAILS, status=401, of_token=True))
    assert not breaker(rig)
    rig.governor.settle(out[3], replace(FAILS, status=401, of_token=True))

    assert breaker(rig)["cause"] == "failing"


@pytest.mark.parametrize(("rows", "held"), [(2, False), (3, False), (4, True)])
@pytest.mark.parametrize("renews_token", [True, False])
def test_a_row_counts_once_for_the_hold_of_the_client_however_often_it_was_refused(
    store: Store, rows: int, *, held: bool, renews_token: bool
) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(rows)
    answer, chance = Answer(status=401), Random(1)

    for _ in range(8):
        rig.us += 30 * S
        rig.fill()
        for key in rig.ring():
            grant = rig.grant(key)
            state = StepState(
                guard=Guard.KEY,
                attempts=grant.attempts,
                memo=grant.memo,
                renews_token=renews_token,
            )
            verdict = judge(answer, read(answer), state, RetryPolicy(), chance)
            rig.governor.settle(grant, verdict)

    assert bool(breaker(rig)) is held


def test_one_row_that_is_always_answered_401_beside_good_ones_holds_nothing(store: Store) -> None:
    rig = Rig(store, WIDE)
    (key,) = rig.line_up(1, lane=0)
    rig.line_up(200)
    bad, *others = out_of(rig, 100)
    assert bad.key == key
    refused = replace(AGAIN, status=401, of_token=True, delay_s=0.05)
    for number, grant in enumerate(others):
        rig.governor.settle(grant, DONE)
        if number in {5, 30, 60}:
            rig.governor.settle(bad, refused)
            rig.us += S
            (bad,) = grants(rig, 1)
            assert bad.key == key
    rig.governor.settle(bad, refused)

    assert not breaker(rig)
    assert not breaker(rig, scope_of(rig))
    assert rig.state(key) == "unknown"
