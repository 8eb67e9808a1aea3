"""Limits are safe by arithmetic: what a bucket grants never exceeds what the provider allows.

Grants are simulated exactly, in whole microseconds, and each may take any time up to the bucket's
spread until it arrives.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from workers.errors import ConfigError
from workers.settings.limits import (
    Bucket,
    LimitSettings,
    agree_on,
    bucket_of,
    matching,
    worst_case,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


PROFILE = settings(max_examples=150, deadline=None, derandomize=True, database=None)
S = 1_000_000

chance = st.integers(0, 2**32).map(Random)


@st.composite
def limits(draw: st.DrawFn, *shapes: str) -> LimitSettings:
    """Limits of these shapes, in each calibration, with or without overrides."""
    count = draw(st.integers(1, 60))
    window_s = draw(st.sampled_from([0.1, 0.25, 1.0, 3.0, 10.0, 60.0]))
    part = draw(st.none() | st.floats(0.2, 1.05))
    shape = draw(st.sampled_from(shapes))
    return LimitSettings.model_validate(
        {
            "name": "limit",
            "count": count,
            "window_s": window_s,
            "shape": shape,
            "calibration": draw(
                st.sampled_from(["guide", "tight"] if shape == "bucket" else ["tight"])
            ),
            "rate": part and part * count / window_s,
            "burst": draw(st.none() | st.integers(1, count)),
            "reserve": draw(st.none() | st.just(0)),
        }
    )


window_limits = limits("fixed_window", "sliding_window")
bucket_limits = limits("bucket")


def calibrated(limit: LimitSettings) -> Bucket:
    """The limit's bucket; limits that are refused are no business of a property."""
    try:
        return bucket_of(limit)
    except ConfigError:
        assume(condition=False)
        raise


def granted(it: Bucket, gaps_us: Sequence[int]) -> list[int]:
    """The moments of grants, when calls are wanted with these gaps and go as soon as they may."""
    full_at = now = 0
    grants = []
    for gap_us in gaps_us:
        now = max(now + gap_us, full_at + it.interval_us - it.burst * it.interval_us)
        full_at = max(full_at, now) + it.interval_us
        grants.append(now)
    return grants


def greedy(it: Bucket, n: int, rng: Random) -> list[int]:
    """`n` grants to a caller that always wants more, but for a few rests."""
    rest_us = it.interval_us * (it.burst + 1)
    return granted(it, [rng.randint(0, rest_us) if rng.random() < 0.05 else 0 for _ in range(n)])


def arrived(it: Bucket, grants: Sequence[int], rng: Random) -> list[int]:
    """The moments of arrival, in their order; each grant travels for 0 to `spread_us`."""
    turn = rng.choice(grants)  # until then all are late, from then on all are punctual
    bunch = rng.choice(grants) + it.spread_us  # all that can meet at this moment do
    delays: list[Callable[[int], int]] = [
        lambda _: 0,
        lambda grant: it.spread_us if grant <= turn else 0,
        lambda _: rng.randint(0, it.spread_us),
        lambda grant: bunch - grant if 0 <= bunch - grant <= it.spread_us else 0,
    ]
    styles = rng.choices(delays, k=rng.randint(1, 2))
    return sorted(grant + rng.choice(styles)(grant) for grant in grants)


# Windows


