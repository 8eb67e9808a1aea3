"""The main path of a step: bell, grant, request, answer, verdict, settle; then the next bell.

It stands once, from top to bottom. A kind only says what to send and how to read the answer: how
that becomes a verdict stands in `tasks.steps.reading`, and what is done instead of a call that may
not leave as it is in `tasks.steps.detours`.
"""

from __future__ import annotations

import logging
import random
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from celery import Task
from celery.exceptions import Reject

from tasks.kind import CannotSay
from tasks.steps.bell import read_bell
from tasks.steps.detours import request_key, take_detour
from tasks.steps.granted import GrantedStep, finish_undone
from tasks.steps.reading import read_answer
from workers import clock, failpoints
from workers.answer.guards import READS, Guard
from workers.answer.verdict import UNSENT, Finish, Pause, Reach, Requeue, Retry
from workers.clients import clients
from workers.errors import (
    ConfigError,
    GrantStale,
    HeadgateError,
    SchemaUnknown,
    StoreAway,
    TokenUnavailable,
)
from workers.governor.grants import ANYBODY, Asker, Grant, Settled
from workers.http.connection import ConnectFailed
from workers.ledger.identity import SCHEMA, part_key, step_key

if TYPE_CHECKING:
    from tasks.kind import StepKind
    from workers.answer.verdict import Verdict
    from workers.auth.credentials import Token
    from workers.clients import Client
    from workers.http.connection import Connection, Request

#: A provider that cannot be reached, or gives no token, holds its client for 1 to 2 of this.
AWAY_HOLD_S: Final = 1.0
#: A token that is refused although it is new holds its client for so long.
TOKEN_REFUSED_HOLD_S: Final = 30.0
#: Why each client that is held is so; a new reason is logged once.
_warned: dict[str, str] = {}

logger = logging.getLogger(__name__)


class FlowerNote(Exception):
    """A sentence for Flower, which shows an exception by its repr."""

    def __repr__(self) -> str:
        """The sentence."""
        return str(self)


class Retrying(FlowerNote):
    """Why Celery counts down to another attempt."""


class TransactionFailed(FlowerNote):
    """Why a transaction ended without success, so that Flower counts it as failed."""


class Step(Task):  # type: ignore[misc]  # Celery ships no types
    """One API call of a transaction, under one idempotency key."""

    abstract = True
    ignore_result = True
    acks_late = False  # the ledger rings again: a redelivery is never needed
    throws = (TransactionFailed,)  # no error of the worker's: no traceback in its log
    max_retries = None  # attempts are counted in the ledger, never by Celery
    kind: StepKind
    asker = ANYBODY  #: the kind of its jobs, and that it makes calls
    rng = random.Random()  # noqa: S311 -- jitter, not a secret

    def run(self, *names: object, **more: object) -> str:
        """Serve one bell; the returned word is what Flower shows."""
        failpoints.reach("popped")
        schema = self.request.get("schema", SCHEMA)  # a further link of a chain has none
        if schema != SCHEMA:  # rung again when nobody answers it, maybe for another worker
            return self.stop(f"wait: this bell has schema {schema}, this release reads {SCHEMA}")
        bell = read_bell(names, more)
        if bell is None:
            return self.stop("drop: this message names no client, key and step")
        client, key, step = bell
        try:
            return self.serve_bell(clients()[client], key, step)
        except HeadgateError as error:  # the ledger knows what is out, and rings again
            return self.stop(f"wait: {error}")

    def serve_bell(self, client: Client, key: str, step: int) -> str:
        """Admit, send, settle; then the next bell, or none."""
        try:
            # Waiting longer would look like a bell that nobody heard.
            token = client.tokens().get(client.fleet.worker.bell_grace_s / 2)
            with client.caller().connection() as connection:
                grant = client.governor().admit(key, step, self.asker)
                if not isinstance(grant, Grant):
                    return self.stop(take_detour(client, grant))
                failpoints.reach("admitted")
                verdict = self.call(client, grant, token, connection)
        except (TokenUnavailable, ConnectFailed, ConfigError) as error:
            _warn(client, str(error))
            hold_s = AWAY_HOLD_S + self.rng.uniform(0, AWAY_HOLD_S)
            client.governor().requeue(key, step, hold_s, str(error), self.asker)
            return self.stop(f"wait: {error}")
        _warned.pop(client.name, None)
        settled = client.governor().settle(grant, verdict)
        _record_refusal(client, verdict)
        return self.go_on(settled, verdict)

    def call(
        self, client: Client, grant: Grant, token: Token | None, connection: Connection
    ) -> Verdict:
        """Send what the grant allows, read the answer, and do at once what it asks for."""
        try:
            granted = GrantedStep.load(client, self.kind, grant)
            request = self.kind.request(granted.row, granted.job_params, grant)
            request = replace(request, headers=_headers(request, granted, token))
            if grant.start_in_s:
                clock.wait(grant.start_in_s)
            answer = connection.send(request, grant.stale_at_ns)
        except (GrantStale, StoreAway, SchemaUnknown):
            return UNSENT  # back to the head of the backlog, and no attempt
        except Exception as error:  # noqa: BLE001 -- must not look like a worker that died
            return finish_undone(grant, error, "cannot be sent", (CannotSay, ValueError))
        failpoints.reach("answer_read")
        refused = client.refusals.note(granted.route, granted.tenant, answer)
        verdict = read_answer(granted, answer, self.rng)
        match verdict:
            case Requeue(throttled=True):
                return replace(verdict, refused=refused)
            case Requeue(token_refused=True) if token:
                return _renew_token(client, token, verdict, answer.elapsed_s)
        return verdict

    def go_on(self, settled: Settled, verdict: Verdict) -> str:
        """The next bell, or none; the returned word is what Flower shows."""
        match settled:
            case Settled.RING:
                failpoints.reach("next_published")
                return verdict.summary  # Celery publishes the next link of the chain
            case Settled.RETRY if isinstance(verdict, Retry):
                self.retry_later(verdict)
        word = self.stop(verdict.summary)
        if isinstance(verdict, Finish):
            raise TransactionFailed(word)
        return word

    def retry_later(self, verdict: Retry) -> None:
        """Let Celery count down; a message that is lost is rung again by the ledger."""
        reason = Retrying(verdict.summary)
        try:
            retry = self.retry(countdown=verdict.delay_s, exc=reason, throw=False)
        except Reject:
            return  # not published: the ledger knows the due time
        failpoints.reach("retry_published")
        raise retry

    def stop(self, word: str) -> str:
        """Drop the rest of this chain: Celery publishes no further link."""
        request = self.request  # a look-up in Celery's stack of running tasks
        request.chain = request.callbacks = None
        return word


