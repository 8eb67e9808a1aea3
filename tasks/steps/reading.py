"""From the answer to a call to a verdict: what its kind reads in it, else what its status says."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tasks.kind import CannotSay, Polled, StepResult
from workers.answer.guards import StepState, in_doubt, is_done
from workers.answer.judging import judge
from workers.answer.outcome import Next, Outcome, read
from workers.answer.quota_headers import HEARD_FROM_S, read_feedback
from workers.answer.verdict import Advance, Finish, Pause, Reach, Requeue, continue_step, fail_poll
from workers.errors import StoreAway
from workers.ledger.batch import rows_of

if TYPE_CHECKING:
    from random import Random

    from tasks.kind import StepKind, StepPlan
    from workers.answer.outcome import Answer, Reading
    from workers.answer.verdict import Verdict
    from workers.auth.credentials import Token
    from workers.clients import Client
    from workers.governor.grants import Grant
    from workers.ledger.job import JobParams
    from workers.ledger.ledger import Row

#: A token that is refused although it is new holds its client so long.
REFUSED_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class GrantedCall:
    """One granted call, with all that its request is made of and its answer is judged by."""

    client: Client
    kind: StepKind
    grant: Grant
    plan: StepPlan
    row: Row
    job_params: JobParams
    token: Token | None

    @property
    def route(self) -> str:
        """Method and path of the call that goes out, which may be the look-up."""
        return self.plan.lookup if self.grant.looking else self.plan.route


def read_answer(call: GrantedCall, answer: Answer, rng: Random) -> Verdict:
    """The verdict on an answer, with what its headers leave of the quota."""
    verdict = _verdict(call, answer, rng)
    quota = read_feedback(answer.headers, None)
    if quota and quota.reset_s > HEARD_FROM_S:
        return replace(verdict, quota=quota)
    return verdict


def _verdict(call: GrantedCall, answer: Answer, rng: Random) -> Verdict:
    """A poll goes first, then success; else the judge."""
    client, grant = call.client, call.grant
    tenant = call.row.get("tenant", call.job_params.tenant)
    refused = client.refusals.note(call.route, tenant, answer)
    state = _state_of(call, answer)
    reading = read(answer, earlier_unknown=state.doubt and not grant.looking)
    if call.plan.polls and (verdict := _read_poll(call, answer, reading)):
        return verdict
    if is_done(answer, reading, state):
        return _done(call, answer)
    verdict = judge(answer, reading, state, client.retry_policy, rng)
    if isinstance(verdict, Finish):
        return _explain(call, answer, reading, verdict)
    if refused and isinstance(verdict, Requeue):
        return replace(verdict, refused=refused)
    return _refuse_token(call, answer, verdict) if reading.next is Next.TOKEN else verdict


def _read_poll(call: GrantedCall, answer: Answer, reading: Reading) -> Verdict | None:
    """The verdict on a poll; None where its answer says nothing of what it waits for."""
    try:
        polled = call.kind.read_poll(call.row, call.grant, answer)
    except CannotSay as error:
        return fail_poll(answer, f"what it waits for is not known: {error}")
    match polled:
        case Polled.READY:
            return _done(call, answer)
        case Polled.FAILED:
            return fail_poll(answer, call.kind.explain_failure(call.row, answer))
        case Polled.NOT_YET:
            return _poll_again(call, answer, reading)
    return None


def _explain(call: GrantedCall, answer: Answer, reading: Reading, verdict: Finish) -> Verdict:
    """The end with the kind's advice; a poll that showed nothing is made again instead."""
    if call.plan.polls and reading.next is Next.RETRY:
        return _poll_again(call, answer, reading)
    advice = call.kind.advise(call.route, answer.status)
    return replace(verdict, error=f"{verdict.error}: {advice}") if advice else verdict


def _state_of(call: GrantedCall, answer: Answer) -> StepState:
    """What is known of the step beside its answer, but for what the look-up saw in that."""
    grant, plan = call.grant, call.plan
    return StepState(
        guard=plan.guard,
        attempts=grant.attempts,
        throttled=grant.throttled,
        memo=grant.memo,
        doubt=in_doubt(plan.guard, unknown=grant.unknown, attempts=grant.attempts),
        after_unknown=plan.after_unknown,
        lookup=call.kind.read_lookup(call.row, grant, answer) if grant.looking else None,
        rows=len(rows_of(call.row)),
    )


def _done(call: GrantedCall, answer: Answer) -> Verdict:
    """The verdict on a success; a body that cannot be read makes it no failure."""
    if call.grant.part + 1 < call.plan.parts:
        return continue_step(answer)
    try:
        result = call.kind.keep(call.row, call.grant, answer)
    except Exception:  # noqa: BLE001 -- the call was executed, whatever its answer says
        result = StepResult()
    return Advance(
        outcome=Outcome.EXECUTED,
        status=answer.status,
        answer=result.values,
        provider_id=result.provider_id,
        correlation_id=answer.correlation_id or "",
    )


def _poll_again(call: GrantedCall, answer: Answer, reading: Reading) -> Requeue | Finish:
    """The verdict on a poll that shows that what it waits for is not ready, or shows nothing."""
    plan = call.plan
    if call.grant.part + 1 >= plan.polls:
        error = f"it was not ready at the last of {plan.polls} polls: {reading.reason}"
        return fail_poll(answer, error)
    return continue_step(answer, plan.every_s)


def _refuse_token(call: GrantedCall, answer: Answer, verdict: Verdict) -> Verdict:
    """A 401: the token is renewed; one that was refused although it is new holds the client."""
    if not call.token or not isinstance(verdict, Requeue):
        return verdict
    tokens = call.client.tokens()
    with suppress(StoreAway):
        if tokens.refused(call.token, answer.elapsed_s):
            pause = Pause(REFUSED_S, Reach.CLIENT)
            return replace(verdict, pause=pause, error=f"{verdict.error} {tokens.hopeless}")
    return verdict
