"""From an answer to a verdict: what to record and when to try again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from workers.answer.backoff import countdown_s, pause_s
from workers.answer.guards import (
    KEY_REFUSED,
    OF_ROWS,
    STORED_AFTER,
    TO_SPLIT,
    Case,
    Guard,
    Meaning,
    Sight,
    is_key_refused,
    is_stored,
    looked,
    looks,
    meaning,
    told,
)
from workers.answer.outcome import Next, Outcome, Reading, permissions

if TYPE_CHECKING:
    from random import Random

    from workers.answer.outcome import Answer
    from workers.governor.governor import Go
    from workers.governor.refusals import Refused
    from workers.settings.client import ClientSettings

#: Longest error sentence that is kept, characters.
MAX_TEXT = 300
#: The client may not do this; a new token would not help, a person might.
FORBIDDEN = 403
#: An operation that is not permitted is tried again after this, seconds.
FORBIDDEN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one grant came to."""

    kind: Literal["NEXT", "AGAIN", "END"]
    outcome: Outcome
    attempt: bool = False  #: it went out and failed
    throttled: bool = False  #: it was a 429
    refused: Refused | None = None  #: what such an answer told, for the record
    status: int | None = None
    pause_s: float = 0.0  #: nothing may leave so long for what was refused
    wide: bool = False  #: the pause is for the whole client
    alone: bool = False  #: it is for this operation, whatever else is refused
    text: str = ""  #: NEXT: the answer to keep, one line of JSON; else the error sentence
    provider_id: str = ""
    correlation_id: str = ""
    delay_s: float = 0.0  #: AGAIN: the backoff
    how: str = ""  #: AGAIN: "retry" or "line"; END: the final state
    remaining: int | None = None  #: calls that the provider's headers leave, None = not told
    reset_s: float = 0.0  #: until then
    memo: str | None = None  #: what the step's next call must know; None: as it was

    @property
    def word(self) -> str:
        """What Flower shows for this answer."""
        state = {"NEXT": "succeeded", "AGAIN": "again", "END": self.how}[self.kind]
        if self.kind != "NEXT" and self.text:  # which tells the status
            return f"{state}: {self.text}"
        return f"{state} {self.status}" if self.status else state

    def args(self, grace_us: int) -> tuple[str | int, ...]:
        """As lua/settle.lua takes it."""
        return (
            self.kind,
            self.outcome.value,
            int(self.attempt),
            int(self.throttled),
            "" if self.status is None else self.status,
            round(self.pause_s * 1e6),
            _clean(self.text) if self.kind == "NEXT" else _clean(self.text)[:MAX_TEXT],
            _clean(self.provider_id).replace("\n", " "),  # the ledger keeps a line for each step
            self.correlation_id,
            round(self.delay_s * 1e6),
            self.how,
            grace_us,
            1 if self.wide else 2 if self.alone else 0,
            "" if self.remaining is None else self.remaining,
            round(self.reset_s * 1e6),
            "=" if self.memo is None else self.memo,
        )


def _clean(text: str) -> str:
    """The text without half characters, which a provider may send and no store can keep."""
    return text.encode("utf-8", "replace").decode()


#: The verdict on a grant that was not used: back to the head of its line.
UNSENT = Verdict(kind="AGAIN", outcome=Outcome.NOT_EXECUTED, how="line")


def to_go_on(answer: Answer, after_s: float = 0.0) -> Verdict:
    """The verdict on a part of a step that is done, or on a poll that came too early.

    The step goes on after `after_s` at the earliest: back to the line, no attempt made.
    """
    return Verdict(
        kind="AGAIN",
        how="line",
        outcome=Outcome.EXECUTED,
        status=answer.status,
        correlation_id=answer.correlation_id or "",
        delay_s=after_s,
        memo="",
    )


def poll_ended(answer: Answer, text: str) -> Verdict:
    """The verdict on a poll that shows that what it waits for will not come."""
    return Verdict(
        kind="END",
        how="failed",
        outcome=Outcome.NOT_EXECUTED,
        status=answer.status,
        text=text,
        correlation_id=answer.correlation_id or "",
    )


