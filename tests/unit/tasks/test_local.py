"""What a step that makes no call comes to."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tasks.kind import Acted, Kept, Planned
from tasks.steps.local import verdict
from workers.answer.guards import Guard
from workers.answer.outcome import Outcome
from workers.governor.governor import Go
from workers.ledger.batch import Place

if TYPE_CHECKING:
    from workers.answer.verdict import Verdict

CLIENT: Any = SimpleNamespace(
    settings=lambda: SimpleNamespace(max_retries=3, backoff_base_s=1.0, backoff_cap_s=30.0),
    fleet=SimpleNamespace(worker=SimpleNamespace(backlog_after_s=15.0)),
)
GO = Go("key", 3, "fence", 0.0, 0, "job", Place(0, 0), 0, False, 0, [{"id": 1}, {"url": 2}])  # noqa: FBT003


def comes_to(acted: Acted, polls: int = 0, **grant: Any) -> Verdict:
    planned = Planned("", Guard.READ, polls=polls, governed=False)
    return verdict(acted, planned, GO._replace(**grant), CLIENT, random.Random(1))


def test_what_is_done_goes_on_with_what_it_keeps() -> None:
    it = comes_to(Acted("done", kept=Kept("p1", '{"a": 1}')))

    assert (it.kind, it.provider_id, it.text) == ("NEXT", "p1", '{"a": 1}')


def test_what_is_not_ready_waits_in_the_line_and_makes_no_attempt() -> None:
    it = comes_to(Acted("not yet", "the contacts are being added", after_s=5), part=99)

    assert (it.kind, it.how, it.delay_s, it.attempt) == ("AGAIN", "line", 5, False)
    assert it.outcome is Outcome.EXECUTED


def test_what_may_be_looked_at_so_often_fails_at_the_last_look() -> None:
    assert comes_to(Acted("not yet"), polls=3, part=1).kind == "AGAIN"
    assert comes_to(Acted("not yet"), polls=3, part=2).how == "failed"


@pytest.mark.parametrize(("attempts", "kind"), [(0, "AGAIN"), (2, "AGAIN"), (3, "END")])
def test_an_attempt_that_failed_is_made_again_as_often_as_a_call(attempts: int, kind: str) -> None:
    it = comes_to(Acted("again", "the host answered 503"), attempts=attempts)

    assert (it.kind, it.attempt, it.text) == (kind, True, "the host answered 503")
    assert it.delay_s >= (kind == "AGAIN") * 2**attempts


def test_a_step_back_is_bounded_by_the_answers_that_it_keeps() -> None:
    expired, again = Acted("back", "the URL expired"), [{"url": 2}] * 3

    assert (comes_to(expired).kind, comes_to(expired).how) == ("AGAIN", "back")
    assert comes_to(expired, answers=[*GO.answers, *again[:2]]).how == "back"
    assert comes_to(expired, answers=[*GO.answers, *again]).how == "failed"
    assert comes_to(expired, step=1, answers=[]).how == "failed"


@pytest.mark.parametrize(
    "given",
    [{"guard": Guard.KEY, "governed": False}, {"guard": Guard.READ, "pool": "media"}],
)
def test_a_step_that_could_be_doubled_or_would_hold_a_thread_of_others_is_refused(
    given: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match="done"):
        Planned("", **given)