@PROFILE
@given(limit=window_limits, rng=chance, phase=st.integers(0, 60 * S))
def test_no_window_sees_more_calls_than_it_allows(
    limit: LimitSettings, rng: Random, phase: int
) -> None:
    it = calibrated(limit)
    window_us = round(limit.window_s * S)

    arrivals = arrived(it, greedy(it, 3 * limit.count + 2, rng), rng)

    fixed = Counter((moment + phase) // window_us for moment in arrivals)
    assert max(fixed.values()) <= limit.count
    overflow = zip(arrivals, arrivals[limit.count :], strict=False)
    assert all(after - before >= window_us for before, after in overflow)


@PROFILE
@given(limit=window_limits)
@example(LimitSettings(name="limit", count=300, window_s=10, shape="fixed_window"))
@example(LimitSettings(name="limit", count=300, window_s=60, shape="sliding_window"))
@example(LimitSettings(name="limit", count=200, window_s=1, shape="fixed_window"))
@example(LimitSettings(name="limit", count=1, window_s=1, shape="fixed_window"))
def test_a_window_holds_when_its_first_call_is_late_and_its_last_is_not(
    limit: LimitSettings,
) -> None:
    it = calibrated(limit)

    grants = granted(it, [0] * (2 * limit.count + 1))

    one_too_many = zip(grants, grants[limit.count :], strict=False)
    shortest_us = min(after - before for before, after in one_too_many)
    assert shortest_us - it.spread_us >= round(limit.window_s * S)
    assert worst_case(limit) <= limit.count


@PROFILE
@given(limit=window_limits)
def test_the_worst_case_is_the_most_that_can_arrive(limit: LimitSettings) -> None:
    it = calibrated(limit)
    span_us = round(limit.window_s * S) + it.spread_us

    grants = granted(it, [0] * (limit.count + 1))

    assert sum(moment <= span_us for moment in grants) == worst_case(limit)


@pytest.mark.parametrize("shape", ["fixed_window", "sliding_window"])
@pytest.mark.parametrize(
    ("count", "window_s", "burst", "used"), [(300, 10, 3, 0.98), (200, 1, 2, 0.942)]
)
def test_windows_use_the_published_part_of_their_limit(
    shape: str, count: int, window_s: float, burst: int, used: float
) -> None:
    it = bucket_of(LimitSettings.model_validate(_limit(count, window_s, shape=shape)))

    assert it.burst == burst
    assert rate_of(it) * window_s / count == pytest.approx(used, abs=0.001)


@pytest.mark.parametrize(
    ("count", "window_s", "lead_us"), [(200, 1, 50_000), (100, 1, 50_000), (300, 10, 0)]
)
def test_only_a_tight_window_rings_ahead(count: int, window_s: float, lead_us: int) -> None:
    assert bucket_of(_limit(count, window_s, shape="fixed_window")).lead_us == lead_us


# Several configurations


@PROFILE
@given(one=window_limits, other=window_limits, bucket=bucket_limits, rng=chance)
def test_what_several_configurations_agree_on_keeps_the_limit_of_each(
    one: LimitSettings, other: LimitSettings, bucket: LimitSettings, rng: Random
) -> None:
    versions = [one, other, bucket]
    for limit in versions:
        calibrated(limit)
    it = bucket_of(agree_on(versions))

    grants = greedy(it, 3 * max(limit.count for limit in versions) + 2, rng)
    arrivals = arrived(it, grants, rng)

    _must_serve(bucket, arrivals)
    for limit in (one, other):
        overflow = zip(arrivals, arrivals[limit.count :], strict=False)
        assert all(after - before >= round(limit.window_s * S) for before, after in overflow)


def test_places_of_several_configurations_are_the_fewest() -> None:
    most, fewest = (LimitSettings(name="jobs", count=n, shape="concurrent") for n in (9, 4))

    assert bucket_of(agree_on([most, fewest])) == bucket_of(fewest)


# Buckets


@PROFILE
@given(limit=bucket_limits, rng=chance)
def test_a_strict_bucket_at_the_provider_never_refuses(limit: LimitSettings, rng: Random) -> None:
    it = calibrated(limit)

    arrivals = arrived(it, greedy(it, 4 * limit.count + 2, rng), rng)

    _must_serve(limit, arrivals)


@PROFILE
@given(limit=bucket_limits)
@example(LimitSettings(name="limit", count=200))
@example(LimitSettings(name="limit", count=1))
@example(LimitSettings(name="limit", count=200, calibration="tight"))
@example(LimitSettings(name="limit", count=2, calibration="tight"))
@example(LimitSettings(name="limit", count=1, calibration="tight"))
@example(LimitSettings(name="limit", count=1, window_s=60, calibration="tight"))
def test_a_bucket_holds_when_late_calls_meet_punctual_ones(limit: LimitSettings) -> None:
    it = calibrated(limit)
    grants = granted(it, [0] * (2 * limit.count + 2))

    for bunch in sorted({grant + it.spread_us for grant in grants}):
        _must_serve(limit, sorted(max(grant, min(bunch, grant + it.spread_us)) for grant in grants))


def _must_serve(limit: LimitSettings, arrivals: Sequence[int]) -> None:
    """A bucket of `count` tokens, refilled within the window, gives one to each arrival."""
    token = round(limit.window_s * S)  # counted in parts, of which `count` come back each us
    level, last = limit.count * token, arrivals[0]
    for moment in arrivals:
        level = min(limit.count * token, level + (moment - last) * limit.count)
        assert level >= token, f"refused after {moment} us"
        level, last = level - token, moment


@pytest.mark.parametrize(
    ("count", "burst", "rate"), [(200, 160, 180), (100, 80, 90), (10, 8, 9), (1, 1, 0.9)]
)
def test_a_bucket_takes_the_guides_part_of_burst_and_rate(
    count: int, burst: int, rate: float
) -> None:
    it = bucket_of(_limit(count, 1))

    assert it.burst == burst
    assert rate_of(it) == pytest.approx(rate, rel=0.0002)
    assert rate_of(it) <= rate


@pytest.mark.parametrize(
    ("count", "window_s", "burst", "used"),
    [(200, 1, 22, 0.99), (100, 1, 12, 0.99), (10, 1, 3, 0.99), (300, 60, 3, 0.99), (1, 1, 1, 0.95)],
)
def test_a_tight_bucket_takes_the_rate_and_no_more_of_the_burst_than_it_needs(
    count: int, window_s: float, burst: int, used: float
) -> None:
    it = bucket_of(_limit(count, window_s, calibration="tight"))

    assert it.burst == burst
    assert used < rate_of(it) * window_s / count < 0.999  # clocks differ by up to 0.1 %
    assert it.spread_us >= min(100_000, window_s * S / 20 - 1)


# Used: what is left of the rate when bells must travel


def rate_of(it: Bucket) -> float:
    """The rate of a bucket that has one."""
    assert it.rate is not None
    return it.rate


def rung(it: Bucket, seconds: int, rng: Random) -> list[int]:
    """The moments of grants in so many seconds under a backlog, from an empty bucket on.

    Every 25 ms bells are rung for the tokens that normal and bulk may take. Each travels for about
    15 ms, sometimes for 60, takes a token, or one that comes within 100 ms, or goes back.
    """
    now = bells = 0
    full_at = it.burst * it.interval_us
    grants: list[int] = []
    events = [(0, "tick")]
    while now < seconds * S:
        now, event = heapq.heappop(events)
        full_at = max(full_at, now)
        if event == "tick":
            ready = it.burst - math.ceil((full_at - now - it.lead_us) / it.interval_us)
            for _ in range(ready - it.reserve - bells):
                heapq.heappush(events, (now + int(rng.lognormvariate(9.6, 0.6)), "bell"))
                bells += 1
            heapq.heappush(events, (now + 25_000, "tick"))
            continue
        bells -= 1
        wait = full_at - now - (it.burst - 1) * it.interval_us
        if wait <= (100_000 if it.lead_us else 0):
            grants.append(now + max(0, wait))
            full_at += it.interval_us
    return grants


def used(limit: LimitSettings, it: Bucket) -> float:
    """The part of the limit that is used over two windows, at least a minute, of steady work."""
    first, seconds = round(limit.window_s), round(max(60, 2 * limit.window_s))
    grants = rung(it, first + seconds, Random(7))
    return sum(moment >= first * S for moment in grants) / (limit.count * seconds / limit.window_s)


@pytest.mark.parametrize(
    ("limit", "part"),
    [
        ({"count": 300, "window_s": 10, "shape": "fixed_window"}, 0.97),
        ({"count": 300, "window_s": 60, "shape": "sliding_window"}, 0.97),
        ({"count": 200, "shape": "fixed_window"}, 0.93),
        ({"count": 200, "calibration": "tight"}, 0.99),
        ({"count": 20, "calibration": "tight"}, 0.99),
        ({"count": 300, "window_s": 60, "calibration": "tight"}, 0.99),
    ],
)
def test_the_burst_holds_the_rate_while_bells_travel(limit: dict[str, Any], part: float) -> None:
    it = LimitSettings.model_validate({"name": "app", **limit})

    assert used(it, bucket_of(it)) >= part


def test_a_tight_window_would_lose_much_without_its_lead() -> None:
    limit = _limit(200, 1, shape="fixed_window")

    assert used(limit, replace(bucket_of(limit), lead_us=0)) < 0.6


@pytest.mark.parametrize(
    ("limit", "less"),
    [
        ({"count": 200, "calibration": "tight"}, {"burst": 7}),
        ({"count": 300, "window_s": 10, "shape": "fixed_window"}, {"burst": 2}),
        ({"count": 300, "window_s": 10, "shape": "fixed_window"}, {"reserve": 1}),
    ],
)
def test_a_smaller_burst_would_lose_some_of_the_rate(
    limit: dict[str, Any], less: dict[str, int]
) -> None:
    it = LimitSettings.model_validate({"name": "app", **limit})

    assert used(it, replace(bucket_of(it), **less)) < 0.95


@PROFILE
@given(limit=window_limits | bucket_limits)
@example(LimitSettings(name="limit", count=200, shape="fixed_window"))
@example(LimitSettings(name="limit", count=200, calibration="tight"))
def test_a_bell_rings_ahead_only_where_the_burst_does_not_last_for_its_way(
    limit: LimitSettings,
) -> None:
    it = calibrated(limit)

    assert bool(it.lead_us) is ((it.burst - it.reserve) * it.interval_us < 50_000)


# The reserve


@pytest.mark.parametrize(
    ("limit", "burst", "reserve"),
    [
        ({"count": 200}, 160, 8),
        ({"count": 200, "calibration": "tight"}, 22, 1),
        ({"count": 300, "window_s": 10, "shape": "fixed_window"}, 3, 0),  # the rate needs them
        ({"count": 300, "window_s": 10, "shape": "fixed_window", "burst": 5}, 5, 1),
        ({"count": 200, "shape": "fixed_window"}, 2, 0),
        ({"count": 2000, "calibration": "tight"}, 211, 10),
        ({"count": 200, "reserve": 0}, 160, 0),
        ({"count": 200, "reserve": 159}, 160, 159),
    ],
)
def test_a_few_tokens_of_a_burst_are_kept_for_urgent_calls(
    limit: dict[str, Any], burst: int, reserve: int
) -> None:
    it = bucket_of(LimitSettings.model_validate({"name": "app", **limit}))

    assert (it.burst, it.reserve) == (burst, reserve)
    assert it.row() == ["app", it.interval_us, burst, it.lead_us, it.spread_us, reserve]


# Calls at once


def test_a_limit_of_calls_at_once_has_no_rate() -> None:
    limit = _limit(3, None, shape="concurrent", match="POST /uploads/*")

    it = bucket_of(limit)

    assert it.rate is None
    assert it.row() == ["app", 0, 3, 0, 100_000, 0]
    assert worst_case(limit) == 3


# What is refused


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param({"count": 200, "rate": 201}, id="a bucket faster than the provider's"),
        pytest.param({"count": 200, "burst": 201}, id="a bucket larger than the provider's"),
        pytest.param({"count": 200, "burst": 200, "rate": 200}, id="no time between the two"),
        pytest.param({"count": 200, "burst": 200, "rate": 199.99}, id="next to no time"),
        pytest.param(
            {"count": 300, "window_s": 10, "shape": "fixed_window", "rate": 31}, id="too fast"
        ),
        pytest.param(
            {"count": 300, "window_s": 10, "shape": "fixed_window", "rate": 30},
            id="as fast as the window, and a burst on top",
        ),
        pytest.param(
            {"count": 300, "window_s": 10, "shape": "sliding_window", "burst": 100, "rate": 25},
            id="burst and rate together",
        ),
        pytest.param(
            {"count": 50, "window_s": 10, "shape": "fixed_window", "burst": 100_000},
            id="a burst larger than the window",
        ),
        pytest.param(
            {"count": 50, "window_s": 10, "shape": "sliding_window", "burst": 50},
            id="a burst that leaves no rate within the window",
        ),
        pytest.param(
            {"count": 200, "burst": 200, "rate": 199.99, "calibration": "tight"},
            id="next to no time, in a tight one",
        ),
        pytest.param({"count": 1, "window_s": 10_000_000}, id="a window of months"),
        pytest.param({"count": 200, "reserve": 160}, id="a reserve of the whole burst"),
    ],
)
def test_an_override_that_cannot_keep_the_limit_is_refused(limit: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="limit app"):
        bucket_of(LimitSettings.model_validate({"name": "app", **limit}))