def judge(  # noqa: PLR0911, PLR0913 -- everything that a verdict depends on, case by case
    answer: Answer,
    reading: Reading,
    grant: Go,
    *,
    case: Case,
    client: ClientSettings,
    backlog_after_s: float,
    rng: Random,
) -> Verdict:
    """The verdict on an answer that does not prove the step done.

    A 429, a 401 and a look-up are no attempts. A read has no effect: its outcome is never
    unknown. An unknown outcome is repeated only under a guard, and only
    `max_retries` times; then the transaction ends, as `unknown` when any of its sends may have
    been executed and as `failed` when surely none was.
    """
    harmless = case.guard is Guard.READ or case.sight is not None
    outcome = Outcome.NOT_EXECUTED if harmless else reading.outcome
    base = Verdict(
        kind="AGAIN",
        how="line",
        outcome=outcome,
        status=answer.status,
        text=reading.reason,
        correlation_id=answer.correlation_id or "",
    )
    maybe = case.doubt or outcome is Outcome.UNKNOWN
    ended = replace(base, kind="END", how="unknown" if maybe else "failed")
    match reading.next:
        case Next.THROTTLED:
            asked_s = answer.retry_after_s
            if asked_s is None:
                asked_s = countdown_s(
                    grant.throttled, client.backoff_base_s, client.backoff_cap_s, rng
                )
            wait_s = pause_s(asked_s, client.backoff_base_s, rng)
            return replace(base, throttled=True, pause_s=wait_s, delay_s=wait_s)
        case Next.TOKEN:
            text = f"{reading.reason}: it wants an access token, set token_url"
            return replace(ended, text=text) if client.auth == "none" else base
        case Next.RETRY if not answer.sent:
            return replace(base, delay_s=client.backoff_base_s)
        case Next.REFUSED if (
            case.sight is None and not case.doubt and is_key_refused(answer, case.given)
        ):
            return replace(base, attempt=True, memo=KEY_REFUSED)
        case Next.REFUSED if case.may_split and answer.status in OF_ROWS:
            return replace(base, attempt=True, memo=TO_SPLIT)
    wait_s = countdown_s(grant.attempts, client.backoff_base_s, client.backoff_cap_s, rng)
    again = replace(base, attempt=True, memo="", delay_s=wait_s)
    if case.sight is not None:
        it = _after_look(again, ended, grant, case.sight, client)
    elif case.guard is Guard.LOOKUP and maybe:  # an attempt only if it is not found
        it = replace(base, memo="l0", delay_s=client.lookup_after_s)
    else:
        it = _after_send(answer, reading, grant, case, again, ended, client, rng)
    if it.kind == "END":
        return it
    return replace(it, how="retry" if it.delay_s <= backlog_after_s else "line")


def _after_look(
    again: Verdict, ended: Verdict, grant: Go, sight: Sight, client: ClientSettings
) -> Verdict:
    """What follows when a look-up did not find it."""
    made = looks(grant.memo) + 1
    text = f"look-up {made}, {sight}: {again.text}"
    if made < client.lookups:
        wait_s = client.lookup_every_s if made else client.lookup_after_s
        return replace(again, attempt=False, memo=looked(grant.memo), delay_s=wait_s, text=text)
    if sight is Sight.UNSURE:
        return replace(ended, attempt=True, text=text)
    if grant.attempts < client.max_retries:
        return replace(again, text=text)
    return replace(again, kind="END", how="failed", text=text)


def _after_send(  # noqa: PLR0913, PLR0917 -- see `judge`
    answer: Answer,
    reading: Reading,
    grant: Go,
    case: Case,
    again: Verdict,
    ended: Verdict,
    client: ClientSettings,
    rng: Random,
) -> Verdict:
    """What follows when a send did not succeed, and no look-up can tell more."""
    left = grant.attempts < client.max_retries
    keyed = case.guard in (Guard.KEY, Guard.UPSERT)
    if reading.next is Next.RETRY:
        memo = told(grant.memo, answer)
        if keyed and is_stored(memo):
            text = f"{reading.reason}, {STORED_AFTER} times the same: it only remembers that answer"
            return replace(ended, attempt=True, text=text)
        if left and case.guard is not Guard.NONE:
            return replace(again, memo=memo)
        return replace(ended, attempt=True)
    if left and answer.status == FORBIDDEN:
        needed = " ".join(permissions(answer)) or "what it needs"
        text = f"{reading.reason}: grant the OAuth client {needed}; this operation is held"
        wait_s = pause_s(FORBIDDEN_S, client.backoff_base_s, rng)
        return replace(again, text=text, pause_s=wait_s, alone=True, delay_s=wait_s)
    if keyed and left and case.doubt and meaning(answer, case.given) is Meaning.IN_PROGRESS:
        return replace(again, delay_s=max(again.delay_s, answer.retry_after_s or 0))
    return ended
