"""What a provider tells of its quota: every family of headers, and every odd value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.answer.quota_headers import MAX_RESET_S, Feedback, read_feedback

NOW = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
EPOCH_S = int(NOW.timestamp())
NAMES = [
    *(f"x-ratelimit-{it}" for it in ("limit", "remaining", "reset")),
    *(f"ratelimit-{it}" for it in ("limit", "remaining", "reset", "policy")),
    *(f"inin-ratelimit-{it}" for it in ("count", "allowed", "reset")),
    "ratelimit",
    "date",
]


def plain(remaining: str, reset: str, limit: str = "100") -> dict[str, str]:
    """The headers of the family that most providers use."""
    values = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"x-ratelimit-{name}": value for name, value in values.items()}


def genesys(count: str, allowed: str, reset: str = "61") -> dict[str, str]:
    values = {"count": count, "allowed": allowed, "reset": reset}
    return {f"inin-ratelimit-{name}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("headers", "feedback"),
    [
        (plain("7", "30"), Feedback(100, 7, 30.0)),
        (plain("0", "0", "0"), Feedback(0, 0, 0.0)),
        (plain("597.0", "12.5"), Feedback(100, 597, 12.5)),
        (plain(" 7\t", " 30 "), Feedback(100, 7, 30.0)),
        (
            {
                "ratelimit-limit": "100, 100;w=60",
                "ratelimit-remaining": "7",
                "ratelimit-reset": "9",
            },
            Feedback(100, 7, 9.0),
        ),
        ({"ratelimit-remaining": "7", "ratelimit-reset": "9"}, Feedback(None, 7, 9.0)),
        ({"ratelimit": "limit=100, remaining=7, reset=9"}, Feedback(100, 7, 9.0)),
        ({"ratelimit": '"app";r=50;t=30'}, Feedback(None, 50, 30.0)),
        (
            {"ratelimit": '"app";r=50;t=30', "ratelimit-policy": '"app";q=100;w=60'},
            Feedback(100, 50, 30.0),
        ),
        (
            {
                "ratelimit": '"day";r=7;t=3600 , "a,b;\\"c";t=2 ;r=5',
                "ratelimit-policy": '"day";q=900;w=86400,"a,b;\\"c";w=10;q=10;qu="requests"',
            },
            Feedback(10, 5, 2.0),
        ),
        (genesys("1", "300"), Feedback(300, 299, 61.0)),
        (genesys("301", "300"), Feedback(300, 0, 61.0)),
    ],
)
def test_each_family_of_headers_is_read(headers: dict[str, str], feedback: Feedback) -> None:
    assert read_feedback(headers, NOW) == feedback


@pytest.mark.parametrize(
    ("reset", "reset_s"),
    [
        ("86400", 86_400.0),
        (str(EPOCH_S + 90), 90.0),
        (f"{EPOCH_S + 90}.25", 90.25),
        ("Thu, 29 Feb 2024 12:01:30 GMT", 90.0),
        (str(EPOCH_S - 1), 0.0),
        ("Thu, 29 Feb 2024 11:59:59 GMT", 0.0),
    ],
)
def test_a_reset_is_seconds_from_now_or_a_moment(reset: str, reset_s: float) -> None:
    assert read_feedback(plain("7", reset), NOW) == Feedback(100, 7, reset_s)


def test_a_moment_is_compared_with_the_answers_own_date_first() -> None:
    headers = plain("7", str(EPOCH_S + 90)) | {"date": "Thu, 29 Feb 2024 12:01:00 GMT"}

    assert read_feedback(headers, NOW) == read_feedback(headers, None) == Feedback(100, 7, 30.0)


def test_a_moment_says_nothing_where_the_time_is_not_known() -> None:
    assert read_feedback(plain("7", str(EPOCH_S)), None) is None
    assert read_feedback(plain("7", "Thu, 29 Feb 2024 12:01:30 GMT"), None) is None
    assert read_feedback(plain("7", "90"), None) == Feedback(100, 7, 90.0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining": "7"},
        {"x-ratelimit-reset": "7"},
        {"inin-ratelimit-count": "7", "inin-ratelimit-reset": "7"},
        genesys("x", "300"),
        genesys("1", "-300"),
        genesys("1", "300", ""),
        {"ratelimit": '"app";r=50'},  # no time: nothing says how long that holds
        {"ratelimit": '"app;r=50;t=30'},
        {"ratelimit": f'"{"x" * 2_000}";r=50;t=30'},
        {"ratelimit": ',;="'},
        *(
            plain(odd, "30")
            for odd in ("", "-1", "+1", "1e3", "1_0", "nan", "٤٢", "7, 8", "9" * 16)
        ),
        *(plain("7", odd) for odd in ("", "-1", "nan", "inf", "soon", "30s", "9" * 5_000)),
        plain("7", "86401"),
        plain("7", "1000000000"),
        plain("7", str(EPOCH_S + 86_401)),
        plain("7", str(EPOCH_S - 86_401)),
        plain("7", f"{EPOCH_S}000"),
        plain("7", "Sat, 01 Jan 2124 00:00:00 GMT"),
        plain("7", "2024-02-29T12:01:30Z"),
    ],
)
def test_what_cannot_be_believed_says_nothing(headers: dict[str, str]) -> None:
    assert read_feedback(headers, NOW) is None


def test_a_limit_that_cannot_be_read_does_not_hide_what_remains() -> None:
    assert read_feedback(plain("7", "30", "many"), NOW) == Feedback(None, 7, 30.0)


def test_of_several_quotas_the_one_with_the_least_remaining_counts_then_the_later_reset() -> None:
    families = plain("9", "30") | genesys("292", "300") | {"ratelimit": '"a";r=9;t=1, "b";r=8;t=62'}

    assert read_feedback(families, NOW) == Feedback(None, 8, 62.0)
    assert read_feedback(families | plain("-1", "30"), NOW) == Feedback(None, 8, 62.0)
    assert read_feedback(families | plain("3", "30"), NOW) == Feedback(100, 3, 30.0)


VALUES = (
    st.text(max_size=30)
    | st.from_regex(r'["a-z0-9;=,. \\-]{1,40}', fullmatch=True)
    | st.from_regex(r'("[a-z]{1,3}";r=[0-9]{1,4};t=[0-9]{1,6},? ?){1,3}', fullmatch=True)
    | st.integers(-(10**20), 10**20).map(str)
    | st.integers(EPOCH_S - 10**6, EPOCH_S + 10**6).map(str)
    | st.datetimes().map(lambda it: format_datetime(it.replace(tzinfo=UTC), usegmt=True))
)


@given(
    st.dictionaries(st.sampled_from(NAMES), VALUES),
    st.none() | st.timedeltas(-timedelta(days=9), timedelta(days=9)).map(lambda it: NOW + it),
)
def test_no_headers_raise_and_every_reading_is_in_its_range(
    headers: dict[str, str], now: datetime | None
) -> None:
    feedback = read_feedback(headers, now)

    if feedback is not None:
        assert feedback.limit is None or feedback.limit >= 0
        assert feedback.remaining >= 0
        assert 0.0 <= feedback.reset_s <= MAX_RESET_S
