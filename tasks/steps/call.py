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

from tasks.kind import ANY_PLATFORM, CannotSay
from tasks.steps.bell import read_bell
from tasks.steps.detours import take_detour
from tasks.steps.granted import GrantedStep, finish_undone, put_off, require_platform
from tasks.steps.outgoing import Outgoing, checks_first
from tasks.steps.reading import read_answer, read_probe
from workers import clock, failpoints
from workers.answer.outcome import is_access_refused
from workers.answer.verdict import Advance, Finish, Requeue, Retry
from workers.clients import clients
from workers.errors import (
    STORE_FAILS,
    ConfigError,
    HeadgateError,
    LedgerDamaged,
    NotNow,
    TokenUnavailable,
)
from workers.governor.grants import ANYBODY, PLAIN, Asker, Grant, Hindrance, PutBack, Settled
from workers.governor.registry import WORKER_ID
from workers.http.connection import ConnectFailed
from workers.ledger.identity import SCHEMA

if TYPE_CHECKING:
    from tasks.kind import StepKind
    from workers.answer.outcome import Answer
    from workers.answer.verdict import Verdict
    from workers.auth.credentials import Token
    from workers.clients import Client
    from workers.http.connection import Connection

#: A provider that gives nobody a token holds its client for 1 to 2 of this; one to which no
#: connection comes about holds the transaction.
AWAY_HOLD_S: Final = 1.0
#: A process that has failed to connect for so long, while others can, makes no calls of the client.
BROKEN_AFTER_S: Final = 1.0
#: Why each client that is held is so; a new reason is logged once.
_warned: dict[str, str] = {}

#: What a 429 comes to that is its row's own: it says nothing of a limit.
_OF_ITS_ROW: Final = frozenset({Settled.APART, Settled.STILL_APART, Settled.END})

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
    platform = ANY_PLATFORM  #: the one whose API its kind speaks
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
            ours = clients()[client]
            if why := ours.obstacle.why or _refuse_account(ours):
                # For a worker that can make the call.
                ours.put_back(key, step, asker=self.find_asker(ours))
                return self.stop(f"wait: {why}")
            return self.serve_bell(ours, key, step)
        except HeadgateError as error:  # the ledger knows what is out, and rings again
            return self.stop(f"wait: {error}")

    def find_asker(self, client: Client) -> Asker:
        """What this task serves in this worker."""
        del client
        return self.asker

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
            return self.put_back(client, key, step, error)
        if client.name in _warned:
            _end_warning(client)
        settled = client.governor().settle(grant, verdict)
        _record_refusal(client, grant, settled, verdict)
        return self.go_on(settled, verdict)

    def put_back(self, client: Client, key: str, step: int, error: HeadgateError) -> str:
        """Requeue a bell for which nothing could be sent.

        A provider that gives nobody a token holds the client, and one to which nobody can connect
        holds the scope. What keeps this process alone from the call holds nothing: others may make
        it.
        """
        wait_s = AWAY_HOLD_S + self.rng.uniform(0, AWAY_HOLD_S)
        hindrance = PLAIN
        if isinstance(error, ConnectFailed):
            hindrance = Hindrance(
                str(error), delay_s=wait_s, process=WORKER_ID, failing_s=error.failing_s
            )
        elif isinstance(error, TokenUnavailable) and not error.refused:
            hindrance = Hindrance(str(error), pause_s=wait_s)
        follows = client.put_back(key, step, hindrance, self.asker)
        is_broken = follows is PutBack.OWN and hindrance.failing_s >= BROKEN_AFTER_S
        is_overdue = isinstance(error, TokenUnavailable) and error.overdue
        if hindrance is PLAIN or is_broken or is_overdue:
            client.obstacle.note(str(error))
        else:
            _warn(client, str(error))
        return self.stop(f"wait: {error}")

    def call(
        self, client: Client, grant: Grant, token: Token | None, connection: Connection
    ) -> Verdict:
        """Send what the grant allows, read the answer, and do at once what it asks for."""
        try:
            require_platform(client, self.platform)
            granted = GrantedStep.load(client, self.kind, grant)
            outgoing = Outgoing.of(granted)
            if stopped := outgoing.refuse_changed(granted):
                return stopped
            if grant.memo.token_refusals:  # the refused one may be what this process still has
                token = client.tokens().newest(client.fleet.worker.bell_grace_s / 2)
            request = outgoing.with_headers(granted, token)
            if grant.start_in_s:
                clock.wait(grant.start_in_s)
            answer = connection.send(request, grant.stale_at_ns)
        except (NotNow, ConfigError, LedgerDamaged) as error:
            return put_off(client, grant, error)
        except Exception as error:  # noqa: BLE001 -- must not look like a worker that died
            return finish_undone(grant, error, "cannot be sent", (CannotSay, ValueError))
        failpoints.reach("answer_read")
        renews_token = _report_token(client, token, grant, answer)
        if checks_first(granted):
            return read_probe(answer)
        refused = client.refusals.note(granted.route, granted.tenant, answer)
        verdict = read_answer(granted, answer, self.rng, renews_token=renews_token)
        verdict = outgoing.note(granted, answer, verdict)
        if isinstance(verdict, Requeue) and verdict.throttled:
            return replace(verdict, refused=refused)
        return verdict

    def go_on(self, settled: Settled, verdict: Verdict) -> str:
        """The next bell, or none; the returned word is what Flower shows."""
        match settled:
            case Settled.RING:
                failpoints.reach("next_published")
                return verdict.summary  # Celery publishes the next link of the chain
            case Settled.RETRY if isinstance(verdict, Retry):
                self.retry_later(verdict)
            case Settled.END if not isinstance(verdict, Advance | Finish) and verdict.give_up:
                raise TransactionFailed(self.stop(verdict.summary_as(verdict.give_up.state)))
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


