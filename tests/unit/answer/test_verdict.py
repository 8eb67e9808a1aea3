"""From an answer to a verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from workers.answer.guards import Guard, Memo, NextCall, StepState, in_doubt
from workers.answer.judging import RetryPolicy, judge
from workers.answer.outcome import Answer, Outcome, read
from workers.answer.quota_headers import Feedback
from workers.answer.verdict import UNSENT, Advance, Finish, Pause, Reach, Requeue, Retry, to_json
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

    assert isinstance(it, Finish)
    assert (it.state, it.outcome, it.attempt) == (state, outcome, True)


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


def test_a_403_holds_its_operation_alone_and_names_the_permission_that_is_missing() -> None:
    said = b'{"code": "missing.permissions", "message": "Jane Doe lacks [outbound:contact:add]"}'

    it = verdict_on(Answer(status=403, body=said), Guard.KEY)
    ended = verdict_on(Answer(status=403, body=said), Guard.KEY, CLIENT.max_retries)

    assert isinstance(it, Requeue)
    assert it.attempt is True
    assert it.pause is not None
    assert it.pause.reach is Reach.OPERATION
    assert 30 <= it.pause.duration_s <= it.delay_s <= 31
    assert it.error == (
        "the provider answered 403 (missing.permissions): grant the OAuth client "
        "outbound:contact:add; this operation is held"
    )
    assert isinstance(ended, Finish)
    assert (ended.state, ended.pause) == ("failed", None)


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
        pause=Pause(3600.5, Reach.CLIENT),
        delay_s=90_000.0,
        throttled=True,
        part_done=True,
        step_back=True,
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
        "pause_reach": "client",
        "delay_us": 90_000_000_000,
        "throttled": True,
        "part_done": True,
        "step_back": True,
    }


@pytest.mark.parametrize(
    "memo",
    [
        Memo(),
        Memo(next=NextCall.LOOKUP),
        Memo(next=NextCall.LOOKUP, lookups=0),
        Memo(next=NextCall.FRESH_KEY),
        Memo(next=NextCall.SPLIT),
        Memo(same_answers=2, digest="0a1b2c3d"),
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
    )

    assert policy.countdown_or_backlog(retry) is retry
    longer = replace(retry, delay_s=15.1)
    waits = policy.countdown_or_backlog(longer)
    assert isinstance(waits, Requeue)
    assert as_settle_reads(waits) == as_settle_reads(longer) | {"tag": "requeue"}
