"""How the answer to a poll is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.kind import CannotSay, Polled
from tasks.rest.calls import CallSteps
from tasks.rest.conditions import read_poll
from workers.answer.outcome import Answer
from workers.governor.grants import Grant
from workers.ledger.batch import Place

READY, NOT_YET, FAILED, UNSAID = Polled
POLL = {
    "until": [{"equals": {"/state": "FULFILLED"}}],
    "failed": [{"equals": {"/state": "FAILED"}}, {"equals": {"/state": "CANCELLED"}}],
}
GONE = {"until": [{"status": 404}]}


def an_answer(state: str = "", status: int | None = 200, error: str | None = None) -> Answer:
    return Answer(status=status, body=json.dumps({"state": state}).encode(), error=error)


@pytest.mark.parametrize(
    ("answer", "poll", "says"),
    [
        (an_answer("FULFILLED"), POLL, READY),
        (an_answer("QUEUED"), POLL, NOT_YET),
        (an_answer("FAILED"), POLL, FAILED),
        (an_answer("CANCELLED"), POLL, FAILED),
        (an_answer("FULFILLED", 202), POLL, READY),
        (an_answer("FULFILLED", 404), POLL, NOT_YET),  # reads lag behind writes
        (an_answer("FULFILLED", error="body cut"), POLL, NOT_YET),
        (an_answer("FULFILLED", 500), POLL, UNSAID),
        (an_answer("FULFILLED", 403), POLL, UNSAID),
        (an_answer(status=429), POLL, UNSAID),
        (an_answer(status=None, error="read timeout"), POLL, UNSAID),
        (an_answer(), GONE, NOT_YET),
        (an_answer(status=404), GONE, READY),
        (an_answer(), {"until": [{"status": 200}]}, READY),
        (an_answer(status=202), {"until": [{"status": 200}]}, NOT_YET),
    ],
)
def test_an_answer_is_ready_failed_not_yet_or_says_nothing(
    answer: Answer, poll: dict[str, Any], says: Polled
) -> None:
    assert read_poll(answer, poll) is says


def a_wait(*answers: dict[str, Any]) -> tuple[dict[str, Any], Grant]:
    """A row whose second step waits for the version that the first one made."""
    poll = {"until": [{"equals": {"/version": "{a.version}"}}], "every_s": 1, "times": 2}
    first = {"name": "a", "method": "POST", "path": "/x"}
    row = {"steps": [first, {"name": "b", "method": "GET", "path": "/x/{a.id}", "poll": poll}]}
    return row, Grant(
        key="k", step=2, fence="1", start_in_s=0.0, stale_at_ns=0, job="j", place=Place(0, 0),
        attempts=0, unknown=False, throttled=0, answers=list(answers),
    )  # fmt: skip


def test_a_poll_may_wait_for_a_value_of_an_earlier_answer() -> None:
    row, grant = a_wait({"a.version": 3, "a.id": "7"})
    answers = [Answer(status=200, body=b'{"version": %d}' % n) for n in (2, 3)]

    assert [CallSteps().read_poll(row, grant, it) for it in answers] == [NOT_YET, READY]


def test_what_a_poll_waits_for_is_kept_of_the_earlier_answer() -> None:
    row, grant = a_wait()
    kept = CallSteps().keep(row, grant._replace(step=1), Answer(status=200, body=b'{"version": 3}'))

    assert json.loads(kept.values) == {"a.version": 3}


def test_a_poll_for_a_value_that_was_not_kept_says_so() -> None:
    row, grant = a_wait({"a.id": "7"})

    with pytest.raises(CannotSay, match=r"the answer of step a holds no a\.version"):
        CallSteps().read_poll(row, grant, Answer(status=200, body=b'{"version": 3}'))
