"""What is true after a send of unknown outcome: the whole table."""

from __future__ import annotations

from random import Random

import pytest

from workers.answer.guards import (
    Guard,
    LookupResult,
    Meaning,
    Memo,
    NextCall,
    StepState,
    find_meaning,
    in_doubt,
    is_done,
)
from workers.answer.judging import RetryPolicy, judge
from workers.answer.outcome import Answer, Health, Outcome, read
from workers.answer.verdict import Finish, GiveUp, Requeue, Retry

POLICY = RetryPolicy(lookup_after_s=4, lookups=2, lookup_every_s=20)
#: Before the first wait, and after so many look-ups in vain.
FIRST_LOOK, LOOK_0, LOOK_1, LOOK_7 = (
    Memo(next=NextCall.LOOKUP, lookups=count) for count in (None, 0, 1, 7)
)
SEND = Memo()
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
    memo: Memo = SEND,
    lookup: LookupResult | None = None,
    **given: str,
) -> Retry | Requeue | Finish | None:
    """The verdict as a step comes to it; None: the step is done."""
    doubt = in_doubt(guard, unknown=unknown, attempts=attempts)
    state = StepState(
        guard=guard,
        attempts=attempts,
        memo=memo,
        doubt=doubt,
        after_unknown={name.strip("_"): value for name, value in given.items()},
        lookup=lookup,
    )
    reading = read(answer, earlier_unknown=doubt and lookup is None)
    if is_done(answer, reading, state):
        return None
    return judge(answer, reading, state, POLICY, Random(1))


def words(it: Retry | Requeue | Finish | None) -> str:
    """A verdict in short."""
    if it is None:
        return "done"
    if isinstance(it, Finish):
        return it.state
    words = {NextCall.LOOKUP: "look", NextCall.FRESH_KEY: "fresh key"}
    next_call = words.get((it.memo or SEND).next, "send")
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
    assert find_meaning(answer, given) is expected