def step_of(kind: StepKind, jobs: str, platform: str = ANY_PLATFORM) -> Step:
    """The Celery task of a kind, ready to be registered.

    Args:
        kind: What it sends.
        jobs: The kind of their rows.
        platform: The only one that it speaks to, of `tasks.kind.PLATFORMS`.
    """
    names = {"name": kind.task, "kind": kind, "asker": Asker(jobs), "abstract": False}
    step: Step = type("Step", (Step,), {**names, "platform": platform})()
    return step


def _refuse_account(client: Client) -> str:
    """Why this process may not send for the client; "" = it may."""
    try:
        client.require_bound()
    except ConfigError as error:
        return str(error)
    return ""


def _report_token(client: Client, token: Token | None, grant: Grant, answer: Answer) -> bool:
    """Report what an answer says of the token; returns whether a new one will be asked for.

    A 401 or 403 renews it, unless it is so new that the call is more likely at fault.
    """
    if token is None:
        return False
    tokens, again = client.tokens(), grant.memo.token_refusals > 0
    with suppress(*STORE_FAILS):
        if is_access_refused(answer):
            return tokens.refused(token, again=again)
        if answer.status is not None and not grant.looking:
            tokens.worked(token, again=again)
    return False


def _record_refusal(client: Client, grant: Grant, settled: Settled, verdict: Verdict) -> None:
    """Keep a 429 for people, with the limits of now: one under other limits suggests nothing.

    That one row is refused while others are not suggests nothing of a limit either: it is logged.
    """
    if settled is Settled.APART and isinstance(verdict, Requeue):
        logger.warning(
            "job %s of client %s: %s to a row again while others go through, so that row alone "
            "waits (transaction %s)",
            grant.job,
            client.name,
            verdict.error,
            grant.key,
        )
    if not isinstance(verdict, Requeue) or not verdict.refused or settled in _OF_ITS_ROW:
        return
    pause_s = verdict.pause.duration_s if verdict.pause else 0.0
    with suppress(*STORE_FAILS, ConfigError):
        client.refusals.record(verdict.refused, client.look()[1], pause_s)


def _warn(client: Client, text: str) -> None:
    """Say why calls of a client wait, once until it changes."""
    if _warned.get(client.name) != text:
        _warned[client.name] = text
        logger.warning("calls of client %s wait: %s", client.name, text)


def _end_warning(client: Client) -> None:
    """A call was made: nothing makes those of the client wait any more.

    A process that could not connect says that it can again, or others would believe that all fail.
    """
    if client.caller().route.fails:  # it was made over an older connection
        return
    _warned.pop(client.name, None)
    with suppress(*STORE_FAILS):
        client.governor().note_connected(WORKER_ID)
