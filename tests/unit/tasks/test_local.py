"""What a step that makes no call comes to."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Never

import pytest

from tasks.genesys.prompts import PromptSteps
from tasks.kind import LocalResult, StepPlan, StepResult
from tasks.steps.local import judge_local
from workers.answer.guards import Guard
from workers.answer.judging import RetryPolicy
from workers.answer.outcome import Health, Outcome
from workers.answer.verdict import Advance, Finish, GiveUp, Requeue, Retry
from workers.errors import ConfigError
from workers.governor.grants import Grant
from workers.ledger.batch import Place
from workers.ledger.job import JobParams

if TYPE_CHECKING:
    from workers.answer.verdict import Verdict

GRANT = Grant("key", 3, "fence", 0.0, 0, "job", Place(0, 0), 0, False, 0, [{"id": 1}, {"url": 2}])  # noqa: FBT003


def comes_to(acted: LocalResult, polls: int = 0, **grant: Any) -> Verdict:
    planned = StepPlan("", Guard.READ, polls=polls, local=True)
    policy = RetryPolicy(max_retries=3)
    return judge_local(acted, planned, GRANT._replace(**grant), policy, random.Random(1))


def test_what_is_done_goes_on_with_what_it_keeps() -> None:
    it = comes_to(LocalResult("done", kept=StepResult("p1", '{"a": 1}')))

    assert it == Advance(outcome=Outcome.EXECUTED, provider_id="p1", values='{"a": 1}')


def test_what_is_not_ready_waits_in_the_backlog_and_makes_no_attempt() -> None:
    it = comes_to(LocalResult("not yet", "the contacts are being added", after_s=5), part=99)

    assert isinstance(it, Requeue)
    assert (it.part_done, it.delay_s, it.attempt) == (True, 5, False)
    assert it.outcome is Outcome.EXECUTED


def test_what_may_be_looked_at_so_often_fails_at_the_last_look() -> None:
    assert isinstance(comes_to(LocalResult("not yet"), polls=3, part=1), Requeue)
    last = comes_to(LocalResult("not yet"), polls=3, part=2)
    assert isinstance(last, Finish)
    assert last.state == "failed"


@pytest.mark.parametrize("attempts", [0, 2, 4])
@pytest.mark.parametrize(("unknown", "state"), [(False, "failed"), (True, "unknown")])
def test_an_attempt_that_failed_is_made_again_as_a_call_that_failed(
    attempts: int, *, unknown: bool, state: str
) -> None:
    result = LocalResult("again", "the host answered 503", unknown=unknown)

    it = comes_to(result, attempts=attempts)

    assert isinstance(it, Retry | Requeue)
    assert (it.attempt, it.error, it.health) == (True, "the host answered 503", Health.BAD)
    assert it.delay_s >= 2**attempts
    assert it.give_up == GiveUp(state=state, max_retries=3, patience_s=1800)  # type: ignore[arg-type]


def test_a_step_back_is_bounded_by_the_answers_that_it_keeps() -> None:
    expired, again = LocalResult("back", "the URL expired"), [{"url": 2}] * 3

    for grant in ({}, {"answers": [*GRANT.answers, *again[:2]]}):
        it = comes_to(expired, **grant)
        assert isinstance(it, Requeue)
        assert it.step_back
    for grant in ({"answers": [*GRANT.answers, *again]}, {"step": 1, "answers": []}):
        it = comes_to(expired, **grant)
        assert isinstance(it, Finish)
        assert it.state == "failed"


@pytest.mark.parametrize(
    "given",
    [{"guard": Guard.KEY, "local": True}, {"guard": Guard.READ, "pool": "media"}],
)
def test_a_step_that_could_be_doubled_or_would_hold_a_thread_of_others_is_refused(
    given: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match="done"):
        StepPlan("", **given)


def test_a_worker_whose_own_configuration_sends_no_file_spends_no_attempt_of_the_row() -> None:
    def put(*_: object) -> Never:
        raise ConfigError("ca_file cannot be read")

    client: Any = SimpleNamespace(
        fleet=SimpleNamespace(worker=SimpleNamespace(media_root=None)),
        transfers=lambda: SimpleNamespace(put=put),
        governor=lambda: None,
    )
    grant = GRANT._replace(answers=[{"url": "https://files.example.com/a", "headers": {}}])
    row = {"path": "/a.wav", "size": 1, "md5": "x"}

    with pytest.raises(ConfigError):  # so that the step is put off, for a worker that can do it
        PromptSteps().run_local(row, JobParams(kind="media"), grant, client)
