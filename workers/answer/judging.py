"""From an answer to a verdict: whether, how and when a call is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self, TypedDict

from workers.answer.backoff import countdown_s, pause_s
from workers.answer.guards import (
    BATCH_REFUSALS,
    STORED_AFTER_TIMES,
    Guard,
    LookupResult,
    Meaning,
    Memo,
    NextCall,
    find_meaning,
    is_key_refused,
)
from workers.answer.outcome import Next, Outcome, permissions
from workers.answer.verdict import Finish, Pause, Reach, Requeue, Retry

if TYPE_CHECKING:
    from random import Random

    from workers.answer.guards import StepState
    from workers.answer.outcome import Answer, Reading
    from workers.answer.verdict import FinalState
    from workers.settings.client import ClientSettings
    from workers.settings.load import WorkerSettings

#: An operation that is not permitted is held for so long, and then tried again.
FORBIDDEN_HOLD_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a client's calls are tried again."""

    max_retries: int = 3  #: failed attempts of a step after the first one
    base_s: float = 1.0  #: of the backoff, and of every jitter
    cap_s: float = 30.0  #: longest backoff
    backlog_after_s: float = 15.0  #: a longer one waits in the backlog, not in Celery
    lookups: int = 3  #: look-ups in vain before a step is sent again
    lookup_after_s: float = 2.0  #: from a send of unknown outcome to the first one
    lookup_every_s: float = 5.0  #: between two of them
    renews_tokens: bool = True  #: after a 401 a call comes back with a new token

    @classmethod
    def of(cls, client: ClientSettings, worker: WorkerSettings) -> Self:
        """The policy that a client's settings state."""
        return cls(
            max_retries=client.max_retries,
            base_s=client.backoff_base_s,
            cap_s=client.backoff_cap_s,
            backlog_after_s=worker.backlog_after_s,
            lookups=client.lookups,
            lookup_after_s=client.lookup_after_s,
            lookup_every_s=client.lookup_every_s,
            renews_tokens=client.auth != "none",
        )

    def after_429_s(self, answer: Answer, earlier: int, rng: Random) -> float:
        """The wait after a 429: what it orders, else the backoff; with a jitter on top.

        Args:
            answer: The 429.
            earlier: How many came before it, from 0.
            rng: Source of the jitter.
        """
        asked_s = answer.retry_after_s
        if asked_s is None:
            asked_s = countdown_s(earlier, self.base_s, self.cap_s, rng)
        return pause_s(asked_s, self.base_s, rng)

    def countdown_or_backlog(self, retry: Retry) -> Retry | Requeue:
        """The retry by a countdown of Celery's, or where that is long from the backlog."""
        return retry if retry.delay_s <= self.backlog_after_s else retry.from_backlog()


def judge(
    answer: Answer, reading: Reading, state: StepState, policy: RetryPolicy, rng: Random
) -> Retry | Requeue | Finish:
    """The verdict on an answer that does not prove the step done.

    A 429, a 401, and a call that was not sent are no attempts. Nor is a look-up: the send that it
    looked for is one, when it was not found. A read has no effect: its outcome is never
    unknown. An unknown outcome is repeated only under a guard, and only
    `max_retries` times; then the transaction ends, as `unknown` when any of its sends may have
    been executed and as `failed` when surely none was.
    """
    return _Judgement(answer, reading, state, policy, rng).verdict()


class _Recorded(TypedDict):
    """What each verdict records of the answer."""

    outcome: Outcome
    status: int | None
    correlation_id: str
    error: str


