"""What one grant came to, as it is recorded, and its form for lua/settle.lua. Pure.

`workers.answer.judging` makes it of an answer that does not prove the step done.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple

from workers.answer.guards import Memo
from workers.answer.outcome import Health, Outcome

if TYPE_CHECKING:
    from workers.answer.outcome import Answer, Refused
    from workers.answer.quota_headers import Feedback

#: Longest error sentence that is kept, characters.
MAX_TEXT: Final = 300
#: How a transaction ends without success.
FinalState = Literal["failed", "unknown", "cancelled", "expired"]


class Reach(StrEnum):
    """What a pause holds; lua/includes/pause.lua reads it."""

    SCOPE = "scope"  #: what was refused; refusals of other scopes may widen it
    CLIENT = "client"  #: all calls of the client


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing may leave for so long."""

    duration_s: float
    reach: Reach = Reach.SCOPE
    #: How long it may become where refusal follows upon refusal; 0: the provider orders how long.
    most_s: float = 0.0

    @property
    def stated(self) -> dict[str, Any]:
        """As lua/settle.lua takes it."""
        duration_us, most_us = round(self.duration_s * 1e6), round(self.most_s * 1e6)
        if not duration_us:
            return {}
        stated = {"pause_us": duration_us, "pause_reach": self.reach}
        return {**stated, "pause_most_us": most_us} if most_us else stated


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """When a call that is tried again ends in its place; never while its breaker is open."""

    state: FinalState
    max_retries: int | None  #: attempts after the first one; None: any number of them
    patience_s: float  #: from the first answer since which it is tried again

    @property
    def stated(self) -> dict[str, Any]:
        """As lua/settle.lua takes it."""
        stated = {"state": self.state, "patience_us": round(self.patience_s * 1e6)}
        return stated if self.max_retries is None else {**stated, "attempts": self.max_retries}


