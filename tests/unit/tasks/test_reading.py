"""How the answer to a granted call becomes a verdict."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tasks.kind import StepPlan
from tasks.rest.calls import CallSteps
from tasks.steps.granted import GrantedStep
from tasks.steps.reading import read_answer
from workers.answer.guards import Guard
from workers.answer.judging import RetryPolicy
from workers.answer.outcome import Answer
from workers.answer.quota_headers import Feedback
from workers.answer.verdict import Advance, Requeue
from workers.governor.grants import Grant
from workers.ledger.batch import Place
from workers.ledger.job import JobParams

if TYPE_CHECKING:
    from workers.answer.verdict import Verdict
    from workers.clients import Client

GRANT = Grant("key", 1, "fence", 0.0, 0, "job", Place(0, 0), 0, False, 0, [])  # noqa: FBT003
ROW: dict[str, Any] = {"line": 1, "id": "r", "steps": [{"method": "POST", "path": "/things"}]}


def verdict_on(answer: Answer, *, part: int = 0, parts: int = 1) -> Verdict:
    """The verdict on the answer; its client has nothing but a policy, so nothing can be changed."""
    client = cast("Client", SimpleNamespace(retry_policy=RetryPolicy()))
    granted = GrantedStep(
        client=client,
        kind=CallSteps(),
        grant=GRANT._replace(part=part),
        plan=StepPlan("POST /things", Guard.KEY, parts=parts),
        row=ROW,
        job_params=JobParams(kind="calls"),
    )
    return read_answer(granted, answer, Random(1))


def test_a_success_keeps_what_the_kind_reads_in_it() -> None:
    verdict = verdict_on(Answer(status=201, body=b'{"id": "7f3a"}'))

    assert isinstance(verdict, Advance)
    assert verdict.provider_id == "7f3a"


@pytest.mark.parametrize(("status", "throttled"), [(429, True), (401, False), (400, False)])
def test_a_verdict_says_what_is_to_be_done_at_once_and_does_not_do_it(
    status: int, *, throttled: bool
) -> None:
    verdict = verdict_on(Answer(status=status))

    assert (isinstance(verdict, Requeue) and verdict.throttled) is throttled


@pytest.mark.parametrize(("reset_s", "is_news"), [("0", False), ("1", False), ("30", True)])
def test_a_quota_that_is_whole_again_at_once_is_no_news(reset_s: str, *, is_news: bool) -> None:
    headers = {"x-ratelimit-remaining": "5", "x-ratelimit-reset": reset_s}

    verdict = verdict_on(Answer(status=201, headers=headers))

    assert verdict.quota == (Feedback(None, 5, 30.0) if is_news else None)


def test_a_step_is_done_with_its_last_part_and_not_before() -> None:
    first, last = (verdict_on(Answer(status=201), part=part, parts=2) for part in (0, 1))

    assert isinstance(first, Requeue)
    assert first.part_done
    assert isinstance(last, Advance)
