"""One granted step with what its job says of it: the input of a call, and of a local step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from tasks.kind import ANY_PLATFORM, CannotSay, other_platform
from workers.answer.outcome import Outcome
from workers.answer.verdict import UNSENT, Finish, Requeue
from workers.errors import ConfigError, LedgerDamaged, SchemaUnknown

if TYPE_CHECKING:
    from tasks.kind import StepKind, StepPlan
    from workers.clients import Client
    from workers.errors import HeadgateError
    from workers.governor.grants import Grant
    from workers.ledger.job import JobParams
    from workers.ledger.ledger import Row


#: Seconds for which a step waits that only a newer release can do.
LATER_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedStep:
    """One granted step, with all that its work is made of and its answer is judged by."""

    client: Client
    kind: StepKind
    grant: Grant
    plan: StepPlan
    row: Row
    job_params: JobParams

    @classmethod
    def load(cls, client: Client, kind: StepKind, grant: Grant) -> Self:
        """Load what the ledger keeps of the job and the row of a grant.

        Raises:
            StoreAway: the store gives no answer.
            LedgerDamaged: job or row cannot be read.
            CannotSay: the row cannot be planned as it was given.
        """
        job_params = client.ledger.job_params(grant.job)
        row = client.ledger.row(grant.job, grant.place)
        plan = kind.plan(row, job_params, client.settings())[grant.step - 1]
        return cls(client=client, kind=kind, grant=grant, plan=plan, row=row, job_params=job_params)

    @property
    def route(self) -> str:
        """Method and path of the call that goes out, which may be the look-up."""
        return self.plan.lookup if self.grant.looking else self.plan.route

    @property
    def tenant(self) -> str:
        """Who sends."""
        tenant: str = self.row.get("tenant", self.job_params.tenant)
        return tenant


def require_platform(client: Client, platform: str) -> None:
    """See to it that the client is one of the platform whose API a kind speaks.

    Intake has seen to it, but a configuration may change while rows wait.

    Raises:
        CannotSay: it is one of another platform, which must not get these rows.
    """
    if platform == ANY_PLATFORM:
        return
    if other := other_platform(platform, client.configured.provider):
        raise CannotSay(
            f"client {client.name} is one of {other}, for which this kind of rows is not; correct "
            f"its provider, and replay this"
        )


def put_off(client: Client, grant: Grant, error: HeadgateError) -> Requeue | Finish:
    """The verdict on a granted step that cannot be done here and now: nothing was sent.

    What cannot be read ends, and a person may replay it.
    """
    if isinstance(error, LedgerDamaged):
        client.ledger.note_damage(f"job:{grant.job}:page:{grant.place.page}", str(error))
        return finish_undone(grant, error, "cannot be read", (LedgerDamaged,))
    if isinstance(error, SchemaUnknown):  # for a newer release, which may come
        return replace(UNSENT, delay_s=LATER_S)
    if isinstance(error, ConfigError):
        client.obstacle.note(str(error))  # others may do it
    return UNSENT


def finish_undone(
    grant: Grant, error: Exception, what: str, speaking: tuple[type[Exception], ...]
) -> Finish:
    """The verdict on a granted step that can never be done as it was given.

    Args:
        grant: The step.
        error: Why.
        what: What is impossible, such as "cannot be sent".
        speaking: Errors whose own words hold no data, and are shown; of any other the class is.
    """
    speaks = isinstance(error, speaking) and not isinstance(error, UnicodeError)
    why = str(error) if speaks else type(error).__name__
    return Finish(
        state="unknown" if grant.unknown else "failed",
        outcome=Outcome.NOT_EXECUTED,
        error=f"step {grant.step} {what}: {why}",
    )