@dataclass(frozen=True, slots=True)
class _Judgement:
    """All that the verdict on one answer depends on, and its cases."""

    answer: Answer
    reading: Reading
    state: StepState
    policy: RetryPolicy
    rng: Random

    def verdict(self) -> Retry | Requeue | Finish:
        """The cases in their order: the first one that fits decides."""
        state = self.state
        verdict: Retry | Requeue | Finish
        match self.reading.next:
            case Next.THROTTLED:
                verdict = self._after_429()
            case Next.TOKEN:
                verdict = self._after_401()
            case Next.RETRY if not self.answer.sent:
                verdict = Requeue(delay_s=self.policy.base_s, **self._recorded())
            case Next.REFUSED if self._is_key_refused:
                memo = Memo(next=NextCall.FRESH_KEY)
                verdict = Requeue(attempt=True, memo=memo, **self._recorded())
            case Next.REFUSED if state.may_split and self.answer.status in BATCH_REFUSALS:
                memo = Memo(next=NextCall.SPLIT)
                verdict = Requeue(attempt=True, memo=memo, **self._recorded())
            case _ if state.lookup is not None:
                verdict = self._after_lookup(state.lookup)
            case _ if state.guard is Guard.LOOKUP and self._maybe_executed:
                verdict = self._look_up()
            case Next.RETRY:
                verdict = self._after_failure()
            case _:
                verdict = self._after_refusal()
        return self.policy.countdown_or_backlog(verdict) if isinstance(verdict, Retry) else verdict

    @property
    def _outcome(self) -> Outcome:
        harmless = self.state.guard is Guard.READ or self.state.lookup is not None
        return Outcome.NOT_EXECUTED if harmless else self.reading.outcome

    @property
    def _maybe_executed(self) -> bool:
        return self.state.doubt or self._outcome is Outcome.UNKNOWN

    @property
    def _has_retries(self) -> bool:
        return self.state.attempts < self.policy.max_retries

    @property
    def _is_keyed(self) -> bool:
        return self.state.guard in {Guard.KEY, Guard.UPSERT}

    @property
    def _is_key_refused(self) -> bool:
        state = self.state
        plain = state.lookup is None and not state.doubt
        return plain and is_key_refused(self.answer, state.after_unknown)

    def _recorded(self, error: str = "") -> _Recorded:
        return {
            "outcome": self._outcome,
            "status": self.answer.status,
            "correlation_id": self.answer.correlation_id or "",
            "error": error or self.reading.reason,
        }

    def _finish(self, error: str = "", *, attempt: bool = False) -> Finish:
        """The end: `unknown` when any of its sends may have been executed."""
        state: FinalState = "unknown" if self._maybe_executed else "failed"
        return Finish(state=state, attempt=attempt, **self._recorded(error))

    def _back_off(self, memo: Memo, error: str = "", *, at_least_s: float = 0.0) -> Retry:
        """One more attempt after the backoff, which doubles with each that failed before."""
        policy = self.policy
        backoff_s = countdown_s(self.state.attempts, policy.base_s, policy.cap_s, self.rng)
        delay_s = max(backoff_s, at_least_s)
        return Retry(delay_s=delay_s, attempt=True, memo=memo, **self._recorded(error))

    def _after_429(self) -> Requeue:
        wait_s = self.policy.after_429_s(self.answer, self.state.throttled, self.rng)
        return Requeue(throttled=True, pause=Pause(wait_s), delay_s=wait_s, **self._recorded())

    def _after_401(self) -> Requeue | Finish:
        if self.policy.renews_tokens:
            return Requeue(token_refused=True, **self._recorded())
        return self._finish(f"{self.reading.reason}: it wants an access token, set token_url")

    def _look_up(self) -> Retry:
        """A send of unknown outcome is looked up; it was an attempt if it is not found."""
        memo = Memo(next=NextCall.LOOKUP, lookups=0)
        return Retry(delay_s=self.policy.lookup_after_s, memo=memo, **self._recorded())

    def _after_lookup(self, seen: LookupResult) -> Retry | Finish:
        """What follows when a look-up did not find it."""
        policy, memo = self.policy, self.state.memo.after_lookup()
        lookups = memo.lookups or 0
        error = f"look-up {lookups}, {seen}: {self.reading.reason}"
        if lookups < policy.lookups:
            wait_s = policy.lookup_every_s if lookups else policy.lookup_after_s
            return Retry(delay_s=wait_s, memo=memo, **self._recorded(error))
        if seen is LookupResult.UNSURE:
            return self._finish(error, attempt=True)
        if self._has_retries:
            return self._back_off(Memo(), error)
        return Finish(state="failed", attempt=True, memo=Memo(), **self._recorded(error))

    def _after_failure(self) -> Retry | Finish:
        """What follows when a send did not succeed, and was not refused either."""
        memo = self.state.memo.after_failure(self.answer)
        if self._is_keyed and memo.is_stored_answer:
            times = f"{STORED_AFTER_TIMES} times the same: it only remembers that answer"
            return self._finish(f"{self.reading.reason}, {times}", attempt=True)
        if self._has_retries and self.state.guard is not Guard.NONE:
            return self._back_off(memo)
        return self._finish(attempt=True)

    def _after_refusal(self) -> Retry | Finish:
        """What follows when the request was refused as it is."""
        answer, state = self.answer, self.state
        if not self._has_retries:
            return self._finish()
        if answer.status == HTTPStatus.FORBIDDEN:
            return self._after_403()
        meaning = find_meaning(answer, state.after_unknown)
        if self._is_keyed and state.doubt and meaning is Meaning.IN_PROGRESS:
            return self._back_off(Memo(), at_least_s=answer.retry_after_s or 0.0)
        return self._finish()

    def _after_403(self) -> Retry:
        """The client may not do this; a new token would not help, a person might."""
        needed = " ".join(permissions(self.answer)) or "what it needs"
        grant = f"grant the OAuth client {needed}; this operation is held"
        wait_s = pause_s(FORBIDDEN_HOLD_S, self.policy.base_s, self.rng)
        return Retry(
            delay_s=wait_s,
            attempt=True,
            memo=Memo(),
            pause=Pause(wait_s, Reach.OPERATION),
            **self._recorded(f"{self.reading.reason}: {grant}"),
        )
