"""The limiters, under a held clock."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.sandbox.config import Limit
from orchestration.sandbox.limits import Bucket, FixedWindow, Limiter, Meter, SlidingWindow

SECOND_US = 1_000_000
T0_US = 1_700_000_000_250_000  # a quarter past a full second


def accepted(meter: Meter, times_us: list[int]) -> list[int]:
    """Offer calls at these times and return the times of the accepted ones."""
    taken = []
    for time_us in times_us:
        if meter.wait_us(time_us) == 0:
            meter.charge(time_us)
            taken.append(time_us)
    return taken


def test_a_bucket_serves_its_capacity_then_one_call_per_refilled_token() -> None:
    bucket = Bucket(count=2, window_us=SECOND_US, capacity=3)

    burst = accepted(bucket, [T0_US] * 5)
    wait_us = bucket.wait_us(T0_US)
    just_before = accepted(bucket, [T0_US + wait_us - 1])
    just_then = accepted(bucket, [T0_US + wait_us] * 2)

    assert (len(burst), wait_us) == (3, 500_000)
    assert (len(just_before), len(just_then)) == (0, 1)


def test_a_fixed_window_is_full_until_the_next_one_begins() -> None:
    window = FixedWindow(count=2, window_us=SECOND_US, align="start")

    first = accepted(window, [T0_US, T0_US + 900_000, T0_US + 900_000])
    wait_us = window.wait_us(T0_US + 900_000)
    second = accepted(window, [T0_US + SECOND_US - 1] + [T0_US + SECOND_US] * 3)

    assert (len(first), wait_us) == (2, 100_000)
    assert second == [T0_US + SECOND_US] * 2


@pytest.mark.parametrize(
    ("align", "wait_us"), [("start", 500_000), ("epoch", 250_000), ("call", SECOND_US)]
)
def test_a_fixed_window_begins_where_its_alignment_says(align: str, wait_us: int) -> None:
    window = FixedWindow(count=1, window_us=SECOND_US, align=align)
    accepted(window, [T0_US])

    later_us = T0_US + 2_500_000  # the window of the first call is over
    accepted(window, [later_us])

    assert window.wait_us(later_us) == wait_us


def test_a_sliding_window_frees_a_place_exactly_when_its_oldest_call_leaves() -> None:
    window = SlidingWindow(count=2, window_us=SECOND_US)
    accepted(window, [T0_US, T0_US + 400_000])

    wait_us = window.wait_us(T0_US + 500_000)
    taken = accepted(window, [T0_US + SECOND_US - 1, T0_US + SECOND_US, T0_US + SECOND_US])

    assert wait_us == 500_000
    assert taken == [T0_US + SECOND_US]


STEPS = st.lists(
    st.sampled_from([0, SECOND_US // 2, SECOND_US]) | st.integers(0, 2 * SECOND_US), max_size=60
)


@given(count=st.integers(1, 5), capacity=st.integers(1, 8), steps_us=STEPS)
def test_every_answer_of_the_bucket_is_that_of_exact_fractions(
    count: int, capacity: int, steps_us: list[int]
) -> None:
    bucket = Bucket(count, SECOND_US, capacity)
    tokens, now_us = Fraction(capacity), T0_US
    for step_us in steps_us:
        now_us += step_us
        tokens = min(Fraction(capacity), tokens + Fraction(step_us * count, SECOND_US))
        assert bucket.remaining(now_us) == int(tokens)
        assert (bucket.wait_us(now_us) == 0) == (tokens >= 1)
        if tokens >= 1:
            bucket.charge(now_us)
            tokens -= 1


@given(count=st.integers(1, 5), steps_us=STEPS)
def test_a_sliding_window_accepts_a_call_just_when_fewer_than_count_precede_it(
    count: int, steps_us: list[int]
) -> None:
    window = SlidingWindow(count, SECOND_US)
    taken: list[int] = []
    now_us = T0_US
    for step_us in steps_us:
        now_us += step_us
        recent = sum(now_us - SECOND_US < time_us for time_us in taken)
        assert (window.wait_us(now_us) == 0) == (recent < count)
        assert window.remaining(now_us) == count - recent
        taken += accepted(window, [now_us])


def test_a_call_refused_by_one_limit_is_charged_to_none() -> None:
    loose = Limit(name="loose", count=10, window_s=1, shape="sliding_window")
    tight = Limit(name="tight", count=1, window_s=60, shape="sliding_window")
    limiter = Limiter([loose, tight])

    decisions = [limiter.decide(T0_US, "POST", "/x", "demo", "/x") for _ in range(3)]

    assert [decision.refused_by for decision in decisions] == [None, tight, tight]
    assert decisions[-1].wait_us == 60 * SECOND_US
    assert [meter.remaining(T0_US) for _, meter in decisions[-1].charged] == [9, 0]


def test_refused_calls_are_charged_only_where_the_limit_says_so() -> None:
    limit = Limit(name="harsh", count=1, window_s=1, shape="sliding_window", count_refused=True)
    limiter = Limiter([limit])

    for offset_us in (0, 600_000, 1_200_000):
        decision = limiter.decide(T0_US + offset_us, "POST", "/x", "demo", "/x")

    assert decision.refused_by == limit  # the refusal at 0.6 s keeps the window full


def test_clients_have_quotas_of_their_own_and_so_have_endpoints_if_asked() -> None:
    limit = Limit(name="each", count=1, window_s=60, match="POST /v2/*", per="endpoint")
    limiter = Limiter([limit])

    def refused(client: str, method: str, path: str, route: str) -> bool:
        return limiter.decide(T0_US, method, path, client, route).refused_by is not None

    assert not refused("a", "POST", "/v2/things/1", "/v2/things/{id}")
    assert refused("a", "POST", "/v2/things/2", "/v2/things/{id}")
    assert not refused("b", "POST", "/v2/things/2", "/v2/things/{id}")
    assert not refused("a", "POST", "/v2/others", "/v2/others")
    assert not refused("a", "GET", "/v2/things/2", "/v2/things/{id}")
