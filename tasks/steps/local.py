"""The path of a local step, which makes no call: admitted, done by its kind, settled.

It has a lease and a fence like a call. Nothing is charged, and no token is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.kind import ANY_PLATFORM, CannotSay
from tasks.steps.call import Step
from tasks.steps.granted import GrantedStep, finish_undone, put_off, require_platform
from workers import failpoints
from workers.answer.backoff import countdown_s
from workers.answer.guards import Memo
from workers.answer.outcome import Health, Outcome
from workers.answer.verdict import Advance, Finish, Requeue, Retry
from workers.broker.names import pool_of
from workers.errors import ConfigError, LedgerDamaged, StoreAway
from workers.governor.grants import Asker, Denied, Grant

if TYPE_CHECKING:
    from random import Random

    from tasks.kind import LocalResult, StepKind, StepPlan
    from workers.answer.judging import RetryPolicy
    from workers.answer.verdict import Verdict
    from workers.clients import Client


class LocalStep(Step):
    """One step of a transaction that makes no call."""

    abstract = True

    def find_asker(self, client: Client) -> Asker:
        """What this task serves in this worker: the steps of the pool whose threads do it."""
        pool = pool_of(client.keys.namespace, self.app.amqp.queues.consume_from)
        return self.asker._replace(does=f"pool:{pool}")

    def serve_bell(self, client: Client, key: str, step: int) -> str:
        """Admit, do, settle; then the next bell, or none."""
        grant = client.governor().admit(key, step, self.find_asker(client), local=True)
        if not isinstance(grant, Grant):
            return self.stop(grant.summary if isinstance(grant, Denied) else "drop: not a call")
        failpoints.reach("admitted")
        verdict = self.run_local(client, grant)
        return self.go_on(client.governor().settle(grant, verdict), verdict)

    def run_local(self, client: Client, grant: Grant) -> Verdict:
        """Do what the grant allows."""
        try:
            require_platform(client, self.platform)
            local = GrantedStep.load(client, self.kind, grant)
            result = self.kind.run_local(local.row, local.job_params, grant, client)
        except (StoreAway, ConfigError, LedgerDamaged) as error:
            return put_off(client, grant, error)
        except Exception as error:  # noqa: BLE001 -- must not look like a worker that died
            return finish_undone(grant, error, "cannot be done", (CannotSay,))
        failpoints.reach("answer_read")
        return judge_local(result, local.plan, grant, client.retry_policy, self.rng)


def judge_local(
    result: LocalResult, plan: StepPlan, grant: Grant, policy: RetryPolicy, rng: Random
) -> Verdict:
    """What a local step came to, as it is recorded."""
    match result.how:
        case "done":
            return Advance(
                outcome=Outcome.EXECUTED,
                values=result.kept.values,
                provider_id=result.kept.provider_id,
            )
        case "not yet":
            return _wait_on(result, plan, grant)
        case "back" if _may_go_back(grant, policy.max_retries):
            return Requeue(
                outcome=Outcome.NOT_EXECUTED,
                error=result.text,
                attempt=True,
                memo=Memo(),
                step_back=True,
            )
        case "again":
            return policy.countdown_or_backlog(_retry(result, policy, grant, rng))
    return Finish(
        state="unknown" if grant.unknown or result.unknown else "failed",
        outcome=Outcome.UNKNOWN if result.unknown else Outcome.NOT_EXECUTED,
        error=result.text,
        attempt=result.how != "failed" or result.sent,
    )


def _wait_on(result: LocalResult, plan: StepPlan, grant: Grant) -> Requeue | Finish:
    """It is not ready: it is looked at once more, where the plan has looks left."""
    if plan.polls and grant.part + 1 >= plan.polls:
        return Finish(
            state="unknown" if grant.unknown or result.unknown else "failed",
            outcome=Outcome.NOT_EXECUTED,
            error=f"it was not ready at the last of {plan.polls} looks: {result.text}",
        )
    return Requeue(
        outcome=Outcome.EXECUTED,
        error=result.text,
        memo=Memo(),
        delay_s=result.after_s,
        waits_for=result.waits_for,
        part_done=True,
    )


def _retry(result: LocalResult, policy: RetryPolicy, grant: Grant, rng: Random) -> Retry:
    """One more attempt after the backoff, as long as it has attempts or patience left.

    It is weighed against what became of other transfers, but no breaker opens for them.
    """
    return Retry(
        outcome=Outcome.UNKNOWN if result.unknown else Outcome.NOT_EXECUTED,
        health=Health.BAD,
        error=result.text,
        attempt=True,
        memo=Memo(),
        delay_s=countdown_s(grant.attempts, policy.base_s, policy.cap_s, rng),
        give_up=policy.give_up("unknown" if grant.unknown or result.unknown else "failed"),
    )


def _may_go_back(grant: Grant, most: int) -> bool:
    """Each step before has kept an answer, and one more for each time that it was done again."""
    return grant.step > 1 and len(grant.answers) < grant.step - 1 + most


def local_step_of(kind: StepKind, jobs: str, platform: str = ANY_PLATFORM) -> LocalStep:
    """The Celery task of a kind's local steps, ready to be registered; as `step_of`."""
    names = {"name": kind.local_task, "kind": kind, "asker": Asker(jobs), "abstract": False}
    step: LocalStep = type("LocalStep", (LocalStep,), {**names, "platform": platform})()
    return step
