"""From an answer to a verdict: what to record and when to try again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from workers.backoff import countdown_s, pause_s
from workers.outcome import Next, Outcome, Reading

if TYPE_CHECKING:
    from random import Random

    from workers.client_settings import ClientSettings
    from workers.governor import Go
    from workers.outcome import Answer
    from workers.refusals import Refused

#: Longest error sentence that is kept, characters.
MAX_TEXT = 300


class Guard(StrEnum):
    """What makes a second send of a step harmless, by its letter in the ledger."""

    KEY = "k"  #: the provider honours the idempotency key
    UPSERT = "u"  #: a second send changes nothing
    NONE = "n"  #: nothing: a send of unknown outcome is never repeated
    READ = "r"  #: the call has no effect


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
    text: str = ""  #: NEXT: the answer to keep, one line of JSON; else the error sentence
    provider_id: str = ""
    correlation_id: str = ""
    delay_s: float = 0.0  #: AGAIN: the backoff
    how: str = ""  #: AGAIN: "retry" or "line"; END: the final state
    remaining: int | None = None  #: calls that the provider's headers leave, None = not told
    reset_s: float = 0.0  #: until then

    @property
    def word(self) -> str:
        """What Flower shows for this answer."""
        state = {"NEXT": "succeeded", "AGAIN": "again", "END": self.how}[self.kind]
        why = "" if self.kind == "NEXT" else self.text
        return " ".join(str(it) for it in (state, self.status, why) if it)

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
            _clean(self.provider_id),
            self.correlation_id,
            round(self.delay_s * 1e6),
            self.how,
            grace_us,
            int(self.wide),
            "" if self.remaining is None else self.remaining,
            round(self.reset_s * 1e6),
        )


def _clean(text: str) -> str:
    """The text without half characters, which a provider may send and no store can keep."""
    return text.encode("utf-8", "replace").decode()


#: The verdict on a grant that was not used: back to the head of its line.
UNSENT = Verdict(kind="AGAIN", outcome=Outcome.NOT_EXECUTED, how="line")


def judge(  # noqa: PLR0913 -- everything that a verdict depends on
    answer: Answer,
    reading: Reading,
    grant: Go,
    *,
    guard: Guard,
    client: ClientSettings,
    line_after_s: float,
    rng: Random,
) -> Verdict:
    """The verdict on an answer that is no success.

    A 429 and a 401 are no attempts. A read has no effect: its outcome is never
    unknown. An unknown outcome is repeated only under a guard, and only
    `max_retries` times; then the transaction ends, as `unknown` when any of its sends may have
    been executed and as `failed` when surely none was.
    """
    read = guard is Guard.READ
    outcome = Outcome.NOT_EXECUTED if read else reading.outcome
    base = Verdict(
        kind="AGAIN",
        how="line",
        outcome=outcome,
        status=answer.status,
        text=reading.reason,
        correlation_id=answer.correlation_id or "",
    )
    maybe = not read and (grant.unknown or outcome is Outcome.UNKNOWN)
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
        case Next.RETRY if guard is not Guard.NONE and grant.attempts < client.max_retries:
            wait_s = countdown_s(grant.attempts, client.backoff_base_s, client.backoff_cap_s, rng)
            how = "retry" if wait_s <= line_after_s else "line"
            return replace(base, how=how, attempt=True, delay_s=wait_s)
        case Next.RETRY:
            return replace(ended, attempt=True)
        case _:
            return ended