@PROFILE
@given(limit=window_limits | bucket_limits)
def test_a_cell_that_is_not_refused_can_be_used(limit: LimitSettings) -> None:
    it = calibrated(limit)

    assert it.interval_us >= 1
    assert 0 <= it.reserve < it.burst <= limit.count
    assert 1_000 <= it.spread_us <= 100_000  # time to send; and no window is that patient
    assert it.lead_us in {0, 50_000}
    assert all(isinstance(number, int) for number in it.row()[1:])


@PROFILE
@given(limit=window_limits | bucket_limits)
def test_without_overrides_every_limit_can_be_kept(limit: LimitSettings) -> None:
    plain = limit.model_copy(update={"burst": None, "rate": None})

    it = bucket_of(plain)

    assert rate_of(it) * plain.window_s >= 0.4 * plain.count or plain.count <= 3
    assert math.isclose(rate_of(it) * it.interval_us, S)


# Which limits a call is charged to


def test_a_call_is_charged_to_the_limits_that_match_its_route_in_their_order() -> None:
    limits = [
        _limit(1, 1, name="all"),
        _limit(1, 1, name="contacts", match="POST /api/v2/outbound/contactlists/*/contacts"),
        _limit(1, 1, name="posts", match="post *"),
        _limit(1, 1, name="one", match="* /api/v2/users/me"),
    ]

    def names(route: str) -> list[str]:
        return [limit.name for limit in matching(limits, route)]

    assert names("POST /api/v2/outbound/contactlists/7/contacts") == ["all", "contacts", "posts"]
    assert names("GET /api/v2/outbound/contactlists/7/contacts") == ["all"]
    assert names("POST /api/v2/outbound/contactlists/7/contacts/x") == ["all", "posts"]
    assert names("GET /api/v2/users/me") == ["all", "one"]
    assert names("GET /api/v2/users/me/too") == ["all"]


def _limit(count: int, window_s: float | None, name: str = "app", **more: str) -> LimitSettings:
    window = {} if window_s is None else {"window_s": window_s}
    return LimitSettings.model_validate({"name": name, "count": count, **window, **more})
