"""What is true after a send of unknown outcome: the whole table."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from workers.answer.guards import Case, Guard, Meaning, Sight, in_doubt, is_done, meaning, told
from workers.answer.outcome import Answer, Outcome, read
from workers.answer.verdict import Verdict, judge
from workers.governor.governor import Go
from workers.ledger.batch import Place
from workers.settings.client import ClientSettings

CLIENT = ClientSettings(
    name="acme",
    base_url="http://provider",
    backoff_base_s=1,
    lookup_after_s=4,
    lookups=2,
    lookup_every_s=20,
)
KEY, UPSERT, LOOKUP, NONE, READ = Guard
DROPPED = Answer(error="reset after send")
FAILED = Answer(status=503, body=b'{"code": "away"}')


def refused(status: int, code: str = "", **headers: str) -> Answer:
    body = b'{"code": "%b"}' % code.encode() if code else b""
    return Answer(status=status, body=body, headers=headers)


def after(
    answer: Answer,
    guard: Guard,
    *,
    unknown: bool = True,
    attempts: int = 1,
    memo: str = "",
    sight: Sight | None = None,
    **given: str,
) -> Verdict | None:
    """The verdict as a step comes to it; None: the step is done."""
    grant = Go(
        key="k", step=1, fence="f", start_in_s=0, stale_at_ns=0, job="j", place=Place(0, 0),
        attempts=attempts, unknown=unknown, throttled=0, answers=[], memo=memo,
    )  # fmt: skip
    doubt = in_doubt(guard, unknown=unknown, attempts=attempts)
    said = {name.strip("_"): value for name, value in given.items()}
    case = Case(guard=guard, doubt=doubt, given=said, sight=sight)
    reading = read(answer, earlier_unknown=doubt and sight is None)
    if is_done(answer, reading, case):
        return None
    return judge(
        answer, reading, grant, case=case, client=CLIENT, backlog_after_s=15, rng=Random(1)
    )  # fmt: skip


def words(it: Verdict | None) -> str:
    """A verdict in short."""
    if it is None:
        return "done"
    if it.kind == "END":
        return it.how
    next_call = {"l": "look", "x": "send", "": "send", "o": "fresh key"}[(it.memo or "")[:1]]
    return f"{next_call} {it.outcome}{' attempt' if it.attempt else ''}"


@pytest.mark.parametrize(
    ("answer", "given", "expected"),
    [
        (refused(409), {}, Meaning.IN_PROGRESS),
        (refused(422), {}, Meaning.KEY_EXPIRED),
        (refused(400), {}, Meaning.UNPROVEN),
        (refused(404), {}, Meaning.UNPROVEN),
        (refused(409), {"409": "exists"}, Meaning.EXISTS),
        (refused(400, "name.taken"), {"400 name.taken": "exists"}, Meaning.EXISTS),
        (refused(400, "bad"), {"400 name.taken": "exists"}, Meaning.UNPROVEN),
        (refused(409, "old"), {"409": "exists", "409 old": "stale"}, Meaning.STALE),
        (refused(409, "new"), {"409": "exists", "409 old": "stale"}, Meaning.EXISTS),
    ],
)
def test_a_refusal_means_what_its_operation_says(
    answer: Answer, given: dict[str, str], expected: Meaning
) -> None:
    assert meaning(answer, given) is expected


@pytest.mark.parametrize("status", [400, 404, 409, 422])
@pytest.mark.parametrize(
    ("said", "by_key", "by_lookup"),
    [
        ("in_progress", "send unknown attempt", "look unknown"),
        ("exists", "done", "look unknown"),
        ("key_expired", "unknown", "look unknown"),
        ("stale", "unknown", "look unknown"),
        ("unproven", "unknown", "look unknown"),
    ],
)
def test_after_an_unknown_attempt_a_refusal_proves_only_what_its_operation_says(
    status: int, said: str, by_key: str, by_lookup: str
) -> None:
    for guard, expected in ((KEY, by_key), (UPSERT, by_key), (LOOKUP, by_lookup)):
        assert words(after(refused(status), guard, **{f"_{status}": said})) == expected
    # Without an unknown attempt before it, it is what it says: the request is refused, or its key.
    alone = "fresh key not_executed attempt" if said == "key_expired" else "failed"
    for guard in (KEY, UPSERT, LOOKUP, NONE):
        fresh = after(refused(status), guard, unknown=False, attempts=0, **{f"_{status}": said})
        assert words(fresh) == alone


def test_in_progress_is_waited_for_as_long_as_the_provider_asks_and_not_for_ever() -> None:
    patient = after(refused(409, **{"retry-after": "9"}), KEY)
    assert patient is not None
    assert (patient.how, patient.delay_s, patient.pause_s) == ("retry", 9, 0)

    assert words(after(refused(409), KEY, attempts=CLIENT.max_retries)) == "unknown"


def test_a_refusal_of_a_resend_is_looked_up_although_the_look_before_found_nothing() -> None:
    assert words(after(refused(409), LOOKUP, unknown=False, attempts=1)) == "look unknown"
    assert words(after(refused(409), KEY, unknown=False, attempts=1)) == "failed"


@pytest.mark.parametrize("answer", [DROPPED, FAILED])
def test_an_unknown_send_is_looked_up_once_the_provider_may_show_it(answer: Answer) -> None:
    it = after(answer, LOOKUP, unknown=False, attempts=CLIENT.max_retries)

    assert it is not None
    assert (it.memo, it.delay_s, it.how, it.attempt) == ("l0", 4, "retry", False)
    assert it.outcome is Outcome.UNKNOWN


NOTHING, NO_WORD = Answer(status=200, body=b"[]"), Answer(error="read timeout")


@pytest.mark.parametrize(
    ("memo", "sight", "attempts", "expected", "next_memo"),
    [
        ("l", Sight.FOUND, 0, "done", None),
        ("l1", Sight.FOUND, 3, "done", None),
        ("l", Sight.ABSENT, 0, "look not_executed", "l0"),  # its worker died: the wait is to come
        ("l", Sight.UNSURE, 0, "look not_executed", "l0"),
        ("l0", Sight.ABSENT, 0, "look not_executed", "l1"),
        ("l0", Sight.UNSURE, 0, "look not_executed", "l1"),
        ("l1", Sight.ABSENT, 0, "send not_executed attempt", ""),
        ("l1", Sight.ABSENT, 2, "send not_executed attempt", ""),
        ("l1", Sight.ABSENT, 3, "failed", ""),
        ("l1", Sight.UNSURE, 0, "unknown", None),
        ("l7", Sight.ABSENT, 0, "send not_executed attempt", ""),  # there were more looks once
    ],
)
def test_looks_end_in_the_found_a_resend_or_unknown(
    memo: str, sight: Sight, attempts: int, expected: str, next_memo: str | None
) -> None:
    answer = NO_WORD if sight is Sight.UNSURE else NOTHING

    it = after(answer, LOOKUP, memo=memo, sight=sight, attempts=attempts)

    assert words(it) == expected
    assert it is None or it.memo == next_memo


def test_a_look_waits_first_for_the_read_lag_and_then_for_the_spacing() -> None:
    first = after(NOTHING, LOOKUP, memo="l", sight=Sight.ABSENT)
    later = after(NOTHING, LOOKUP, memo="l0", sight=Sight.ABSENT)

    assert first is not None
    assert later is not None
    assert (first.delay_s, first.how) == (4, "retry")
    assert (later.delay_s, later.how) == (20, "line")  # longer than backlog_after_s


@pytest.mark.parametrize(
    "answer", [refused(429), Answer(status=401), Answer(error="closed before the send", sent=False)]
)
def test_a_look_that_was_not_answered_is_none(answer: Answer) -> None:
    client: dict[str, Any] = {"memo": "l1", "sight": Sight.UNSURE}
    it = after(answer, LOOKUP, **client)

    assert it is not None
    assert it.attempt is False
    if answer.status != 401:  # where no token can be renewed that is the end
        assert (it.kind, it.memo) == ("AGAIN", None)


def test_the_same_5xx_three_times_is_a_stored_answer_and_another_one_is_not() -> None:
    other = Answer(status=503, body=b'{"code": "away", "id": 2}')
    once = told("", FAILED)
    twice = told(once, FAILED)

    assert words(after(FAILED, KEY, memo=once)) == "send unknown attempt"
    assert words(after(FAILED, KEY, memo=twice)) == "unknown"
    assert words(after(FAILED, UPSERT, memo=twice)) == "unknown"
    assert words(after(other, KEY, memo=twice)) == "send unknown attempt"
    assert words(after(FAILED, READ, memo=twice)) == "send not_executed attempt"
    assert told(twice, other) == told("", other)
    assert told(twice, DROPPED) == told(once, refused(409)) == ""


def test_without_a_guard_an_unknown_send_is_the_end() -> None:
    assert words(after(FAILED, NONE, unknown=False, attempts=0)) == "unknown"
