"""From an answer to a verdict: whether, how and when a call is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Self, TypedDict

from workers.answer.backoff import countdown_s, pause_s
from workers.answer.guards import (
    BATCH_REFUSALS,
    Guard,
    LookupResult,
    Meaning,
    Memo,
    NextCall,
    find_meaning,
    is_key_refused,
)
from workers.answer.outcome import Health, Next, Outcome, permissions
from workers.answer.verdict import Finish, GiveUp, Pause, Requeue, Retry

if TYPE_CHECKING:
    from random import Random

    from workers.answer.guards import StepState
    from workers.answer.outcome import Answer, Reading
    from workers.answer.verdict import FinalState
    from workers.settings.client import ClientSettings
    from workers.settings.load import WorkerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a client's calls are tried again."""

    max_retries: int = 3  #: failed attempts of a step after the first one
    patience_s: float = 1800.0  #: how long a row is tried again that others cannot be compared with
    base_s: float = 1.0  #: of the backoff, and of every jitter
    cap_s: float = 30.0  #: longest backoff
    backlog_after_s: float = 15.0  #: a longer one waits in the backlog, not in Celery
    lookups: int = 3  #: look-ups in vain before a step is sent again
    lookup_after_s: float = 2.0  #: from a send of unknown outcome to the first one
    lookup_every_s: float = 5.0  #: between two of them
    renews_tokens: bool = True  #: after a 401 a call comes back with a new token
    token_advice: str = ""  #: what to do about one more 401, after "the provider answered 401"

    @classmethod
    def of(cls, client: ClientSettings, worker: WorkerSettings) -> Self:
        """The policy that a client's settings state."""
        return cls(
            max_retries=client.max_retries,
            patience_s=client.outage_patience_s,
            base_s=client.backoff_base_s,
            cap_s=client.backoff_cap_s,
            backlog_after_s=worker.backlog_after_s,
            lookups=client.lookups,
            lookup_after_s=client.lookup_after_s,
            lookup_every_s=client.lookup_every_s,
            renews_tokens=client.auth != "none",
            token_advice=_advise_on_token(client),
        )

    def after_429(self, answer: Answer, earlier: int, rng: Random) -> Pause:
        """The hold after a 429: what it orders, else the backoff; with a jitter on top.

        Args:
            answer: The 429.
            earlier: How many came before it, from 0.
            rng: Source of the jitter.
        """
        asked_s, most_s = answer.retry_after_s, 0.0
        if asked_s is None:
            asked_s, most_s = countdown_s(earlier, self.base_s, self.cap_s, rng), self.cap_s
        return Pause(pause_s(asked_s, self.base_s, rng), most_s=most_s)

    def give_up(self, state: FinalState, *, counts: bool = True) -> GiveUp:
        """When a call that is tried again ends in this state: by its attempts too, if it counts."""
        attempts = self.max_retries if counts else None
        return GiveUp(state=state, max_retries=attempts, patience_s=self.patience_s)

    def countdown_or_backlog(self, retry: Retry) -> Retry | Requeue:
        """The retry by a countdown of Celery's, or where that is long from the backlog."""
        return retry if retry.delay_s <= self.backlog_after_s else retry.from_backlog()


def _advise_on_token(client: ClientSettings) -> str:
    if client.auth in {"bearer", "api_key"}:
        what = "API key" if client.auth == "api_key" else "token"
        return f"to the {what} of {client.names('client_secret')}; put a valid one there"
    return (
        "to a token that is valid; see that base_url and token_url are of the same region, and "
        "what the client may do"
    )


def judge(
    answer: Answer, reading: Reading, state: StepState, policy: RetryPolicy, rng: Random
) -> Retry | Requeue | Finish:
    """The verdict on an answer that does not prove the step done.

    A 429 of a limit, the 401 that renews a token, and a call that was not sent are no attempts; nor
    is a look-up. A read has no effect: its outcome is never unknown. An unknown outcome is repeated
    only under a guard. How often, settle decides (`GiveUp`): an attempt counts while other rows
    succeed, and less or not at all where the provider fails as a whole (lua/includes/evidence.lua).
    A row ends when its attempts are spent, or after `outage_patience_s`: as `unknown` when any of
    its sends may have been executed, and as `failed` when surely none was. A 429 ends only the row
    that is refused for itself, or alone (lua/includes/own_refusals.lua).
    """
    return _Judgement(answer, reading, state, policy, rng).verdict()


