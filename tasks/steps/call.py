"""The main path of a step: admitted, sent, settled; then the next bell, or none.

It stands once. A kind only says what to send and how to read the answer.
"""

from __future__ import annotations

import logging
import random
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from celery import Task
from celery.exceptions import Reject

from tasks.genesys.operations import advice
from tasks.kind import CannotSay, Kept, Polled
from tasks.rest.calls import READS
from tasks.steps.rotation import request_key, rotate
from tasks.steps.splitting import split
from workers import failpoints
from workers.answer.guards import Case, Guard, in_doubt, is_done
from workers.answer.outcome import Next, Outcome, read
from workers.answer.quota_headers import HEARD_FROM_S, read_feedback
from workers.answer.verdict import UNSENT, Verdict, judge, poll_ended, to_go_on
from workers.clients import clients
from workers.errors import ConfigError, GrantStale, HeadgateError, StoreAway, TokenUnavailable
from workers.governor.governor import Aged, Go, Settled, ToSplit
from workers.http.connection import ConnectFailed
from workers.ledger.batch import rows_of
from workers.ledger.identity import part_key, step_key

if TYPE_CHECKING:
    from tasks.kind import Planned, StepKind
    from workers.answer.outcome import Answer, Reading
    from workers.auth.credentials import Token
    from workers.clients import Client
    from workers.http.connection import Connection, Request
    from workers.ledger.ledger import Row

#: A provider that cannot be reached, or gives no token, holds its client for 1 to 2 of this.
AWAY_S = 1.0
#: A token that is refused although it is new holds its client so long.
REFUSED_S = 30.0
#: Never set: a wait that no signal shortens.
_never = threading.Event()
#: What was said last of each client that is held.
_warned: dict[str, str] = {}

logger = logging.getLogger(__name__)


class Said(Exception):
    """A sentence for Flower, which shows an exception by its repr."""

    def __repr__(self) -> str:
        """The sentence."""
        return str(self)


class Unanswered(Said):
    """Why Celery counts down to another attempt."""


class Ended(Said):
    """Why a transaction ended without success, so that Flower counts it as failed."""


