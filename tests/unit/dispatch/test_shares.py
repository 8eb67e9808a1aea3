"""How many bells of each client may be out, by a clock that the test holds."""

from __future__ import annotations

import pytest

from orchestration.dispatch.shares import HANGS_S, Shares, Use

THREADS = 64
BOUND = 80


def use(out: int = 0, at_s: float = 0.0, *, owns: bool = True, waits: bool = True) -> Use:
    return Use(out=out, threads=THREADS, owns=owns, waits=waits, at_s=at_s)


def test_nothing_is_said_of_a_client_that_was_never_rung() -> None:
    assert Shares(grows=True).most("acme", 0.0) is None


def test_a_client_alone_has_five_quarters_of_the_threads_and_transfers_no_more_than_theirs() -> (
    None
):
    calls, media = Shares(grows=True), Shares(grows=False)
    for shares in (calls, media):
        shares.note("acme", use(), 0)

    assert (calls.most("acme", 0.0), media.most("acme", 0.0)) == (BOUND, THREADS)


@pytest.mark.parametrize(("ended", "most"), [(0, 80), (20, 94), (60, 154), (1000, 4 * 64)])
def test_where_calls_are_short_as_much_more_may_be_out_as_ended_between_two_rings(
    ended: int, most: int
) -> None:
    shares = Shares(grows=True)
    shares.note("acme", use(ended), 0)
    shares.note("acme", use(0), 10)

    assert shares.most("acme", 0.0) == most


def test_the_bells_of_a_hundred_clients_fit_the_threads_together() -> None:
    shares, out = Shares(grows=True), dict.fromkeys((f"c{number}" for number in range(100)), 0)
    for client in out:
        shares.note(client, use(), 0)
    for _ in range(3):
        for client in out:
            most = shares.most(client, 0.0)
            assert most is not None
            rung = max(0, min(50, most - out[client]))
            shares.note(client, use(out[client]), rung)
            out[client] += rung
            assert sum(out.values()) <= BOUND

    assert sum(out.values()) == BOUND


def test_what_other_processes_ring_for_leaves_room_but_takes_no_more_than_its_share() -> None:
    shares = Shares(grows=True)
    shares.note("own", use(), 0)
    shares.note("other", use(out=30, owns=False), 0)
    assert shares.most("own", 0.0) == BOUND - 30

    shares.note("other", use(out=BOUND, owns=False), 0)
    assert shares.most("own", 0.0) == BOUND / 2


def test_a_client_whose_calls_hang_has_half_of_the_threads_while_another_one_works() -> None:
    shares = Shares(grows=True)
    shares.note("hangs", use(at_s=0.0), 40)
    assert shares.most("hangs", HANGS_S + 1) == BOUND  # nobody else works
    shares.note("works", use(at_s=0.0), 2)

    assert shares.most("hangs", HANGS_S) == BOUND - 2
    assert shares.most("hangs", HANGS_S + 0.001) == THREADS / 2

    shares.note("hangs", use(out=39, at_s=5.0), 0)  # one has ended
    assert shares.most("hangs", 5.0 + HANGS_S) == BOUND - 2


def test_a_client_without_work_counts_no_longer() -> None:
    shares = Shares(grows=True)
    shares.note("own", use(), 0)
    shares.note("other", use(out=70), 0)
    assert shares.most("own", 0.0) == BOUND - 70

    shares.note("other", use(out=0, waits=False), 0)

    assert shares.most("own", 0.0) == BOUND


def test_numbers_that_are_old_are_counted_again_before_they_refuse_anything() -> None:
    shares = Shares(grows=True)
    shares.note("own", use(at_s=10.0), 0)
    shares.note("few", use(out=1, at_s=9.0), 0)
    assert shares.to_count("own", 10.0) == ()  # they leave room enough
    shares.note("many", use(out=70, at_s=9.0), 0)
    shares.note("new", use(out=5, at_s=9.95), 0)

    assert shares.to_count("own", 10.0) == ["few", "many"]

    shares.recount({"few": 0, "many": 10}, 10.0)
    assert shares.most("own", 10.0) == BOUND - 15
    assert shares.to_count("own", 10.05) == ()  # not again at once