def step_of(kind: StepKind, jobs: str) -> Step:
    """The Celery task of a kind, ready to be registered; `jobs` is the kind of their rows."""
    names = {"name": kind.task, "kind": kind, "asker": Asker(jobs), "abstract": False}
    step: Step = type("Step", (Step,), names)()
    return step


def _headers(request: Request, granted: GrantedStep, token: Token | None) -> dict[str, str]:
    """The request's headers with what every request carries: the key, and the token of the client.

    A read and a look-up have no key: a provider that matches keys alone would answer them with
    what it remembers of another call.
    """
    grant, plan, settings = granted.grant, granted.plan, granted.client.settings()
    headers = dict(request.headers)
    if not (grant.looking or plan.guard is Guard.READ or request.method in READS):
        key = request_key(granted.client, grant, granted.row)
        if plan.parts > 1:
            key = part_key(key, grant.step, grant.part + 1)
        elif settings.key_scope == "step":
            key = step_key(key, grant.step)
        headers[settings.idempotency_header] = key
    if token:
        headers |= token.headers
    return headers


def _renew_token(client: Client, token: Token, verdict: Requeue, sent_ago_s: float) -> Requeue:
    """Let the next call ask for a new token; one refused although it is new holds the client."""
    tokens = client.tokens()
    with suppress(StoreAway):
        if tokens.refused(token, sent_ago_s):
            error = f"{verdict.error} {tokens.hopeless}"
            _warn(client, error)
            return replace(verdict, pause=Pause(TOKEN_REFUSED_HOLD_S, Reach.CLIENT), error=error)
    return verdict


def _record_refusal(client: Client, verdict: Verdict) -> None:
    """Keep a 429 for people, with the limits of now: one under other limits suggests nothing."""
    if not isinstance(verdict, Requeue) or not verdict.refused:
        return
    pause_s = verdict.pause.duration_s if verdict.pause else 0.0
    with suppress(StoreAway, ConfigError):
        client.refusals.record(verdict.refused, client.look()[1], pause_s)


def _warn(client: Client, text: str) -> None:
    """Say why a client is held, once until it changes."""
    if _warned.get(client.name) != text:
        _warned[client.name] = text
        logger.warning("client %s is held: %s", client.name, text)
