"""From an answer to an outcome: every row of the table, and what no answer may do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.answer.outcome import Answer, Next, Outcome, Reading, read

EXECUTED, NOT_EXECUTED, UNKNOWN = Outcome.EXECUTED, Outcome.NOT_EXECUTED, Outcome.UNKNOWN

NOT_FOLLOWED = "a redirect is not followed, correct base_url or the path"

ROWS: list[tuple[Answer, Outcome, Next, str]] = [
    # Nothing left this machine.
    (
        Answer(sent=False, error="closed before the send"),
        NOT_EXECUTED,
        Next.RETRY,
        "nothing was sent (closed before the send)",
    ),
    (Answer(sent=False), NOT_EXECUTED, Next.RETRY, "nothing was sent (no reason is known)"),
    # It left, and no status line came back.
    (
        Answer(error="reset after send"),
        UNKNOWN,
        Next.RETRY,
        "no answer came back (reset after send)",
    ),
    (Answer(error="read timeout"), UNKNOWN, Next.RETRY, "no answer came back (read timeout)"),
    (Answer(), UNKNOWN, Next.RETRY, "no answer came back (no reason is known)"),
    # Done, whatever became of the body.
    (Answer(status=200, body=b"{}"), EXECUTED, Next.DONE, "the provider answered 200"),
    (Answer(status=201, body=b"\xff not JSON"), EXECUTED, Next.DONE, "the provider answered 201"),
    (Answer(status=202), EXECUTED, Next.DONE, "the provider answered 202"),
    (Answer(status=204), EXECUTED, Next.DONE, "the provider answered 204"),
    (
        Answer(status=200, error="body cut"),
        EXECUTED,
        Next.DONE,
        "the provider answered 200 (body cut)",
    ),
    (
        Answer(status=200, error="body too large"),
        EXECUTED,
        Next.DONE,
        "the provider answered 200 (body too large)",
    ),
    (
        Answer(status=299, error="total timeout"),
        EXECUTED,
        Next.DONE,
        "the provider answered 299 (total timeout)",
    ),
    # Redirects are not followed.
    *[
        (
            Answer(status=status),
            NOT_EXECUTED,
            Next.REFUSED,
            f"the provider answered {status}; {NOT_FOLLOWED}",
        )
        for status in (300, 301, 302, 303, 304, 307, 308)
    ],
    # Refused before processing, and the call comes back.
    (Answer(status=401), NOT_EXECUTED, Next.TOKEN, "the provider answered 401"),
    (Answer(status=425), NOT_EXECUTED, Next.LATER, "the provider answered 425"),
    (Answer(status=429), NOT_EXECUTED, Next.THROTTLED, "the provider answered 429"),
    # Refused for good.
    *[
        (Answer(status=status), NOT_EXECUTED, Next.REFUSED, f"the provider answered {status}")
        for status in (400, 402, 403, 404, 405, 409, 410, 412, 413, 415, 422, 428, 431, 499)
    ],
    # It may have been executed.
    *[
        (Answer(status=status), UNKNOWN, Next.RETRY, f"the provider answered {status}")
        for status in (408, 500, 501, 502, 503, 504, 599, 600, 999)
    ],
]


@pytest.mark.parametrize(
    ("answer", "outcome", "next_", "reason"), ROWS, ids=[repr(row[0]) for row in ROWS]
)
def test_every_answer_has_one_outcome(
    answer: Answer, outcome: Outcome, next_: Next, reason: str
) -> None:
    assert read(answer) == Reading(outcome, next_, reason)


@pytest.mark.parametrize(("answer", "outcome", "next_"), [row[:3] for row in ROWS])
def test_after_an_unknown_attempt_a_refusal_proves_nothing_and_all_else_stands(
    answer: Answer, outcome: Outcome, next_: Next
) -> None:
    reading = read(answer, earlier_unknown=True)

    assert reading.next is next_
    assert reading.outcome is (UNKNOWN if next_ is Next.REFUSED else outcome)


@given(
    st.builds(
        Answer,
        status=st.none() | st.integers(100, 999),
        body=st.binary(max_size=40),
        sent=st.booleans(),
    )
)
def test_only_a_2xx_is_executed_and_only_a_surely_refused_call_is_not(answer: Answer) -> None:
    reading = read(answer)

    if reading.outcome is EXECUTED:
        assert answer.sent
        assert answer.status in range(200, 300)
    if reading.outcome is NOT_EXECUTED:
        assert not answer.sent or answer.status in {*range(300, 500)} - {408}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"code":"bad.request","message":"Anna K."}', "the provider answered 400 (bad.request)"),
        (b'{"error":"invalid_client"}', "the provider answered 400 (invalid_client)"),
        (b'{"code":7,"error":"E-1"}', "the provider answered 400 (E-1)"),
        (b'{"code":"Anna Kowalska"}', "the provider answered 400"),
        (b'{"code":"anna@example.com"}', "the provider answered 400"),
        (b'{"error":{"code":"x"}}', "the provider answered 400"),
        (b'{"code":""}', "the provider answered 400"),
        (b'{"code":"' + b"x" * 65 + b'"}', "the provider answered 400"),
        (b'{"code":"a\\u000ab"}', "the provider answered 400"),
        ('{"code":"\uff58"}'.encode(), "the provider answered 400"),
        (b'["code"]', "the provider answered 400"),
        (b"Anna Kowalska", "the provider answered 400"),
        (b"[" * 100_000, "the provider answered 400"),
    ],
)
def test_a_reason_names_the_providers_code_and_nothing_else_of_its_text(
    body: bytes, reason: str
) -> None:
    assert read(Answer(status=400, body=body)).reason == reason


def test_a_successful_answer_has_no_code_even_when_its_body_has_one() -> None:
    assert read(Answer(status=200, body=b'{"code":"x"}')).reason == "the provider answered 200"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"inin-correlation-id": "a-1", "x-request-id": "b"}, "a-1"),
        ({"correlationid": "c d"}, "c d"),
        ({"x-request-id": "r", "x-correlation-id": "x"}, "x"),
        ({"x-request-id": "r"}, "r"),
        ({"x-request-id": "r" * 128}, "r" * 128),
        ({"x-request-id": "r" * 129}, None),
        ({"x-request-id": "a\nb"}, None),
        ({"x-request-id": "\x1b[31m"}, None),
        ({"x-request-id": "ä"}, None),
        ({"x-request-id": ""}, None),
        ({"x-request-id": " "}, None),
        ({}, None),
    ],
)
def test_a_correlation_id_is_short_printable_ascii_or_none(
    headers: dict[str, str], found: str | None
) -> None:
    assert Answer(status=500, headers=headers).correlation_id == found


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"NaN", b'{"a":Infinity}', b"[" * 100_000, b"1" * 10_000]
)
def test_what_is_no_json_is_none_and_never_an_error(body: bytes) -> None:
    assert Answer(status=200, body=body).json() is None


def test_what_is_json_is_read() -> None:
    assert Answer(status=200, body=b'{"id":"x","n":[1,null]}').json() == {"id": "x", "n": [1, None]}


@given(st.binary(max_size=200))
def test_whatever_json_returns_can_be_kept_as_json(body: bytes) -> None:
    json.dumps(Answer(status=200, body=body).json(), allow_nan=False)


def test_a_date_in_retry_after_is_read_by_the_clock_of_the_answer() -> None:
    headers = {
        "date": "Mon, 01 Jan 2001 00:00:00 GMT",
        "retry-after": "Mon, 01 Jan 2001 00:01:30 GMT",
    }

    answer = Answer(status=429, headers=headers)

    assert answer.retry_after_s == 90.0


def test_no_retry_after_is_no_order() -> None:
    assert Answer(status=429).retry_after_s is None
    assert Answer(status=429, headers={"retry-after": "soon"}).retry_after_s is None


def test_the_repr_of_an_answer_shows_no_data() -> None:
    answer = Answer(status=200, headers={"x": "canary"}, body=b"canary")

    assert "canary" not in repr(answer)
