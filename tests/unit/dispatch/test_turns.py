"""When a process rings for which client, by a clock that the test holds."""

from __future__ import annotations

import pytest

from orchestration.dispatch.turns import RANK_S, VISIT_S, Turns

LIVE = ("a", "b", "c", "d")


def ranked() -> list[Turns]:
    """The turns of each process, in the order in which they rank for the client acme."""
    return sorted(map(Turns, LIVE), key=lambda turns: turns.rank("acme", LIVE))


def test_of_the_processes_that_live_each_has_a_rank_of_its_own_and_clients_are_spread() -> None:
    clients = [f"client-{number}" for number in range(400)]
    for client in clients[:20]:
        assert sorted(Turns(one).rank(client, LIVE) for one in LIVE) == [0, 1, 2, 3]
    firsts = [sum(Turns(one).rank(client, LIVE) == 0 for client in clients) for one in LIVE]
    assert min(firsts) > 60


def test_who_ranks_first_rings_at_once_when_it_is_woken_and_each_other_one_a_moment_later() -> None:
    for rank, turns in enumerate(ranked()):
        turns.wake(["acme"], 100.0, LIVE)
        assert turns.first == ("acme", 100.0 + rank * RANK_S)


def test_who_rings_for_a_client_is_woken_at_once_whatever_its_rank() -> None:
    turns = ranked()[3]
    turns.note("acme", owns=True, now_s=100.0, next_s=None, live=LIVE)
    assert turns.first is None

    turns.wake(["acme"], 100.5, LIVE)

    assert turns.first == ("acme", 100.5)


def test_who_visits_a_client_goes_on_so_when_it_is_woken() -> None:
    turns = ranked()[3]
    turns.note("acme", owns=False, now_s=100.0, next_s=0.4, live=LIVE)

    turns.wake(["acme"], 100.1, LIVE)

    assert turns.first == ("acme", 100.0 + VISIT_S)


def test_two_come_as_soon_as_the_one_that_rings_can_be_gone_and_the_others_now_and_then() -> None:
    moments = []
    for turns in ranked():
        turns.note("acme", owns=False, now_s=100.0, next_s=0.4, live=LIVE)
        assert turns.first
        moments.append(turns.first[1])

    assert moments == pytest.approx([100.4, 100.4 + RANK_S, 100.0 + VISIT_S, 100.0 + VISIT_S])


def test_clients_take_their_turns_by_their_moments_and_one_without_work_has_none() -> None:
    turns = Turns("a")
    for client, next_s in (("late", 3.0), ("soon", 1.0), ("never", None), ("then", 2.0)):
        turns.note(client, owns=True, now_s=100.0, next_s=next_s, live=LIVE)
    turns.note("soon", owns=True, now_s=100.0, next_s=5.0, live=LIVE)
    turns.ring_at("late", 110.0)  # no later than it was

    order = []
    while first := turns.first:
        order.append(first)
        turns.note(first[0], owns=True, now_s=first[1], next_s=None, live=LIVE)

    assert order == [("then", 102.0), ("late", 103.0), ("soon", 105.0)]
    turns.ring_at("soon", 120.0)
    assert turns.without_turn(["never", "soon", "new"], 120.0) == ["never", "new"]


def test_the_clients_that_were_rung_or_visited_lately_are_known() -> None:
    turns = Turns("a")
    turns.note("old", owns=True, now_s=10.0, next_s=None, live=LIVE)
    turns.note("rung", owns=True, now_s=100.0, next_s=None, live=LIVE)
    turns.note("visited", owns=False, now_s=120.0, next_s=None, live=LIVE)

    assert turns.seen_since(50.0) == ["rung", "visited"]
    assert turns.owned == ["old", "rung"]
