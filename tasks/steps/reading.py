"""From the answer to a call to a verdict: what its kind reads in it, else what its status says.

Nothing here changes anything: what an answer asks for at once is done in `tasks.steps.call`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.kind import CannotSay, Polled, StepResult
from workers.answer.guards import StepState, in_doubt, is_done
from workers.answer.judging import judge
from workers.answer.outcome import Outcome, read
from workers.answer.quota_headers import read_shortage
from workers.answer.verdict import Advance, Finish, Requeue, continue_step, fail_poll
from workers.ledger.batch import rows_of

if TYPE_CHECKING:
    from random import Random

    from tasks.steps.granted import GrantedStep
    from workers.answer.outcome import Answer, Reading
    from workers.answer.verdict import Verdict


def read_answer(
    granted: GrantedStep, answer: Answer, rng: Random, *, renews_token: bool = True
) -> Verdict:
    """The verdict on an answer, with what its headers leave of the quota.

    Args:
        granted: The step whose call was answered.
        answer: What came back.
        rng: Source of the jitter.
        renews_token: After a 401: a new token is asked for.
    """
    verdict = _verdict(granted, answer, rng, renews_token=renews_token)
    quota = read_shortage(answer.headers)
    return replace(verdict, quota=quota) if quota else verdict


def read_probe(answer: Answer) -> Requeue:
    """The verdict on the client's own probe, which went out in the place of a call.

    The call goes back to its backlog, as not sent.
    """
    return Requeue(
        outcome=Outcome.NOT_EXECUTED,
        status=answer.status,
        health=answer.health,
        error=f"the probe came first: {read(answer).reason}",
        is_first=True,
        retry_after_s=answer.ordered_wait_s,
    )


def _verdict(granted: GrantedStep, answer: Answer, rng: Random, *, renews_token: bool) -> Verdict:
    """A poll goes first, then success; else the judge."""
    state = _state_of(granted, answer, renews_token=renews_token)
    reading = read(answer, earlier_unknown=state.doubt and not granted.grant.looking)
    if granted.plan.polls and (verdict := _read_poll(granted, answer, reading)):
        return verdict
    if is_done(answer, reading, state):
        return _done(granted, answer)
    verdict = judge(answer, reading, state, granted.client.retry_policy, rng)
    return _explain(granted, answer, verdict) if isinstance(verdict, Finish) else verdict


def _read_poll(granted: GrantedStep, answer: Answer, reading: Reading) -> Verdict | None:
    """The verdict on a poll; None where its answer says nothing of what it waits for."""
    try:
        polled = granted.kind.read_poll(granted.row, granted.grant, answer)
    except CannotSay as error:
        return fail_poll(answer, f"what it waits for is not known: {error}")
    match polled:
        case Polled.READY:
            return _done(granted, answer)
        case Polled.FAILED:
            return fail_poll(answer, granted.kind.explain_failure(granted.row, answer))
        case Polled.NOT_YET:
            return _poll_again(granted, answer, reading)
    return None


def _explain(granted: GrantedStep, answer: Answer, verdict: Finish) -> Verdict:
    """The end with the kind's advice."""
    advice = granted.kind.advise(granted.route, answer.status)
    return replace(verdict, error=f"{verdict.error}: {advice}") if advice else verdict


def _state_of(granted: GrantedStep, answer: Answer, *, renews_token: bool) -> StepState:
    """What is known of the step beside its answer, but for what the look-up saw in that."""
    grant, plan = granted.grant, granted.plan
    return StepState(
        guard=plan.guard,
        attempts=grant.attempts,
        throttled=grant.throttled,
        memo=grant.memo,
        doubt=in_doubt(plan.guard, unknown=grant.unknown, attempts=grant.attempts),
        after_unknown=plan.after_unknown,
        lookup=granted.kind.read_lookup(granted.row, grant, answer) if grant.looking else None,
        rows=len(rows_of(granted.row)),
        is_poll=bool(plan.polls) and not grant.looking,
        renews_token=renews_token,
    )


def _done(granted: GrantedStep, answer: Answer) -> Verdict:
    """The verdict on a success; a body that cannot be read makes it no failure."""
    if granted.grant.part + 1 < granted.plan.parts:
        return continue_step(answer)
    try:
        result = granted.kind.keep(granted.row, granted.grant, answer)
    except Exception:  # noqa: BLE001 -- the call was executed, whatever its answer says
        result = StepResult()
    return Advance(
        outcome=Outcome.EXECUTED,
        status=answer.status,
        values=result.values,
        provider_id=result.provider_id,
        correlation_id=answer.correlation_id or "",
    )


def _poll_again(granted: GrantedStep, answer: Answer, reading: Reading) -> Requeue | Finish:
    """The verdict on a poll that shows that what it waits for is not ready, or shows nothing."""
    plan = granted.plan
    if granted.grant.part + 1 >= plan.polls:
        error = f"it was not ready at the last of {plan.polls} polls: {reading.reason}"
        return fail_poll(answer, error)
    return continue_step(answer, plan.every_s)
