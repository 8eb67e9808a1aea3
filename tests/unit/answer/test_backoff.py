"""How long to wait: the backoff's arithmetic, and every odd Retry-After."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.answer.backoff import (
    RETRY_AFTER_CAP_S,
    countdown_s,
    http_date,
    parse_retry_after,
    pause_s,
)

NOW = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)

seconds = st.floats(0.001, 1e6)
seeds = st.integers(0, 2**32)


def test_without_jitter_the_wait_doubles_up_to_the_cap() -> None:
    class NoJitter(Random):
        def uniform(self, a: float, b: float) -> float:
            del b
            return a

    waits = [countdown_s(attempt, 1.0, 30.0, NoJitter()) for attempt in range(7)]

    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@given(st.integers(0, 10**30), seconds, seconds, seeds)
def test_the_wait_is_the_doubled_base_with_jitter_of_one_base_under_the_cap(
    attempt: int, base_s: float, cap_s: float, seed: int
) -> None:
    wait_s = countdown_s(attempt, base_s, cap_s, Random(seed))

    doubled = base_s * 2 ** min(attempt, 60)
    assert min(doubled, cap_s) <= wait_s <= min(doubled + base_s, cap_s)


def test_those_who_failed_together_come_back_apart() -> None:
    waits = {countdown_s(2, 1.0, 30.0, Random(seed)) for seed in range(50)}

    assert len(waits) == 50
    assert max(waits) - min(waits) > 0.5


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("0", 0.0),
        ("42", 42.0),
        ("007", 7.0),
        (" 42\t", 42.0),
        ("86400", 86_400.0),
        ("86401", 86_400.0),
        ("9" * 10_000, 86_400.0),
        ("0" * 10_000 + "1", 1.0),
        ("Thu, 29 Feb 2024 12:01:30 GMT", 90.0),
        ("Thursday, 29-Feb-24 12:01:30 GMT", 90.0),
        ("Thu Feb 29 12:01:30 2024", 90.0),
        ("Fri Mar  1 12:00:00 2024", 86_400.0),
        ("Thu, 29 Feb 2024 11:59:59 GMT", 0.0),
        ("Sat, 01 Jan 2124 00:00:00 GMT", 86_400.0),
        (None, None),
        ("", None),
        (" ", None),
        ("nan", None),
        ("inf", None),
        ("Infinity", None),
        ("-5", None),
        ("+5", None),
        ("5.5", None),
        ("5,5", None),
        ("1_0", None),
        ("1e3", None),
        ("0x10", None),
        ("\uff14\uff12", None),  # full-width digits
        ("\u0664\u0662", None),
        ("42\n", None),
        ("42 s", None),
        ("42, 43", None),
        ("soon", None),
        ("2024-02-29T12:01:30Z", None),
        ("29 Feb 2024 12:01:30 GMT", None),
        ("Thu, 29 Feb 2024 12:01:30 +0100", None),
        ("Thu, 29 Feb 2024 12:01:30", None),
        ("Fri, 30 Feb 2024 12:01:30 GMT", None),
        ("Thu, 29 Xyz 2024 12:01:30 GMT", None),
        ("Thu, 29 Feb 2024 25:00:00 GMT", None),
    ],
)
def test_retry_after_is_ascii_digits_or_an_http_date_and_all_else_is_no_order(
    value: str | None, wait_s: float | None
) -> None:
    assert parse_retry_after(value, NOW) == wait_s


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-zA-Z,: +._-]{1,35}", fullmatch=True))
def test_no_value_raises_and_every_order_is_within_the_cap(value: str) -> None:
    wait_s = parse_retry_after(value, NOW, 100.0)

    assert wait_s is None or 0.0 <= wait_s <= 100.0


@given(st.integers(0, 10**9), seconds)
def test_whole_seconds_are_taken_as_they_are_up_to_the_cap(order_s: int, cap_s: float) -> None:
    assert parse_retry_after(str(order_s), NOW, cap_s) == min(order_s, cap_s)


@given(st.integers(-(10**8), 10**8), st.integers(-12, 12))
def test_a_date_is_the_time_until_then_whatever_the_zone_of_now(ahead_s: int, zone_h: int) -> None:
    value = format_datetime(NOW + timedelta(seconds=ahead_s), usegmt=True)
    now = NOW.astimezone(timezone(timedelta(hours=zone_h)))

    assert parse_retry_after(value, now) == min(max(ahead_s, 0), RETRY_AFTER_CAP_S)


@given(st.floats(0, 1e6), seconds, seeds)
def test_a_pause_is_never_shorter_than_ordered_and_at_most_one_base_longer(
    order_s: float, base_s: float, seed: int
) -> None:
    wait_s = pause_s(order_s, base_s, Random(seed))

    assert order_s <= wait_s <= order_s + base_s


def test_an_http_date_is_aware_in_each_of_its_three_forms() -> None:
    moment = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)

    assert http_date("Sun, 06 Nov 1994 08:49:37 GMT") == moment
    assert http_date("Sunday, 06-Nov-94 08:49:37 GMT") == moment
    assert http_date("Sun Nov  6 08:49:37 1994") == moment
    assert http_date("now") is None
    assert http_date(None) is None
