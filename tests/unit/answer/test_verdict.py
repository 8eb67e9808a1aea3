"""From an answer to a verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from workers.answer.guards import Guard, Memo, NextCall, StepState, in_doubt
from workers.answer.judging import RetryPolicy, judge
from workers.answer.outcome import Answer, Health, Outcome, read
from workers.answer.quota_headers import Feedback
from workers.answer.verdict import (
    UNSENT,
    Advance,
    Finish,
    GiveUp,
    Pause,
    Reach,
    Requeue,
    Retry,
    to_json,
)
from workers.settings.client import ClientSettings
from workers.settings.load import WorkerSettings

if TYPE_CHECKING:
    from workers.answer.verdict import Verdict

CLIENT = ClientSettings(
    name="acme",
    base_url="http://provider",
    token_url="http://provider/token",
    client_id="it",
    client_secret_env="UNUSED",
)


POLICY = RetryPolicy.of(CLIENT, WorkerSettings())


def verdict_on(
    answer: Answer,
    guard: Guard,
    attempts: int = 0,
    policy: RetryPolicy = POLICY,
    *,
    unknown: bool = False,
    rows: int = 1,
) -> Retry | Requeue | Finish:
    doubt = in_doubt(guard, unknown=unknown, attempts=attempts)
    state = StepState(guard=guard, doubt=doubt, attempts=attempts, rows=rows)
    reading = read(answer, earlier_unknown=unknown)
    return judge(answer, reading, state, policy, Random(1))


def as_settle_reads(verdict: Verdict) -> dict[str, Any]:
    """The verdict as it crosses to the script."""
    fields: dict[str, Any] = json.loads(to_json(verdict))
    return fields


@pytest.mark.parametrize(
    ("guard", "state", "outcome"),
    [
        (Guard.KEY, "unknown", Outcome.UNKNOWN),
        (Guard.UPSERT, "unknown", Outcome.UNKNOWN),
        (Guard.READ, "failed", Outcome.NOT_EXECUTED),
    ],
)
def test_after_its_retries_a_write_is_unknown_and_a_read_has_failed(
    guard: Guard, state: str, outcome: Outcome
) -> None:
    it = verdict_on(Answer(status=503), guard, CLIENT.max_retries)

    assert isinstance(it, Retry)
    assert (it.outcome, it.attempt, it.health) == (outcome, True, Health.BAD)
    assert it.give_up == GiveUp(state=state, max_retries=3, patience_s=1800)  # type: ignore[arg-type]


def test_a_bad_answer_is_the_first_only_where_nothing_was_sent_before() -> None:
    first = verdict_on(Answer(status=503), Guard.KEY)
    again = verdict_on(Answer(status=503), Guard.KEY, 1)
    taken_over = verdict_on(Answer(status=503), Guard.KEY, unknown=True)

    assert [it.is_first for it in (first, again, taken_over)] == [True, False, False]


@pytest.mark.parametrize(("order", "least_s"), [("7", 7), ("100000", 900)])
def test_a_bad_answers_own_wait_is_obeyed_up_to_a_quarter_of_an_hour(
    order: str, least_s: float
) -> None:
    it = verdict_on(Answer(status=503, headers={"retry-after": order}), Guard.KEY)

    assert isinstance(it, Retry | Requeue)
    assert (it.delay_s, it.retry_after_s) == (least_s, least_s)


def test_a_read_whose_worker_died_is_refused_as_failed_a_write_as_unknown() -> None:
    refused = Answer(status=404)

    for guard, state in ((Guard.READ, "failed"), (Guard.KEY, "unknown")):
        it = verdict_on(refused, guard, 1, unknown=True)
        assert isinstance(it, Finish)
        assert it.state == state


def test_a_401_is_no_attempt_where_a_token_can_be_renewed_and_the_end_where_none_is_sent() -> None:
    bare = ClientSettings(name="acme", base_url="http://provider")

    renewed = verdict_on(Answer(status=401), Guard.KEY)
    policy = RetryPolicy.of(bare, WorkerSettings())
    ended = verdict_on(Answer(status=401), Guard.KEY, policy=policy)

    assert isinstance(renewed, Requeue)
    assert renewed.attempt is False
    assert isinstance(ended, Finish)
    assert ended.state == "failed"
    assert "set token_url" in ended.error


def test_a_second_401_in_a_row_is_the_rows_own_failure() -> None:
    state = StepState(guard=Guard.KEY, memo=Memo(token_refusals=1))
    answer = Answer(status=401)

    it = judge(answer, read(answer), state, POLICY, Random(1))

    assert isinstance(it, Retry)
    assert (it.attempt, it.health, it.memo) == (True, Health.BAD, Memo(token_refusals=2))
    assert it.give_up == GiveUp(state="failed", max_retries=3, patience_s=1800)
    assert it.error.startswith("the provider answered 401 to a token that is valid; see that")


def test_a_second_403_is_an_attempt_of_its_row_and_names_the_permission_that_is_missing() -> None:
    said = b'{"code": "missing.permissions", "message": "Jane Doe lacks [outbound:contact:add]"}'

    first = verdict_on(Answer(status=403, body=said), Guard.KEY)
    assert isinstance(first, Requeue)
    assert not first.attempt  # it comes back with a new token
    state = StepState(guard=Guard.KEY, memo=Memo(token_refusals=1))
    answer = Answer(status=403, body=said)
    it = judge(answer, read(answer), state, POLICY, Random(1))

    assert isinstance(it, Retry)
    assert (it.attempt, it.pause, it.health) == (True, None, Health.BAD)
    assert it.give_up == GiveUp(state="failed", max_retries=3, patience_s=1800)
    assert it.error == (
        "the provider answered 403 (missing.permissions): grant the OAuth client "
        "outbound:contact:add"
    )


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"retry-after": "40"}, b""),
        ({}, b'{"code": "rate_limit_exceeded"}'),
        ({}, b'{"error": "REQUEST_LIMIT_EXCEEDED"}'),
        ({}, b'{"code": "userRateLimitExceeded"}'),
        ({"retry-after": "0"}, b'{"code": "too.many.requests"}'),
    ],
)
def test_a_403_that_says_that_it_is_a_rate_limit_is_a_429(
    headers: dict[str, str], body: bytes
) -> None:
    it = verdict_on(Answer(status=403, headers=headers, body=body), Guard.KEY)

    assert isinstance(it, Requeue)
    assert (it.throttled, it.attempt, it.health) == (True, False, Health.NEUTRAL)
    assert it.delay_s >= int(headers.get("retry-after", 0))
    assert "grant" not in it.error


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"retry-after": "0"}, b""),
        ({"retry-after": "soon"}, b""),
        ({}, b'{"code": "quota.exceeded"}'),
        ({}, b'{"code": "max.contacts.limit.exceeded"}'),
    ],
)
def test_a_403_that_no_wait_lifts_is_a_refusal_of_its_row(
    headers: dict[str, str], body: bytes
) -> None:
    it = verdict_on(Answer(status=403, headers=headers, body=body), Guard.KEY)

    assert isinstance(it, Requeue)
    assert (it.throttled, it.pause) == (False, None)
    assert it.memo == Memo(token_refusals=1)


@pytest.mark.parametrize("order", [None, "0", "7", "90000"])
def test_a_row_that_is_answered_429_waits_longer_than_it_holds_others(order: str | None) -> None:
    headers = {} if order is None else {"retry-after": order}
    state = StepState(guard=Guard.KEY, throttled=2)
    answer = Answer(status=429, headers=headers)

    it = judge(answer, read(answer), state, POLICY, Random(1))

    assert isinstance(it, Requeue)
    assert it.pause is not None
    assert it.pause.duration_s >= min(int(order or 0), 86_400)
    assert it.pause.most_s == (POLICY.cap_s if order is None else 0)
    assert it.delay_s >= it.pause.duration_s + POLICY.base_s * 2**2
    assert it.give_up == GiveUp(state="failed", max_retries=3, patience_s=1800)
    assert not it.attempt


def test_half_a_character_of_a_provider_is_replaced_before_it_reaches_the_store() -> None:
    it = Advance(outcome=Outcome.EXECUTED, values="a\ud800", provider_id="\udfff")

    assert as_settle_reads(it)["values"] == "a?"
    assert as_settle_reads(it)["provider_id"] == "?"
    to_json(it).encode()


def test_what_is_absent_is_left_out_and_nothing_is_null() -> None:
    done = {"tag": "advance", "outcome": "executed"}
    assert as_settle_reads(Advance(outcome=Outcome.EXECUTED)) == done
    unsent = {"tag": "requeue", "outcome": "not_executed"}
    assert as_settle_reads(UNSENT) == unsent
    forgets = Requeue(outcome=Outcome.NOT_EXECUTED, memo=Memo(), pause=Pause(0))
    assert as_settle_reads(forgets) == {**unsent, "memo": ""}  # "" is not absent: it forgets
    full = Requeue(
        outcome=Outcome.NOT_EXECUTED,
        status=429,
        correlation_id="c",
        quota=Feedback(10, 0, 86_400.0),
        attempt=True,
        error="x" * 400,
        memo=Memo(next=NextCall.LOOKUP, lookups=2),
        pause=Pause(3600.5, Reach.CLIENT, most_s=30.0),
        delay_s=90_000.0,
        throttled=True,
        part_done=True,
        step_back=True,
        health=Health.NEUTRAL,
        is_first=True,
        retry_after_s=7.0,
        give_up=GiveUp(state="unknown", max_retries=3, patience_s=60.0),
    )
    assert as_settle_reads(full) == {
        **unsent,
        "status": 429,
        "correlation_id": "c",
        "remaining": 0,
        "reset_us": 86_400_000_000,
        "attempt": True,
        "error": "x" * 300,
        "memo": '{"next":"look-up","lookups":2}',
        "pause_us": 3_600_500_000,
        "pause_most_us": 30_000_000,
        "pause_reach": "client",
        "delay_us": 90_000_000_000,
        "throttled": True,
        "part_done": True,
        "step_back": True,
        "health": "neutral",
        "is_first": True,
        "retry_after_us": 7_000_000,
        "give_up": {"state": "unknown", "attempts": 3, "patience_us": 60_000_000},
    }


@pytest.mark.parametrize(
    "memo",
    [
        Memo(),
        Memo(next=NextCall.LOOKUP),
        Memo(next=NextCall.LOOKUP, lookups=0),
        Memo(next=NextCall.FRESH_KEY),
        Memo(next=NextCall.SPLIT),
        Memo(waits=2, token_refusals=1),
    ],
)
def test_a_memo_comes_back_from_the_ledger_as_it_went(memo: Memo) -> None:
    assert Memo.from_text(memo.to_text()) == memo


@pytest.mark.parametrize(
    ("status", "guard", "rows", "unknown", "splits"),
    [
        (400, Guard.UPSERT, 2, False, True),
        (413, Guard.UPSERT, 1000, False, True),
        (422, Guard.UPSERT, 2, False, True),
        (400, Guard.UPSERT, 1, False, False),  # it is the row itself that is refused
        (404, Guard.UPSERT, 2, False, False),  # and here the list
        (503, Guard.UPSERT, 2, False, False),
        (400, Guard.UPSERT, 2, True, True),  # written once more it is still one thing
        (400, Guard.KEY, 2, False, True),
        (400, Guard.KEY, 2, True, False),  # under other keys it could be done twice
        (400, Guard.LOOKUP, 2, True, False),
    ],
)
def test_a_batch_is_split_when_a_row_may_be_to_blame_and_other_keys_do_no_harm(
    status: int, guard: Guard, rows: int, *, unknown: bool, splits: bool
) -> None:
    judged = verdict_on(Answer(status=status), guard, 1, unknown=unknown, rows=rows)

    assert (judged.memo == Memo(next=NextCall.SPLIT)) is splits
    if splits:
        assert isinstance(judged, Requeue)
        assert (judged.delay_s, judged.attempt) == (0, True)


def test_a_retry_that_would_count_down_for_long_waits_in_the_backlog_and_says_the_same() -> None:
    policy = RetryPolicy(backlog_after_s=15.0)
    retry = Retry(
        outcome=Outcome.UNKNOWN,
        status=503,
        correlation_id="c",
        quota=Feedback(None, 5, 30.0),
        attempt=True,
        error="the provider answered 503",
        memo=Memo(next=NextCall.LOOKUP),
        pause=Pause(3.0),
        delay_s=15.0,
        health=Health.BAD,
        give_up=GiveUp(state="failed", max_retries=None, patience_s=60.0),
    )

    assert policy.countdown_or_backlog(retry) is retry
    longer = replace(retry, delay_s=15.1)
    waits = policy.countdown_or_backlog(longer)
    assert isinstance(waits, Requeue)
    assert as_settle_reads(waits) == as_settle_reads(longer) | {"tag": "requeue"}
