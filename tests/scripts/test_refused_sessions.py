"""Answers of 429 to calls from outside of jobs, by a held clock: whose fault each is, who waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scripts.test_limiter import gate
from tests.support.rig import MS, Rig, S, breaker
from workers.errors import CircuitOpen, Throttled
from workers.session.limiter import Permit
from workers.settings.limits import LimitSettings, bucket_of

if TYPE_CHECKING:
    from workers.session.limiter import Limiter
    from workers.store.connection import Store

#: A limit that never binds, of the rows' route and the sessions': refusals alone hold it.
WIDE = LimitSettings(name="app", count=10_000, shape="bucket", reserve=0, match="POST /x*")
#: Good answers after which a refusal is over.
ENOUGH = 8
#: How long a call that was refused for a second waits at the most before it goes again: its pause,
#: the first wait beyond it, and the jitter.
FIRST_WAIT_S = 3.0


def a_rig(store: Store, rows: int = 300) -> Rig:
    rig = Rig(store, WIDE)
    rig.line_up(rows, lane=2)
    rig.fill()
    return rig


def held_us(rig: Rig) -> int:
    """How long from now on nothing may leave."""
    bucket = bucket_of(WIDE)
    hold = rig.governed("c").get("app", 0) - bucket.interval_us * bucket.burst
    return max(0, hold - rig.us)


def serve(rig: Rig, count: int) -> None:
    """So many rows are answered well."""
    for _ in range(count):
        rig.serve(next_row(rig))


def next_row(rig: Rig) -> str:
    for _ in range(400):
        if rung := rig.ring(threads=1):
            return rung[0]
    raise AssertionError("no row was rung")


def may_go(rig: Rig, session: Limiter, request: str, route: str = "POST /x/odd") -> Permit:
    """The permit of a call that asks until it may go."""
    for _ in range(4000):
        answer = session.acquire(route, 600, request)
        if isinstance(answer, Permit):
            return answer
        rig.us += max(MS, round(answer * 1e6))
    raise AssertionError("no permit")


def refuse(rig: Rig, session: Limiter, request: str = "same", pause_s: float = 1.0) -> int:
    """The call goes, and is answered 429; returns how long its scope is held, in us."""
    session.release(may_go(rig, session, request), "refused", pause_s=pause_s, why="429")
    return held_us(rig)


def refuse_again(rig: Rig, session: Limiter, request: str = "same") -> int:
    """The same, after so many rows that it is known whose fault it is."""
    rig.us += S + 1
    serve(rig, ENOUGH)
    return refuse(rig, session, request)


def answer_well(rig: Rig, session: Limiter, request: str, count: int = 1) -> None:
    for _ in range(count):
        session.release(may_go(rig, session, request), "good")


# Whom it holds.


def test_a_call_that_is_always_refused_holds_its_scope_once_and_then_waits_alone(
    store: Store,
) -> None:
    rig = a_rig(store)
    session = gate(rig)

    assert refuse(rig, session) == S

    assert [refuse_again(rig, session) for _ in range(4)] == [0] * 4


def test_so_does_a_route_all_of_whose_calls_are_refused_whatever_they_send(store: Store) -> None:
    rig = a_rig(store)
    session = gate(rig)

    assert refuse(rig, session, "first") == S

    assert [refuse_again(rig, session, f"body {i}") for i in range(4)] == [0] * 4


def test_so_does_a_request_that_is_refused_among_others_of_its_route(store: Store) -> None:
    rig = a_rig(store)
    session = gate(rig)
    refuse(rig, session, "bad")
    rig.us += round(FIRST_WAIT_S * S)
    answer_well(rig, session, "good", ENOUGH)

    assert refuse(rig, session, "bad") == 0

    assert isinstance(session.acquire("POST /x/odd", 9, "good"), Permit)
    with pytest.raises(Throttled):
        session.acquire("POST /x/odd", 0.5, "bad")


def test_what_was_refused_to_one_process_is_judged_in_all(store: Store) -> None:
    rig = a_rig(store)
    refuse(rig, gate(rig))

    assert refuse_again(rig, gate(rig)) == 0


def test_good_answers_to_sessions_show_it_as_well_where_no_rows_are(store: Store) -> None:
    rig = a_rig(store, 1)
    refuse(rig, session := gate(rig))
    rig.us += S + 1
    for _ in range(ENOUGH):
        other = gate(rig)
        other.release(may_go(rig, other, "other", "POST /x/other"), "good")

    assert refuse(rig, session) == 0


def test_good_answers_to_calls_that_were_out_already_show_nothing(store: Store) -> None:
    rig = a_rig(store, 1)
    session, other = gate(rig), gate(rig)
    out = [may_go(rig, other, "other", "POST /x/other") for _ in range(ENOUGH)]
    refuse(rig, session)
    for permit in out:
        other.release(permit, "good")

    rig.us += S + 1
    assert refuse(rig, session) == S


def test_a_limit_that_refuses_whoever_comes_is_obeyed_by_all_each_time(store: Store) -> None:
    rig = a_rig(store)
    session = gate(rig)

    holds = []
    for _ in range(4):
        holds.append(refuse(rig, session))
        rig.us += S + 1

    assert holds == [S] * 4
    assert rig.ring_on(20 * MS, 5 * MS) != []


def test_a_call_that_was_answered_well_meanwhile_holds_its_scope_anew(store: Store) -> None:
    rig = a_rig(store)
    session = gate(rig)
    refuse(rig, session)
    rig.us += round(FIRST_WAIT_S * S)
    serve(rig, ENOUGH)
    answer_well(rig, session, "same")

    assert refuse(rig, session) == S


def test_a_429_that_holds_its_caller_alone_counts_for_the_breaker(store: Store) -> None:
    rig = a_rig(store)
    session = gate(rig)
    refuse(rig, session)
    counted = sum(int(n) % 100_000 for n in rig.governed("x").values())

    assert refuse_again(rig, session) == 0

    assert sum(int(n) % 100_000 for n in rig.governed("x").values()) == counted + 1


# How it waits itself.


def test_a_call_that_was_refused_waits_longer_than_its_scope_and_longer_each_time(
    store: Store,
) -> None:
    rig = a_rig(store)
    session, waits = gate(rig), []
    for _ in range(3):
        refuse_again(rig, session)
        with pytest.raises(Throttled) as told:
            session.acquire("POST /x/odd", 0.5, "same")
        waits.append(told.value.wait_s)

    assert [int(wait_s) for wait_s in waits] == [2, 3, 5]
    assert isinstance(gate(rig).acquire("POST /x/odd", 9, "same"), Permit)


def test_a_call_that_waits_for_itself_learns_at_once_that_a_breaker_is_open(store: Store) -> None:
    rig = a_rig(store)
    session, other = gate(rig), gate(rig)
    refuse(rig, session)
    rig.us += S + 1
    for i in range(16):
        other.release(may_go(rig, other, f"other {i}", f"POST /x/other{i}"), "bad", why="it fails")
    assert breaker(rig, "app") or breaker(rig)

    with pytest.raises(CircuitOpen):
        session.acquire("POST /x/odd", 600, "same")


# What is kept of it.


def test_what_is_kept_of_a_refused_call_ends_with_its_good_answer_or_by_itself(
    store: Store,
) -> None:
    rig = a_rig(store)
    session = gate(rig)
    refuse(rig, session)
    kept = list(store.scan_iter(f"{rig.keys.prefix}tx:caller:*"))
    assert len(kept) == 2
    assert all(0 < store.pttl(name) <= 3_601_000 for name in kept)

    answer_well(rig, session, "same")

    assert not store.exists(*kept)