@pytest.mark.parametrize("status", [400, 404, 409, 422])
@pytest.mark.parametrize(
    ("said", "by_key", "by_lookup"),
    [
        ("in_progress", "send unknown", "look unknown attempt"),
        ("exists", "done", "look unknown attempt"),
        ("key_expired", "unknown", "look unknown attempt"),
        ("stale", "unknown", "look unknown attempt"),
        ("unproven", "unknown", "look unknown attempt"),
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


def test_in_progress_is_waited_for_at_growing_distances_and_not_as_attempts() -> None:
    patient = after(refused(409, **{"retry-after": "9"}), KEY)
    assert isinstance(patient, Retry)
    assert (patient.delay_s, patient.pause, patient.attempt) == (9, None, False)
    assert patient.give_up == GiveUp(state="unknown", max_retries=None, patience_s=1800)

    waits = [after(refused(409), KEY, attempts=9, memo=Memo(waits=n)) for n in range(8)]
    delays = [it.delay_s for it in waits if isinstance(it, Retry | Requeue)]
    assert delays == sorted(delays)
    assert delays[-1] == POLICY.cap_s


def test_a_refusal_of_a_resend_is_looked_up_although_the_look_before_found_nothing() -> None:
    assert words(after(refused(409), LOOKUP, unknown=False, attempts=1)) == "look unknown attempt"
    assert words(after(refused(409), KEY, unknown=False, attempts=1)) == "failed"


@pytest.mark.parametrize("answer", [DROPPED, FAILED])
def test_an_unknown_send_is_looked_up_once_the_provider_may_show_it(answer: Answer) -> None:
    it = after(answer, LOOKUP, unknown=False, attempts=POLICY.max_retries)

    assert isinstance(it, Retry)
    assert (it.memo, it.delay_s, it.attempt) == (LOOK_0, 4, True)
    assert it.outcome is Outcome.UNKNOWN


NOTHING, NO_WORD = Answer(status=200, body=b"[]"), Answer(status=404)


@pytest.mark.parametrize(
    ("memo", "sight", "attempts", "expected", "next_memo"),
    [
        (FIRST_LOOK, LookupResult.FOUND, 0, "done", None),
        (LOOK_1, LookupResult.FOUND, 3, "done", None),
        (
            FIRST_LOOK,
            LookupResult.ABSENT,
            0,
            "look not_executed",
            LOOK_0,
        ),  # its worker died: the wait is to come
        (FIRST_LOOK, LookupResult.UNSURE, 0, "look not_executed", LOOK_0),
        (LOOK_0, LookupResult.ABSENT, 0, "look not_executed", LOOK_1),
        (LOOK_0, LookupResult.UNSURE, 0, "look not_executed", LOOK_1),
        (LOOK_1, LookupResult.ABSENT, 1, "send not_executed", SEND),
        (LOOK_1, LookupResult.ABSENT, 3, "send not_executed", SEND),
        (LOOK_1, LookupResult.UNSURE, 0, "unknown", None),
        (
            LOOK_7,
            LookupResult.ABSENT,
            0,
            "send not_executed",
            SEND,
        ),  # there were more looks once
    ],
)
def test_looks_end_in_the_found_a_resend_or_unknown(
    memo: Memo, sight: LookupResult, attempts: int, expected: str, next_memo: Memo | None
) -> None:
    answer = NO_WORD if sight is LookupResult.UNSURE else NOTHING

    it = after(answer, LOOKUP, memo=memo, lookup=sight, attempts=attempts)

    assert words(it) == expected
    assert it is None or it.memo == next_memo


def test_a_look_waits_first_for_the_read_lag_and_then_for_the_spacing() -> None:
    first = after(NOTHING, LOOKUP, memo=FIRST_LOOK, lookup=LookupResult.ABSENT)
    later = after(NOTHING, LOOKUP, memo=LOOK_0, lookup=LookupResult.ABSENT)

    assert isinstance(first, Retry)
    assert first.delay_s == 4
    assert isinstance(later, Requeue)  # longer than a countdown of Celery's may be
    assert later.delay_s == 20


def test_a_step_that_was_surely_not_executed_fails_when_its_attempts_are_spent() -> None:
    it = after(NOTHING, LOOKUP, memo=LOOK_1, lookup=LookupResult.ABSENT)

    assert isinstance(it, Retry)
    assert it.give_up == GiveUp(state="failed", max_retries=3, patience_s=1800)


@pytest.mark.parametrize(
    ("answer", "memo"),
    [
        (refused(429), None),
        (Answer(status=401), Memo(next=NextCall.LOOKUP, lookups=1, token_refusals=1)),
        (Answer(error="closed before the send", sent=False), None),
    ],
)
def test_a_look_that_was_not_answered_is_none(answer: Answer, memo: Memo | None) -> None:
    it = after(answer, LOOKUP, memo=LOOK_1, lookup=LookupResult.UNSURE)

    assert isinstance(it, Requeue)
    assert (it.attempt, it.memo) == (False, memo)


@pytest.mark.parametrize("answer", [FAILED, DROPPED])
def test_a_look_that_was_answered_badly_is_none_and_is_made_again_as_long_as_patience_lasts(
    answer: Answer,
) -> None:
    first = after(answer, LOOKUP, memo=LOOK_1, lookup=LookupResult.UNSURE)
    later = after(answer, LOOKUP, memo=LOOK_1.after_wait(), lookup=LookupResult.UNSURE)

    assert isinstance(first, Retry)
    assert (first.attempt, first.memo, first.is_first) == (False, LOOK_1.after_wait(), True)
    assert first.health is Health.BAD
    assert first.give_up == GiveUp(state="unknown", max_retries=None, patience_s=1800)
    assert isinstance(later, Retry)
    assert not later.is_first
    assert later.delay_s > first.delay_s


@pytest.mark.parametrize("status", [401, 403])
def test_a_look_that_was_refused_access_waits_as_a_send_would(status: int) -> None:
    answer = Answer(status=status)

    first = after(answer, LOOKUP, memo=LOOK_1, lookup=LookupResult.UNSURE)
    again = Memo(next=NextCall.LOOKUP, lookups=1, token_refusals=1)
    second = after(answer, LOOKUP, memo=again, lookup=LookupResult.UNSURE)

    assert isinstance(first, Requeue)  # it comes back with a new token
    assert (first.health, first.memo) == (Health.NEUTRAL, again)
    assert isinstance(second, Retry)
    assert (second.health, second.attempt, second.of_token) == (Health.BAD, False, status == 401)
    assert second.memo == Memo(next=NextCall.LOOKUP, lookups=1, token_refusals=2, waits=1)
    assert second.give_up == GiveUp(state="unknown", max_retries=None, patience_s=1800)


def test_a_look_that_lacks_a_permission_names_it() -> None:
    answer = refused(403, "missing.permissions.outbound:contact:view")
    again = Memo(next=NextCall.LOOKUP, lookups=1, token_refusals=1)

    it = after(answer, LOOKUP, memo=again, lookup=LookupResult.UNSURE)

    assert isinstance(it, Retry)
    assert it.error.endswith("grant the OAuth client outbound:contact:view")


def test_a_403_that_the_operation_takes_for_absent_is_a_look() -> None:
    it = after(refused(403), LOOKUP, memo=LOOK_0, lookup=LookupResult.ABSENT)

    assert words(it) == "look not_executed"
    assert it
    assert it.memo == LOOK_1


@pytest.mark.parametrize(
    "answer",
    [
        *(Answer(status=status) for status in (401, 403, 408, 425, 429, 500, 502, 503, 504)),
        *(DROPPED, Answer(status=200, error="the body was cut")),
    ],
    ids=repr,
)
@pytest.mark.parametrize("renews_tokens", [True, False])
def test_no_look_that_was_answered_badly_is_the_end_or_a_look(
    answer: Answer, *, renews_tokens: bool
) -> None:
    policy, memo = RetryPolicy(lookups=2, renews_tokens=renews_tokens), LOOK_1
    for _ in range(12):
        look = StepState(
            guard=LOOKUP, attempts=1, memo=memo, doubt=True, lookup=LookupResult.UNSURE
        )

        it = judge(answer, read(answer), look, policy, Random(1))

        assert isinstance(it, Retry | Requeue)
        assert not it.attempt
        memo = it.memo or memo
        assert (memo.next, memo.lookups) == (NextCall.LOOKUP, 1)


@pytest.mark.parametrize("guard", [*Guard])
def test_a_425_waits_at_growing_distances_and_is_no_attempt_and_no_evidence(guard: Guard) -> None:
    waits = [
        after(Answer(status=425), guard, unknown=False, attempts=0, memo=Memo(waits=n))
        for n in range(8)
    ]

    again = [it for it in waits if isinstance(it, Retry | Requeue)]
    assert [it.memo for it in again] == [Memo(waits=n + 1) for n in range(8)]
    assert {(it.attempt, it.pause, it.health) for it in again} == {(False, None, Health.NEUTRAL)}
    rule = GiveUp(state="failed", max_retries=None, patience_s=1800)
    assert {it.give_up for it in again} == {rule}
    delays = [it.delay_s for it in again]
    assert delays == sorted(delays)
    assert delays[-1] == POLICY.cap_s


def test_a_look_that_the_provider_calls_wrong_finds_nothing() -> None:
    # It was read and understood: asking the same again gets the same answer, outage or not.
    it = after(refused(400), LOOKUP, memo=LOOK_1, lookup=LookupResult.UNSURE)

    assert words(it) == "unknown"
    assert it
    assert it.error == "look-up 2, not yet sure: the provider answered 400"


def test_the_same_5xx_however_often_is_no_answer_that_is_remembered() -> None:
    for attempts in (0, 3, 30):
        assert words(after(FAILED, KEY, attempts=attempts)) == "send unknown attempt"
        assert words(after(FAILED, READ, attempts=attempts)) == "send not_executed attempt"


def test_without_a_guard_an_unknown_send_is_the_end() -> None:
    assert words(after(FAILED, NONE, unknown=False, attempts=0)) == "unknown"
