"""The path of a step that makes no call: admitted, done by its kind, settled; then the next bell.

It has a lease and a fence like a call. Nothing is charged, and no token is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.kind import Acted, CannotSay
from tasks.steps.call import Step
from workers import failpoints
from workers.answer.backoff import countdown_s
from workers.answer.outcome import Outcome
from workers.answer.verdict import UNSENT, Verdict
from workers.errors import StoreAway
from workers.governor.governor import Go, NoGo

if TYPE_CHECKING:
    from random import Random

    from tasks.kind import Planned, StepKind
    from workers.clients import Client

#: A step that makes no call and goes on: looked at once more, or the step before is.
_GOES_ON = Verdict(kind="AGAIN", how="line", outcome=Outcome.EXECUTED, memo="")
_FAILED = Verdict(kind="END", how="failed", outcome=Outcome.NOT_EXECUTED)


class Act(Step):
    """One step of a transaction that makes no call."""

    abstract = True

    def answer_bell(self, it: Client, key: str, step: int) -> str:
        """Admit, do, settle; then the next bell, or none."""
        grant = it.governor().admit(key, step, acts=True)
        if not isinstance(grant, Go):
            return self.stop(grant.said if isinstance(grant, NoGo) else "drop: not a call")
        failpoints.reach("admitted")
        verdict = self.act(it, grant)
        return self.go_on(it.governor().settle(grant, verdict), verdict)

    def act(self, it: Client, grant: Go) -> Verdict:
        """Do what the grant allows."""
        try:
            params = it.ledger.job_params(grant.job)
            row = it.ledger.row(grant.job, grant.place)
            planned = self.kind.plan(row, params, it.settings())[grant.step - 1]
            acted = self.kind.act(row, params, grant, it)
        except StoreAway:
            return UNSENT
        except Exception as error:  # noqa: BLE001 -- must not look like a worker that died
            why = str(error) if isinstance(error, CannotSay) else type(error).__name__
            how = "unknown" if grant.unknown else "failed"
            return replace(_FAILED, how=how, text=f"step {grant.step} cannot be done: {why}")
        failpoints.reach("answer_read")
        return verdict(acted, planned, grant, it, self.rng)


def verdict(acted: Acted, planned: Planned, grant: Go, it: Client, rng: Random) -> Verdict:
    """What a step that makes no call came to, as it is recorded."""
    doubt = grant.unknown or acted.unknown
    failed = replace(_FAILED, text=acted.text, how="unknown" if doubt else "failed")
    match acted.how:
        case "done":
            kept = acted.kept
            done = replace(_GOES_ON, kind="NEXT", how="", text=kept.values)
            return replace(done, provider_id=kept.provider_id)
        case "not yet" if not planned.polls or grant.part + 1 < planned.polls:
            return replace(_GOES_ON, text=acted.text, delay_s=acted.after_s)
        case "not yet":
            text = f"it was not ready at the last of {planned.polls} looks: {acted.text}"
            return replace(failed, text=text)
        case "back" if _may_go_back(grant, it.settings().max_retries):
            return replace(failed, kind="AGAIN", how="back", attempt=True, memo="")
        case "again" if grant.attempts < it.settings().max_retries:
            settings = it.settings()
            wait_s = countdown_s(
                grant.attempts, settings.backoff_base_s, settings.backoff_cap_s, rng
            )
            how = "retry" if wait_s <= it.fleet.worker.backlog_after_s else "line"
            outcome = Outcome.UNKNOWN if acted.unknown else Outcome.NOT_EXECUTED
            again = replace(failed, kind="AGAIN", outcome=outcome, attempt=True, memo="")
            return replace(again, how=how, delay_s=wait_s)
    outcome = Outcome.UNKNOWN if acted.unknown else Outcome.NOT_EXECUTED
    return replace(failed, outcome=outcome, attempt=acted.how != "failed")


def _may_go_back(grant: Go, most: int) -> bool:
    """Each step before has kept an answer, and one more for each time that it was done again."""
    return grant.step > 1 and len(grant.answers) < grant.step - 1 + most


def act_of(kind: StepKind) -> Act:
    """The Celery task of a kind's steps that make no call, ready to be registered."""
    names = {"name": kind.act_task, "kind": kind, "abstract": False}
    act: Act = type("Act", (Act,), names)()
    return act