class Awaited(NamedTuple):
    """What one transaction waits for: another one of its client has done a step, or has ended."""

    key: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settlement:
    """What is recorded of an answer, whatever follows from it."""

    tag: ClassVar[str]  #: by which lua/settle.lua knows it

    outcome: Outcome
    status: int | None = None
    health: Health = Health.GOOD  #: of a call: what its answer says of the provider
    correlation_id: str = ""
    quota: Feedback | None = None  #: what the provider's headers leave, where that is news


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance(_Settlement):
    """The step is done: the next one follows, or the end."""

    tag: ClassVar[str] = "advance"

    values: str = ""  #: what later steps need of it, one line of JSON; "" = nothing
    provider_id: str = ""

    @property
    def summary(self) -> str:
        """What Flower shows for this answer."""
        return f"succeeded {self.status}" if self.status else "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class _NotDone(_Settlement):
    """The step is not done."""

    attempt: bool = False  #: it went out and failed
    error: str = ""  #: what went wrong, one sentence for people
    memo: Memo | None = None  #: what the step's next call must know; None: as it was
    sent_digest: str = ""  #: of what went out under a key, see `identity.request_digest`
    pause: Pause | None = None
    give_up: GiveUp | None = None  #: None: it goes on as long as its key lives
    is_first: bool = False  #: of a bad answer: the row was never sent before under this call
    of_token: bool = False  #: of a bad answer: it is a 401
    retry_after_s: float = 0.0  #: of a bad answer: no probe of its breaker goes earlier

    def summary_as(self, state: str) -> str:
        """The state with what went wrong, which names the status."""
        if self.error:
            return f"{state}: {self.error}"
        return f"{state} {self.status}" if self.status else state


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(_NotDone):
    """The step is tried again after a countdown of Celery's."""

    tag: ClassVar[str] = "retry"

    delay_s: float

    @property
    def summary(self) -> str:
        """What Flower shows for this answer."""
        return self.summary_as("again")

    def from_backlog(self) -> Requeue:
        """The same, but the transaction waits in its backlog."""
        return Requeue(**{known.name: getattr(self, known.name) for known in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeue(_NotDone):
    """The transaction waits in its backlog, and is due after `delay_s`."""

    tag: ClassVar[str] = "requeue"

    delay_s: float = 0.0
    throttled: bool = False  #: it was a 429
    refused: Refused | None = None  #: what such an answer says, for the record
    part_done: bool = False  #: one call of the step is done, a part or a poll, and others follow
    step_back: bool = False  #: the step before is done once more
    waits_for: Awaited | None = None  #: it is due when that is done, and after `delay_s` at most

    @property
    def summary(self) -> str:
        """What Flower shows for this answer."""
        return self.summary_as("again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(_NotDone):
    """The transaction ends without success."""

    tag: ClassVar[str] = "finish"

    state: FinalState

    @property
    def summary(self) -> str:
        """What Flower shows for this answer."""
        return self.summary_as(self.state)


#: What one grant came to.
Verdict = Advance | Retry | Requeue | Finish

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(verdict: Verdict) -> str:
    """The verdict as lua/settle.lua takes it: what is absent is left out, and nothing is null."""
    stated: dict[str, Any] = {"tag": verdict.tag, "outcome": verdict.outcome}
    if verdict.status is not None:
        stated["status"] = verdict.status
    if verdict.health is not Health.GOOD:
        stated["health"] = verdict.health
    if verdict.correlation_id:
        stated["correlation_id"] = verdict.correlation_id
    if verdict.quota:
        stated["remaining"] = verdict.quota.remaining
        stated["reset_us"] = round(verdict.quota.reset_s * 1e6)
    if isinstance(verdict, Advance):
        if verdict.values:
            stated["values"] = verdict.values
        if verdict.provider_id:  # the ledger keeps a line for each step
            stated["provider_id"] = verdict.provider_id.replace("\n", " ")
    else:
        stated |= _of_not_done(verdict)
    text = _encode(stated)
    # Half characters, which a provider may send, no store can keep.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _of_not_done(verdict: Retry | Requeue | Finish) -> dict[str, Any]:
    stated: dict[str, Any] = {}
    flags = ["attempt", "is_first", "of_token"]
    if verdict.retry_after_s:
        stated["retry_after_us"] = round(verdict.retry_after_s * 1e6)
    if verdict.give_up:
        stated["give_up"] = verdict.give_up.stated
    if verdict.error:
        stated["error"] = verdict.error[:MAX_TEXT]
    if verdict.memo is not None:
        stated["memo"] = verdict.memo.to_text()
    if verdict.sent_digest:
        stated["sent_digest"] = verdict.sent_digest
    if verdict.pause:
        stated |= verdict.pause.stated
    match verdict:
        case Finish():
            stated["state"] = verdict.state
        case Retry() | Requeue() if delay_us := round(verdict.delay_s * 1e6):
            stated["delay_us"] = delay_us
    if isinstance(verdict, Requeue):
        flags += ["throttled", "part_done", "step_back"]
        stated |= _of_wait(verdict.waits_for)
    return stated | {name: True for name in flags if getattr(verdict, name)}


def _of_wait(awaited: Awaited | None) -> dict[str, Any]:
    return {"waits_for": awaited.key, "waits_for_step": awaited.step} if awaited else {}


#: The verdict on a grant that was not used: back to the head of its backlog.
UNSENT: Final = Requeue(outcome=Outcome.NOT_EXECUTED)


def continue_step(answer: Answer, after_s: float = 0.0) -> Requeue:
    """The verdict on a part of a step that is done, or on a poll that came too early.

    The step goes on after `after_s` at the earliest, from the backlog; no attempt is made.
    """
    return Requeue(
        outcome=Outcome.EXECUTED,
        status=answer.status,
        correlation_id=answer.correlation_id or "",
        delay_s=after_s,
        memo=Memo(),
        part_done=True,
    )


def fail_poll(answer: Answer, error: str) -> Finish:
    """The verdict on a poll that shows that what it waits for will not come."""
    return Finish(
        state="failed",
        outcome=Outcome.NOT_EXECUTED,
        status=answer.status,
        health=answer.health,
        error=error,
        correlation_id=answer.correlation_id or "",
    )