class Step(Task):  # type: ignore[misc]  # Celery ships no types
    """One API call of a transaction, under one idempotency key."""

    abstract = True
    ignore_result = True
    acks_late = False  # the ledger rings again: a redelivery is never needed
    throws = (Ended,)  # no error of the worker's: no traceback in its log
    max_retries = None  # attempts are counted in the ledger, never by Celery
    kind: StepKind
    rng = random.Random()  # noqa: S311 -- jitter, not a secret

    def run(self, client: str, key: str, step: int) -> str:
        """Answer one bell; the returned word is what Flower shows."""
        failpoints.reach("popped")
        try:
            return self.answer_bell(clients()[client], key, step)
        except HeadgateError as error:  # the ledger knows what is out, and rings again
            return self.stop(f"wait: {error}")

    def answer_bell(self, it: Client, key: str, step: int) -> str:
        """Admit, send, settle; then the next bell, or none."""
        try:
            # Waiting longer would look like a bell that nobody heard.
            token = it.tokens().get(it.fleet.worker.bell_grace_s / 2)
            with it.caller().connection() as connection:
                grant = it.governor().admit(key, step)
                if isinstance(grant, Aged):
                    return self.stop(rotate(it, grant))
                if isinstance(grant, ToSplit):
                    return self.stop(split(it, grant))
                if not isinstance(grant, Go):
                    return self.stop(grant.said)
                failpoints.reach("admitted")
                verdict = self.call(it, grant, token, connection)
        except (TokenUnavailable, ConnectFailed, ConfigError) as error:
            _warn(it, str(error))
            it.governor().give_back(key, step, AWAY_S + self.rng.uniform(0, AWAY_S), str(error))
            return self.stop(f"wait: {error}")
        _warned.pop(it.name, None)
        settled = it.governor().settle(grant, verdict)
        if verdict.refused:
            # Under the limits of now: a refusal under others suggests nothing. It is for people.
            with suppress(StoreAway, ConfigError):
                it.refusals.record(verdict.refused, it.look()[1], verdict.pause_s)
        return self.go_on(settled, verdict)

    def go_on(self, settled: Settled, verdict: Verdict) -> str:
        """The next bell, or none; the returned word is what Flower shows."""
        match settled:
            case Settled.RING:
                failpoints.reach("next_published")
                return verdict.word  # Celery publishes the next link of the chain
            case Settled.RETRY:
                self.retry_later(verdict)
        word = self.stop(verdict.word)
        if verdict.kind == "END":
            raise Ended(word)
        return word

    def call(self, it: Client, grant: Go, token: Token | None, connection: Connection) -> Verdict:
        """Send what the grant allows, and judge the answer."""
        try:
            params = it.ledger.job_params(grant.job)
            row = it.ledger.row(grant.job, grant.place)
            planned = self.kind.plan(row, params, it.settings())[grant.step - 1]
            request = self.kind.request(row, params, grant)
            request = replace(request, headers=_headers(request, it, grant, planned, row, token))
            if grant.start_in_s:
                _never.wait(grant.start_in_s)
            answer = connection.send(request, grant.stale_at_ns)
        except (GrantStale, StoreAway):
            return UNSENT
        except Exception as error:  # noqa: BLE001 -- must not look like a worker that died
            told = isinstance(error, CannotSay | ValueError) and not isinstance(error, UnicodeError)
            why = str(error) if told else type(error).__name__
            how = "unknown" if grant.unknown else "failed"
            text = f"step {grant.step} cannot be sent: {why}"
            return Verdict(kind="END", how=how, outcome=Outcome.NOT_EXECUTED, text=text)
        failpoints.reach("answer_read")
        verdict = self.verdict(it, grant, token, planned, row, answer)
        quota = read_feedback(answer.headers, None)
        if quota and quota.reset_s > HEARD_FROM_S:
            return replace(verdict, remaining=quota.remaining, reset_s=quota.reset_s)
        return verdict

    def verdict(  # noqa: PLR0911, PLR0913, PLR0917 -- all that is known of the call, case by case
        self,
        it: Client,
        grant: Go,
        token: Token | None,
        planned: Planned,
        row: Row,
        answer: Answer,
    ) -> Verdict:
        """What the answer comes to."""
        params = it.ledger.job_params(grant.job)
        route = planned.lookup if grant.looking else planned.route
        refused = it.refusals.note(route, row.get("tenant", params.tenant), answer)
        case = Case(
            guard=planned.guard,
            doubt=in_doubt(planned.guard, unknown=grant.unknown, attempts=grant.attempts),
            given=planned.after_unknown,
            sight=self.kind.sight(row, grant, answer) if grant.looking else None,
            rows=len(rows_of(row)),
        )
        reading = read(answer, earlier_unknown=case.doubt and not grant.looking)
        polled = Polled.UNSAID
        if planned.polls:
            try:
                polled = self.kind.polled(row, grant, answer)
            except CannotSay as error:
                return poll_ended(answer, f"what it waits for is not known: {error}")
        if polled in {Polled.FAILED, Polled.NOT_YET}:
            why = self.kind.failed(row, answer) if polled is Polled.FAILED else ""
            return _waits(planned, grant, why, answer, reading)
        if polled is Polled.READY or is_done(answer, reading, case):
            verdict = self.done(row, grant, answer)
            return verdict if grant.part + 1 >= planned.parts else to_go_on(answer)
        verdict = judge(
            answer,
            reading,
            grant,
            case=case,
            client=it.settings(),
            backlog_after_s=it.fleet.worker.backlog_after_s,
            rng=self.rng,
        )
        if planned.polls and verdict.kind == "END" and reading.next is Next.RETRY:
            return _waits(planned, grant, "", answer, reading)
        if verdict.kind == "END" and (said := advice(route, answer.status)):
            return replace(verdict, text=f"{verdict.text}: {said}")
        if refused:
            return replace(verdict, refused=refused)
        if reading.next is Next.TOKEN and token:
            with suppress(StoreAway):
                if it.tokens().refused(token, answer.elapsed_s):
                    text = f"{verdict.text} {it.tokens().hopeless}"
                    _warn(it, text)
                    return replace(verdict, pause_s=REFUSED_S, wide=True, text=text)
        return verdict

    def done(self, row: Row, grant: Go, answer: Answer) -> Verdict:
        """The verdict on a success; a body that cannot be read makes it no failure."""
        try:
            kept = self.kind.keep(row, grant, answer)
        except Exception:  # noqa: BLE001 -- the call was executed, whatever its answer says
            kept = Kept()
        return Verdict(
            kind="NEXT",
            outcome=Outcome.EXECUTED,
            status=answer.status,
            text=kept.values,
            provider_id=kept.provider_id,
            correlation_id=answer.correlation_id or "",
        )

    def retry_later(self, verdict: Verdict) -> None:
        """Let Celery count down; a message that is lost is rung again by the ledger."""
        try:
            retry = self.retry(countdown=verdict.delay_s, exc=Unanswered(verdict.word), throw=False)
        except Reject:
            return  # not published: the ledger knows the due time
        failpoints.reach("retry_published")
        raise retry

    def stop(self, word: str) -> str:
        """End this chain quietly; what is left of it waits in the line."""
        self.request.chain = None
        self.request.callbacks = None
        return word


def _waits(planned: Planned, grant: Go, why: str, answer: Answer, reading: Reading) -> Verdict:
    """The verdict on a poll that shows that what it waits for is not ready, or shows nothing.

    `why` tells that it will never be; "" = it may be later.
    """
    if why:
        return poll_ended(answer, why)
    if grant.part + 1 >= planned.polls:
        why = f"it was not ready at the last of {planned.polls} polls: {reading.reason}"
        return poll_ended(answer, why)
    return to_go_on(answer, planned.every_s)


def _warn(it: Client, text: str) -> None:
    """Say why a client is held, once until it changes."""
    if _warned.get(it.name) != text:
        _warned[it.name] = text
        logger.warning("client %s is held: %s", it.name, text)


def step_of(kind: StepKind) -> Step:
    """The Celery task of a kind, ready to be registered."""
    step: Step = type("Step", (Step,), {"name": kind.task, "kind": kind, "abstract": False})()
    return step


def _headers(  # noqa: PLR0913, PLR0917 -- everything that a request carries
    request: Request, it: Client, grant: Go, planned: Planned, row: Row, token: Token | None
) -> dict[str, str]:
    """The request's headers with what every request carries: the key, and the token of the client.

    A read and a look-up have no key: a provider that matches keys alone would answer them with
    what it remembers of another call.
    """
    headers = dict(request.headers)
    if not (grant.looking or planned.guard is Guard.READ or request.method in READS):
        key = request_key(it, grant, row)
        if planned.parts > 1:
            key = part_key(key, grant.step, grant.part + 1)
        elif it.settings().key_scope == "step":
            key = step_key(key, grant.step)
        headers[it.settings().idempotency_header] = key
    if token:
        headers |= token.headers
    return headers
