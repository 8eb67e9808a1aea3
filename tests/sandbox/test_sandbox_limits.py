"""The limiters, under a held clock."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.sandbox.config import Limit
from orchestration.sandbox.journal import JournalEntry, measure_windows
from orchestration.sandbox.quota import QuotaEnforcer, format_rate_headers
from orchestration.sandbox.quota.meters import (
    BucketMeter,
    FixedWindowMeter,
    Meter,
    SharedMeter,
    SlidingWindowMeter,
)

if TYPE_CHECKING:
    from orchestration.sandbox.quota import Decision

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
    bucket = BucketMeter(count=2, window_us=SECOND_US, capacity=3)

    burst = accepted(bucket, [T0_US] * 5)
    wait_us = bucket.wait_us(T0_US)
    just_before = accepted(bucket, [T0_US + wait_us - 1])
    just_then = accepted(bucket, [T0_US + wait_us] * 2)

    assert (len(burst), wait_us) == (3, 500_000)
    assert (len(just_before), len(just_then)) == (0, 1)


def test_a_fixed_window_is_full_until_the_next_one_begins() -> None:
    window = FixedWindowMeter(count=2, window_us=SECOND_US, align="start")

    first = accepted(window, [T0_US, T0_US + 900_000, T0_US + 900_000])
    wait_us = window.wait_us(T0_US + 900_000)
    second = accepted(window, [T0_US + SECOND_US - 1] + [T0_US + SECOND_US] * 3)

    assert (len(first), wait_us) == (2, 100_000)
    assert second == [T0_US + SECOND_US] * 2


@pytest.mark.parametrize(
    ("align", "wait_us"), [("start", 500_000), ("epoch", 250_000), ("call", SECOND_US)]
)
def test_a_fixed_window_begins_where_its_alignment_says(align: str, wait_us: int) -> None:
    window = FixedWindowMeter(count=1, window_us=SECOND_US, align=align)
    accepted(window, [T0_US])

    later_us = T0_US + 2_500_000  # the window of the first call is over
    accepted(window, [later_us])

    assert window.wait_us(later_us) == wait_us


def test_a_sliding_window_frees_a_place_exactly_when_its_oldest_call_leaves() -> None:
    window = SlidingWindowMeter(count=2, window_us=SECOND_US)
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
    bucket = BucketMeter(count, SECOND_US, capacity)
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
    window = SlidingWindowMeter(count, SECOND_US)
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
    enforcer = QuotaEnforcer([loose, tight])

    decisions = [enforcer.decide(T0_US, "POST", "/x", "demo", "/x") for _ in range(3)]

    assert [decision.refused_by for decision in decisions] == [None, tight, tight]
    assert decisions[-1].wait_us == 60 * SECOND_US
    assert [meter.remaining(T0_US) for _, meter in decisions[-1].matching] == [9, 0]


def test_refused_calls_are_charged_only_where_the_limit_says_so() -> None:
    limit = Limit(name="harsh", count=1, window_s=1, shape="sliding_window", count_refused=True)
    enforcer = QuotaEnforcer([limit])

    for offset_us in (0, 600_000, 1_200_000):
        decision = enforcer.decide(T0_US + offset_us, "POST", "/x", "demo", "/x")

    assert decision.refused_by == limit  # the refusal at 0.6 s keeps the window full


def test_clients_have_quotas_of_their_own_and_so_have_endpoints_if_asked() -> None:
    limit = Limit(name="each", count=1, window_s=60, match="POST /v2/*", per="endpoint")
    enforcer = QuotaEnforcer([limit])

    def refused(client: str, method: str, path: str, route: str) -> bool:
        return enforcer.decide(T0_US, method, path, client, route).refused_by is not None

    assert not refused("a", "POST", "/v2/things/1", "/v2/things/{id}")
    assert refused("a", "POST", "/v2/things/2", "/v2/things/{id}")
    assert not refused("b", "POST", "/v2/things/2", "/v2/things/{id}")
    assert not refused("a", "POST", "/v2/others", "/v2/others")
    assert not refused("a", "GET", "/v2/things/2", "/v2/things/{id}")


def test_a_concurrent_limit_refuses_who_finds_no_place_and_takes_the_next_after_one_ends() -> None:
    rate = Limit(name="rate", count=9, window_s=60, shape="fixed_window")
    enforcer = QuotaEnforcer([rate, Limit(name="uploads", count=2, shape="concurrent")])

    def decide() -> Decision:
        return enforcer.decide(T0_US, "POST", "/x", "demo", "/x")

    first, second, third = decide(), decide(), decide()
    for permit in first.permits():
        permit.release()
    fourth, fifth = decide(), decide()

    decisions = (first, second, third, fourth, fifth)
    refused = [decision.refused_by is not None for decision in decisions]
    assert refused == [False, False, True, False, True]
    assert (third.wait_us, third.permits()) == (SECOND_US, [])
    assert fifth.rates(T0_US) == [(rate, 6, 60 * SECOND_US)]  # a refused call was not charged


@pytest.mark.parametrize("shape", ["bucket", "fixed_window", "sliding_window"])
@pytest.mark.parametrize("every_us", [10_000, 143_000])
def test_who_shares_a_limit_is_refused_only_beyond_what_the_other_leaves(
    shape: Any, every_us: int
) -> None:
    limit = Limit(name="l", count=10, window_s=1, shape=shape, other_share=0.3)
    enforcer = QuotaEnforcer([limit])

    moments = range(T0_US, T0_US + 20 * SECOND_US, every_us)
    decisions = [enforcer.decide(now_us, "GET", "/x", "demo", "/x") for now_us in moments]

    refused = sum(decision.refused_by is not None for decision in decisions)
    (others_us,) = enforcer.others_us().values()
    if every_us == 143_000:  # 7 calls a second of ours and 3 of the other's
        assert (refused, len(others_us)) == (0, 60)
    else:
        total = len(moments) - refused + len(others_us)
        assert 190 <= total <= (210 if shape == "bucket" else 200)


@given(share=st.floats(0.01, 0.99), steps_us=STEPS)
def test_the_other_takes_its_share_evenly_as_long_as_there_is_room(
    share: float, steps_us: list[int]
) -> None:
    meter = SharedMeter(FixedWindowMeter(10**6, SECOND_US, "start"), SECOND_US / (100 * share))
    now_us = T0_US
    meter.wait_us(now_us)
    for step_us in steps_us:
        now_us += step_us
        meter.wait_us(now_us)

        due = 1 + (now_us - T0_US) * 100 * share / SECOND_US
        assert abs(len(meter.others_us) - due) <= 1
    assert list(meter.others_us) == sorted(meter.others_us)


def test_what_the_other_took_is_missing_in_the_headers() -> None:
    limit = Limit(name="l", count=100, window_s=10, shape="fixed_window", other_share=0.5)
    enforcer = QuotaEnforcer([limit])
    enforcer.decide(T0_US, "GET", "/x", "demo", "/x")

    now_us = T0_US + 2 * SECOND_US
    headers = format_rate_headers(
        "inin", enforcer.decide(now_us, "GET", "/x", "demo", "/x"), now_us
    )

    # Two calls of ours, and of the other's five a second one at once and ten more.
    assert headers["inin-ratelimit-count"] == "13"
    assert headers["inin-ratelimit-reset"] == "8"


@pytest.mark.parametrize(
    ("shape", "left", "reset_s"),
    [("bucket", 3, 3), ("fixed_window", 2, 7), ("sliding_window", 2, 7)],
)
def test_remaining_and_reset_are_those_of_the_shape_in_every_family(
    shape: Any, left: int, reset_s: int
) -> None:
    limit = Limit(name='a "b"', count=5, window_s=10, shape=shape)
    at_once = Limit(name="at once", count=1, shape="concurrent", match="GET *")
    enforcer = QuotaEnforcer([limit, at_once])
    for offset_s in (0, 2):
        enforcer.decide(T0_US + offset_s * SECOND_US, "POST", "/x", "demo", "/x")
    now_us = T0_US + 3 * SECOND_US
    decision = enforcer.decide(now_us, "GET", "/x", "demo", "/x")

    headers = {
        family: list(format_rate_headers(family, decision, now_us).values())
        for family in ("none", "x-ratelimit", "ratelimit-fields", "inin", "ratelimit")
    }

    assert headers == {
        "none": [],
        "x-ratelimit": ["5", str(left), str(reset_s)],
        "ratelimit-fields": ["5", str(left), str(reset_s)],
        "inin": ["5", str(5 - left), str(reset_s)],
        "ratelimit": [f'"a \\"b\\"";r={left};t={reset_s}', '"a \\"b\\"";q=5;w=10'],
    }


def call(t_us: int, kind: str = "read", **more: Any) -> JournalEntry:
    return JournalEntry(t_us, "demo", "GET", "/x", "", 200, kind, **more)


def test_the_most_at_once_counts_the_calls_in_work_and_who_was_turned_away() -> None:
    limit = Limit(name="l", count=2, shape="concurrent")
    entries = [
        call(100, work_us=50),
        call(120, work_us=30),
        call(130, "refused", refused_by="l"),
        call(150, work_us=10),  # begins just when both of the others end
    ]

    (window,) = measure_windows(entries, [limit], {})

    assert (window["max_accepted"], window["max_arrived"], window["refused"]) == (2, 3, 1)


@pytest.mark.parametrize(
    ("align", "starts_s"), [("start", (0, 2)), ("epoch", (-0.25, 1.75)), ("call", (0, 2.5))]
)
def test_the_report_tells_what_the_other_left_in_each_window(
    align: Any, starts_s: tuple[float, float]
) -> None:
    limit = Limit(name="l", count=5, window_s=2, shape="fixed_window", align=align, other_share=0.5)
    entries = [call(T0_US), call(T0_US + SECOND_US), call(T0_US + 3 * SECOND_US)]
    entries += [call(T0_US + SECOND_US, "refused", refused_by=by) for by in ("l", "another")]
    others_us = [T0_US, T0_US + 100, T0_US + 2_500_000]

    (window,) = measure_windows(entries, [limit], {("l", "demo", ""): others_us})

    starts_us = [T0_US + round(start_s * SECOND_US) for start_s in starts_s]
    assert window["left"] == [[starts_us[0], 3, 2, 1], [starts_us[1], 4, 1, 0]]
    assert window["refused"] == 1
