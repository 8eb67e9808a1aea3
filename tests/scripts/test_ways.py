"""Whose matter it is, by a held clock, that no connection to the provider came about.

The rules are those of lua/includes/ways.lua.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.rig import DONE, FAILS, MS, Rig, S, breaker, scope_of
from workers.governor.grants import Grant, Hindrance, PutBack, Settled
from workers.settings.limits import LimitSettings

if TYPE_CHECKING:
    from workers.store.connection import Store

#: A limit that never binds: what is held here is held by a breaker.
WIDE = LimitSettings(name="app", count=10_000, shape="bucket", reserve=0)
#: As many rows as open a scope.
MANY = 16
#: A worker rings under its name and the id of its process.
SICK, WELL = "w1@a/sick", "w2@b/well"


def no_connection(process: str, failing_s: float = 2.0) -> Hindrance:
    return Hindrance("cannot connect", delay_s=1.5, process=process, failing_s=failing_s)


def two_workers(store: Store, rows: int = 60) -> tuple[Rig, list[str]]:
    """Two workers of one client; returns the keys that are rung."""
    rig = Rig(store, WIDE)
    rig.line_up(rows)
    rig.fill()
    return rig, [*rig.ring(worker=WELL, threads=8), *rig.ring(worker=SICK, threads=32)]


def put_back(rig: Rig, keys: list[str], process: str, failing_s: float = 2.0) -> set[PutBack]:
    hindrance = no_connection(process, failing_s)
    return {rig.governor.requeue(key, 1, hindrance) for key in keys}


def test_who_cannot_connect_while_another_worker_lives_holds_nothing(store: Store) -> None:
    rig, rung = two_workers(store)
    assert len(rung) > 2 * MANY

    assert put_back(rig, rung[: 2 * MANY], "sick") == {PutBack.OWN}

    assert not breaker(rig, scope_of(rig))
    assert not store.exists(rig.keys.evidence)


def test_what_one_worker_could_not_send_waits_for_nothing(store: Store) -> None:
    rig, (key, *_) = two_workers(store, rows=1)

    put_back(rig, [key], "sick")

    assert rig.ring(worker=WELL) == [key]


def test_where_all_fail_to_connect_the_scope_is_held(store: Store) -> None:
    rig, rung = two_workers(store)
    assert put_back(rig, rung[:1], "sick") == {PutBack.OWN}  # nothing is known of the other one

    assert put_back(rig, rung[1 : 1 + MANY], "well") == {PutBack.PLAIN}

    assert breaker(rig, scope_of(rig))["why"] == "cannot connect"
    assert put_back(rig, rung[-1:], "sick") == {PutBack.PLAIN}


@pytest.mark.parametrize("alone", ["from the start", "since the other one stopped", "not known"])
def test_a_worker_that_is_alone_and_cannot_connect_holds_the_scope(
    store: Store, alone: str
) -> None:
    rig = Rig(store, WIDE)
    rig.line_up(60)
    rig.fill()
    if alone == "since the other one stopped":
        rig.ring(worker=WELL, threads=0)
        rig.us += 6 * S
        rig.ring(worker=SICK, threads=0)
    rung = rig.ring_on(S) if alone == "not known" else rig.ring(worker=SICK, threads=32)

    put_back(rig, rung[:MANY], "" if alone == "not known" else "sick")

    assert breaker(rig, scope_of(rig))


def test_one_failure_of_the_other_worker_does_not_make_it_fail(store: Store) -> None:
    rig, rung = two_workers(store)
    put_back(rig, rung[:1], "well", failing_s=0)

    assert put_back(rig, rung[1 : 2 + MANY], "sick") == {PutBack.OWN}


@pytest.mark.parametrize("since", ["it says so", "30 s without a failure"])
def test_the_other_worker_connects_again(store: Store, since: str) -> None:
    rig, rung = two_workers(store)
    put_back(rig, rung[:1], "sick")
    put_back(rig, rung[1:2], "well")
    assert not rig.governor.fails_alone("sick")

    if since == "it says so":
        rig.governor.note_connected("well")
    else:
        rig.us += 31 * S
        rig.ring(worker=WELL, threads=0)

    assert rig.governor.fails_alone("sick")
    assert put_back(rig, rung[2 : 3 + MANY], "sick") == {PutBack.OWN}
    assert not breaker(rig, scope_of(rig))


def test_nobody_fails_alone_where_nobody_else_rings(store: Store) -> None:
    rig = Rig(store, WIDE)
    rig.ring(worker=SICK)

    assert not rig.governor.fails_alone("sick")


def in_an_outage(store: Store) -> Rig:
    """The provider answers no call of either worker; a probe may go."""
    rig, rung = two_workers(store)
    for key in rung[:MANY]:
        rig.serve(key, verdict=FAILS)
    for key in rung[MANY:]:
        rig.governor.requeue(key, 1)
    assert breaker(rig, scope_of(rig))
    return rig


def ring_probe(rig: Rig) -> str:
    """The probe that goes next; both workers live."""
    for _ in range(400):
        for worker in (SICK, WELL):
            if rung := rig.ring(worker=worker):
                (key,) = rung
                return key
    raise AssertionError("no probe in 20 s")


def test_a_probe_that_one_worker_could_not_send_has_its_turn_while_nobody_was_answered(
    store: Store,
) -> None:
    rig = in_an_outage(store)

    assert put_back(rig, [ring_probe(rig)], "sick") == {PutBack.PLAIN}

    missed_us = rig.us
    ring_probe(rig)
    assert rig.us - missed_us > 3 * S


def test_a_probe_that_one_worker_could_not_send_beside_a_good_one_counts_nothing(
    store: Store,
) -> None:
    rig = in_an_outage(store)
    rig.serve(ring_probe(rig), verdict=DONE)

    assert put_back(rig, [ring_probe(rig)], "sick") == {PutBack.OWN}

    missed_us, second = rig.us, rig.grant(ring_probe(rig))
    assert isinstance(second, Grant)
    assert rig.us - missed_us < 100 * MS
    assert rig.governor.settle(second, DONE) is Settled.END
    assert not breaker(rig, scope_of(rig))