class _Recorded(TypedDict):
    """What each verdict records of the answer."""

    outcome: Outcome
    status: int | None
    correlation_id: str
    error: str
    health: Health
    retry_after_s: float


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
            case Next.LATER:
                verdict = self._wait()
            case Next.TOKEN:
                verdict = self._after_401()
            case Next.RETRY if not self.answer.sent:
                verdict = Requeue(delay_s=self.policy.base_s, **self._recorded())
            case _ if state.lookup is not None:
                verdict = self._after_lookup(state.lookup)
            case Next.RETRY if state.is_poll:
                verdict = self._ask_again()
            case Next.REFUSED if detour := self._detour:
                verdict = Requeue(attempt=True, memo=Memo(next=detour), **self._recorded())
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
    def _asks(self) -> bool:
        """Whether the call was a look-up or a poll, which is no attempt of its step."""
        return self.state.lookup is not None or self.state.is_poll

    @property
    def _is_keyed(self) -> bool:
        return self.state.guard in {Guard.KEY, Guard.UPSERT}

    @property
    def _detour(self) -> NextCall | None:
        """What is done first where the key was refused, or a batch that may be split."""
        state = self.state
        if not state.doubt and is_key_refused(self.answer, state.after_unknown):
            return NextCall.FRESH_KEY
        splits = state.may_split and self.answer.status in BATCH_REFUSALS
        return NextCall.SPLIT if splits else None

    @property
    def _final(self) -> FinalState:
        """How the transaction ends, if it must: `unknown` when a send may have been executed."""
        return "unknown" if self._maybe_executed else "failed"

    def _recorded(self, error: str = "") -> _Recorded:
        return {
            "outcome": self._outcome,
            "status": self.answer.status,
            "correlation_id": self.answer.correlation_id or "",
            "error": error or self.reading.reason,
            "health": self.answer.health,
            "retry_after_s": self.answer.ordered_wait_s,
        }

    def _finish(self, error: str = "", *, attempt: bool = False) -> Finish:
        return Finish(state=self._final, attempt=attempt, **self._recorded(error))

    def _backoff_s(self, failed: int) -> float:
        """The wait after so many failures before this one, and no less than the answer orders."""
        policy = self.policy
        backoff_s = countdown_s(failed, policy.base_s, policy.cap_s, self.rng)
        return max(backoff_s, self.answer.ordered_wait_s)

    def _try_again(self, error: str = "") -> Retry:
        """The same call once more after the backoff, as long as it has attempts or patience left.

        Its failure may be the provider's: settle weighs it against the answers to other rows.
        """
        state = self.state
        recorded = self._recorded(error)
        recorded["health"] = Health.BAD
        return Retry(
            delay_s=self._backoff_s(state.attempts),
            attempt=True,
            memo=Memo(token_refusals=state.memo.token_refusals),
            give_up=self.policy.give_up(self._final),
            is_first=state.attempts == 0 and not state.doubt,
            **recorded,
        )

    def _after_429(self) -> Requeue:
        """The scope is held, and the row waits longer: others go first and show whose it is.

        Where they are answered well, settle takes it as the row's own (lua/includes/
        own_refusals.lua): then it holds nobody else, and counts.
        """
        policy, state = self.policy, self.state
        pause = policy.after_429(self.answer, state.throttled, self.rng)
        longer_s = countdown_s(state.throttled, policy.base_s, policy.cap_s, self.rng)
        counts = state.lookup is None and not state.is_poll
        return Requeue(
            throttled=True,
            pause=pause,
            delay_s=pause.duration_s + longer_s,
            give_up=policy.give_up(self._final, counts=counts),
            **self._recorded(),
        )

    def _after_401(self) -> Requeue | Retry | Finish:
        """The call comes back once, with a new token; one more 401 is as any other failure."""
        if not (self.policy.renews_tokens or self._asks):
            return self._finish(f"{self.reading.reason}: it wants an access token, set token_url")
        error = f"{self.reading.reason} {self.policy.token_advice}"
        return self._access_refused(error, of_token=True)

    def _after_403(self) -> Requeue | Retry:
        """As a 401, for a token that ended early may be answered so; else a person must act."""
        return self._access_refused(self._missing_permission(), of_token=False)

    def _missing_permission(self) -> str:
        needed = " ".join(permissions(self.answer)) or "what it needs"
        return f"{self.reading.reason}: grant the OAuth client {needed}"

    def _access_refused(self, error: str, *, of_token: bool) -> Requeue | Retry:
        state, memo = self.state, self.state.memo.after_refused_token()
        first = self.policy.renews_tokens and not state.memo.token_refusals
        if first and state.renews_token:
            return Requeue(memo=memo, **self._recorded())
        if self._asks:
            return replace(self._ask_again(error), memo=memo.after_wait(), of_token=of_token)
        if first:
            recorded = self._recorded(error)
            recorded["health"] = Health.BAD
            wait_s, waited = self.policy.base_s, memo.after_wait()
            return Requeue(
                delay_s=wait_s, memo=waited, is_first=True, of_token=of_token, **recorded
            )
        again = self._try_again(error)
        is_first = again.is_first and not memo.waits  # else the one before was
        return replace(again, memo=memo, is_first=is_first, of_token=of_token)

    def _wait(self, error: str = "") -> Retry:
        """The same call after a longer wait each time, which patience alone ends; no attempt."""
        waits = self.state.memo.waits
        return Retry(
            delay_s=self._backoff_s(waits),
            memo=self.state.memo.after_wait(),
            give_up=self.policy.give_up(self._final, counts=False),
            **self._recorded(error),
        )

    def _ask_again(self, error: str = "") -> Retry:
        """A look-up or poll that was answered badly is none, and no attempt: it is made again."""
        again = replace(self._wait(error), health=Health.BAD)
        return replace(again, is_first=self.state.memo.waits == 0)

    def _look_up(self) -> Retry:
        """A send of unknown outcome, or one that was refused in doubt, is looked up."""
        state, recorded, memo = self.state, self._recorded(), Memo(next=NextCall.LOOKUP, lookups=0)
        if self.answer.status == HTTPStatus.FORBIDDEN:
            recorded = self._recorded(self._missing_permission())
            recorded["health"] = Health.BAD
            memo = replace(memo, token_refusals=state.memo.token_refusals + 1)
        return Retry(
            delay_s=self.policy.lookup_after_s,
            attempt=True,
            memo=memo,
            is_first=state.attempts == 0 and not state.doubt,
            **recorded,
        )

    def _after_lookup(self, seen: LookupResult) -> Retry | Requeue | Finish:
        """What follows when a look-up did not find it, or was answered badly.

        An operation may say that a 403 means "absent". A 400 or the like finds nothing: it was
        read, and the same question gets the same answer.
        """
        answer, unsure = self.answer, seen is LookupResult.UNSURE
        if self.reading.next is Next.RETRY or (unsure and answer.error):
            return self._ask_again()
        if unsure and answer.status == HTTPStatus.FORBIDDEN:
            return self._after_403()
        policy, memo = self.policy, self.state.memo.after_lookup()
        lookups = memo.lookups or 0
        error = f"look-up {lookups}, {seen}: {self.reading.reason}"
        if lookups < policy.lookups:
            wait_s = policy.lookup_every_s if lookups else policy.lookup_after_s
            return Retry(delay_s=wait_s, memo=memo, **self._recorded(error))
        if unsure:
            return self._finish(error)
        return Retry(  # surely not executed: it is sent again
            delay_s=self._backoff_s(max(self.state.attempts - 1, 0)),
            memo=Memo(token_refusals=memo.token_refusals),
            give_up=self.policy.give_up("failed"),
            **self._recorded(error),
        )

    def _after_failure(self) -> Retry | Finish:
        """What follows when a send did not succeed, and was not refused either."""
        if self.state.guard is Guard.NONE:
            return replace(self._finish(attempt=True), is_first=True)
        return self._try_again()

    def _after_refusal(self) -> Retry | Requeue | Finish:
        """What follows when the request was refused as it is."""
        answer, state = self.answer, self.state
        if answer.status == HTTPStatus.FORBIDDEN:
            return self._after_403()
        meaning = find_meaning(answer, state.after_unknown)
        if self._is_keyed and state.doubt and meaning is Meaning.IN_PROGRESS:
            return self._wait()  # as long as the operation may take
        return self._finish()
