"""How long a call from outside of jobs waits that was answered 429, by a held clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.session import refused
from workers.session.refused import RefusedCalls

if TYPE_CHECKING:
    import pytest

S = 1_000_000


class Clock:
    us = 0

    def __call__(self) -> int:
        return self.us


def test_calls_that_were_out_together_wait_as_long_as_one() -> None:
    calls = RefusedCalls(1.0, 30.0, Clock())

    for _ in range(20):
        calls.refuse(1.0, "a")

    assert 2 <= calls.left_s("a") <= 3


def test_each_wait_is_twice_as_long_up_to_the_cap_until_a_good_answer() -> None:
    clock = Clock()
    calls, waits = RefusedCalls(1.0, 8.0, clock), []
    for _ in range(6):
        calls.refuse(0.0, "a")
        waits.append(calls.left_s("a"))
        clock.us += 60 * S

    assert [int(wait_s) for wait_s in waits] == [1, 2, 4, 8, 8, 8]

    calls.forget("a", "never refused")
    calls.refuse(0.0, "a")
    assert calls.left_s("a") <= 2


def test_a_call_waits_for_the_longest_of_its_names_and_others_not_at_all() -> None:
    calls = RefusedCalls(1.0, 30.0, Clock())
    calls.refuse(9.0, "route")
    calls.refuse(1.0, "request")

    assert calls.left_s("request", "route") >= 10
    assert calls.left_s("other") == 0


def test_what_waits_no_longer_is_forgotten_once_it_is_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refused, "MOST_KEPT", 3)
    clock = Clock()
    calls = RefusedCalls(1.0, 30.0, clock)
    for name in range(50):
        calls.refuse(0.0, str(name))
        clock.us += 3 * S

    assert len(calls._waits) <= 5
