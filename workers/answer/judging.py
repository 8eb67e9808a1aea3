"""From an answer to a verdict: whether, how and when a call is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

from workers.answer.backoff import countdown_s, pause_s
from workers.answer.guards import (
    OF_ROWS,
    STORED_AFTER,
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

#: An operation that is not permitted is tried again after this, seconds.
FORBIDDEN_S: Final = 30.0


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

    def countdown_s(self, attempts: int, rng: Random) -> float:
        """The backoff after so many failed attempts, from 0; see `backoff.countdown_s`."""
        return countdown_s(attempts, self.base_s, self.cap_s, rng)

    def pause_s(self, asked_s: float, rng: Random) -> float:
        """A wait that the provider asked for, with a jitter on top; see `backoff.pause_s`."""
        return pause_s(asked_s, self.base_s, rng)


def judge(
    answer: Answer, reading: Reading, state: StepState, policy: RetryPolicy, rng: Random
) -> Retry | Requeue | Finish:
    """The verdict on an answer that does not prove the step done.

    A 429, a 401 and a look-up are no attempts. A read has no effect: its outcome is never
    unknown. An unknown outcome is repeated only under a guard, and only
    `max_retries` times; then the transaction ends, as `unknown` when any of its sends may have
    been executed and as `failed` when surely none was.
    """
    return _Judgement(answer, reading, state, policy, rng).verdict()


@dataclass(frozen=True, slots=True)
class _Judgement:
    """All that the verdict on one answer depends on, and its cases."""

    answer: Answer
    reading: Reading
    state: StepState
    policy: RetryPolicy
    rng: Random

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

    def _requeue(self, error: str = "", **fields: Any) -> Requeue:  # noqa: ANN401 -- the class's own
        return Requeue(**self._recorded(error), **fields)

    def _finish(
        self, error: str = "", *, attempt: bool = False, state: FinalState | None = None
    ) -> Finish:
        if state is None:
            state = "unknown" if self._maybe_executed else "failed"
        return Finish(state=state, attempt=attempt, **self._recorded(error))

    def _try_again(self, delay_s: float, error: str = "", **fields: Any) -> Retry | Requeue:  # noqa: ANN401 -- as above
        """By a countdown of Celery's, or if that is long from the backlog."""
        kind = Retry if delay_s <= self.policy.backlog_after_s else Requeue
        return kind(delay_s=delay_s, **self._recorded(error), **fields)

    def _recorded(self, error: str) -> dict[str, Any]:
        return {
            "outcome": self._outcome,
            "status": self.answer.status,
            "correlation_id": self.answer.correlation_id or "",
            "error": error or self.reading.reason,
        }

    def verdict(self) -> Retry | Requeue | Finish:
        """What has a way of its own, else what follows by the backoff."""
        return self._without_backoff() or self._with_backoff()

    def _without_backoff(self) -> Requeue | Finish | None:
        answer, state = self.answer, self.state
        match self.reading.next:
            case Next.THROTTLED:
                return self._after_429()
            case Next.TOKEN:
                return self._after_401()
            case Next.RETRY if not answer.sent:
                return self._requeue(delay_s=self.policy.base_s)
            case Next.REFUSED if self._is_key_refused:
                return self._requeue(attempt=True, memo=Memo(next=NextCall.FRESH_KEY))
            case Next.REFUSED if state.may_split and answer.status in OF_ROWS:
                return self._requeue(attempt=True, memo=Memo(next=NextCall.SPLIT))
        return None

    def _with_backoff(self) -> Retry | Requeue | Finish:
        state = self.state
        backoff_s = self.policy.countdown_s(state.attempts, self.rng)
        if state.lookup is not None:
            return self._after_lookup(state.lookup, backoff_s)
        if state.guard is Guard.LOOKUP and self._maybe_executed:  # an attempt if it is not found
            memo = Memo(next=NextCall.LOOKUP, lookups=0)
            return self._try_again(self.policy.lookup_after_s, memo=memo)
        return self._after_send(backoff_s)

    @property
    def _is_key_refused(self) -> bool:
        state = self.state
        plain = state.lookup is None and not state.doubt
        return plain and is_key_refused(self.answer, state.after_unknown)

    def _after_401(self) -> Requeue | Finish:
        if self.policy.renews_tokens:
            return self._requeue(token_refused=True)
        return self._finish(f"{self.reading.reason}: it wants an access token, set token_url")

    def _after_429(self) -> Requeue:
        asked_s = self.answer.retry_after_s
        if asked_s is None:
            asked_s = self.policy.countdown_s(self.state.throttled, self.rng)
        wait_s = self.policy.pause_s(asked_s, self.rng)
        return self._requeue(throttled=True, pause=Pause(wait_s), delay_s=wait_s)

    def _after_lookup(self, seen: LookupResult, backoff_s: float) -> Retry | Requeue | Finish:
        """What follows when a look-up did not find it."""
        policy, memo = self.policy, self.state.memo.after_lookup()
        lookups = memo.lookups or 0
        error = f"look-up {lookups}, {seen}: {self.reading.reason}"
        if lookups < policy.lookups:
            wait_s = policy.lookup_every_s if lookups else policy.lookup_after_s
            return self._try_again(wait_s, error, memo=memo)
        if seen is LookupResult.UNSURE:
            return self._finish(error, attempt=True)
        if self._has_retries:
            return self._try_again(backoff_s, error, attempt=True, memo=Memo())
        return Finish(state="failed", attempt=True, memo=Memo(), **self._recorded(error))

    def _after_send(self, backoff_s: float) -> Retry | Requeue | Finish:
        """What follows when a send did not succeed, and no look-up can say more."""
        answer, state = self.answer, self.state
        is_keyed = state.guard in (Guard.KEY, Guard.UPSERT)
        if self.reading.next is Next.RETRY:
            memo = state.memo.after_failure(answer)
            if is_keyed and memo.is_stored_answer:
                times = f"{STORED_AFTER} times the same: it only remembers that answer"
                return self._finish(f"{self.reading.reason}, {times}", attempt=True)
            if self._has_retries and state.guard is not Guard.NONE:
                return self._try_again(backoff_s, attempt=True, memo=memo)
            return self._finish(attempt=True)
        if self._has_retries and answer.status == HTTPStatus.FORBIDDEN:
            return self._after_403()
        meaning = find_meaning(answer, state.after_unknown)
        in_progress = is_keyed and state.doubt and meaning is Meaning.IN_PROGRESS
        if in_progress and self._has_retries:
            wait_s = max(backoff_s, answer.retry_after_s or 0)
            return self._try_again(wait_s, attempt=True, memo=Memo())
        return self._finish()

    def _after_403(self) -> Retry | Requeue:
        """The client may not do this; a new token would not help, a person might."""
        needed = " ".join(permissions(self.answer)) or "what it needs"
        grant = f"grant the OAuth client {needed}; this operation is held"
        wait_s = self.policy.pause_s(FORBIDDEN_S, self.rng)
        pause = Pause(wait_s, Reach.OPERATION)
        error = f"{self.reading.reason}: {grant}"
        return self._try_again(wait_s, error, attempt=True, memo=Memo(), pause=pause)
