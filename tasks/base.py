"""The main path of a step: admitted, sent, settled; then the next bell, or none.

It stands once. A kind only says what to send and how to read the answer.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from celery import Task
from celery.exceptions import Reject, Retry

from workers import boundaries
from workers.app import clients
from workers.errors import GrantStale, NotNow, StoreAway
from workers.governor import Go, Settled
from workers.identity import step_key
from workers.outcome import Next, Outcome, read
from workers.verdict import UNSENT, Guard, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.clients import Client
    from workers.http import Connection, Request
    from workers.ledger import Row
    from workers.oauth import Token
    from workers.outcome import Answer
    from workers.settings import ClientSettings

#: A provider that cannot be reached, or gives no token, holds its client for 1 to 2 of this.
AWAY_S = 1.0
#: A token that is refused although it is new holds its client so long.
REFUSED_S = 30.0
#: Never set: a wait that no signal shortens.
_never = threading.Event()


@dataclass(frozen=True, slots=True)
class Planned:
    """One call that a row will make: its route decides the limits, its guard the re-sends."""

    route: str  #: method and path
    guard: Guard


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a successful answer."""

    provider_id: str = ""
    values: str = ""  #: one line of JSON for later steps, "" = none


class CannotSay(Exception):
    """A step cannot be sent as it was given; the text says what is missing."""


class Kind(Protocol):
    """What a job's rows are."""

    task: str  #: name of the Celery task, as Flower shows it

    def plan(self, row: Row, about: Mapping[str, Any], client: ClientSettings) -> Sequence[Planned]:
        """The calls that the row becomes, in their order."""

    def request(self, row: Row, about: Mapping[str, Any], grant: Go) -> Request:
        """What this step sends; raises `CannotSay`."""

    def keep(self, row: Row, grant: Go, answer: Answer) -> Kept:
        """What to keep of the answer of a step that succeeded."""


class Step(Task):  # type: ignore[misc]  # Celery ships no types
    """One API call of a transaction, under one idempotency key."""

    abstract = True
    ignore_result = True
    acks_late = False  # the ledger rings again: a redelivery is never needed
    max_retries = None  # attempts are counted in the ledger, never by Celery
    kind: Kind
    rng = random.Random()  # noqa: S311 -- jitter, not a secret

    def run(self, client: str, key: str, step: int) -> str:
        """Answer one bell; the returned word is what Flower shows."""
        boundaries.reach("popped")
        it = clients()[client]
        try:
            token = it.tokens.get()
            with it.caller.connection() as connection:
                grant = it.governor.admit(key, step)
                if not isinstance(grant, Go):
                    return self.stop(grant.word)
                boundaries.reach("admitted")
                verdict = self.call(it, grant, token, connection)
        except StoreAway:
            return self.stop("wait: the store is away")
        except NotNow as error:
            it.governor.give_back(key, step, AWAY_S + self.rng.uniform(0, AWAY_S))
            return self.stop(f"wait: {error}")
        match it.governor.settle(grant, verdict):
            case Settled.RING:
                boundaries.reach("next_published")
                return verdict.word  # Celery publishes the next link of the chain
            case Settled.RETRY:
                self.retry_later(verdict)
        return self.stop(verdict.word)

    def call(self, it: Client, grant: Go, token: Token | None, connection: Connection) -> Verdict:
        """Send what the grant allows and judge the answer."""
        about = it.ledger.about(grant.job)
        row = it.ledger.page(grant.job, grant.page)[grant.index]
        try:
            request = self.kind.request(row, about, grant)
            if grant.start_in_s:
                _never.wait(grant.start_in_s)
            answer = connection.send(_signed(request, it, grant, token), grant.stale_at_ns)
        except GrantStale:
            return UNSENT
        except (CannotSay, ValueError) as error:  # ValueError: no such request can be built
            return Verdict(
                kind="END",
                how="unknown" if grant.unknown else "failed",
                outcome=Outcome.NOT_EXECUTED,
                text=str(error),
            )
        boundaries.reach("answer_read")
        reading = read(answer, earlier_unknown=grant.unknown)
        if reading.next is Next.DONE:
            kept = self.kind.keep(row, grant, answer)
            return Verdict(
                kind="NEXT",
                outcome=reading.outcome,
                status=answer.status,
                text=kept.values,
                provider_id=kept.provider_id,
                correlation_id=answer.correlation_id or "",
            )
        verdict = judge(
            answer,
            reading,
            grant,
            guard=self.kind.plan(row, about, it.settings)[grant.step - 1].guard,
            client=it.settings,
            line_after_s=it.fleet.worker.line_after_s,
            rng=self.rng,
        )
        if reading.next is Next.TOKEN and token:
            useless = it.tokens.refused(token.generation, answer.elapsed_s)
            return replace(verdict, pause_s=REFUSED_S if useless else 0.0)
        return verdict

    def retry_later(self, verdict: Verdict) -> None:
        """Let Celery count down; a message that is lost is rung again by the ledger."""
        try:
            self.retry(countdown=verdict.delay_s, exc=None, throw=False)
        except Reject:
            return  # not published: the ledger knows the due time
        boundaries.reach("retry_published")
        raise Retry(verdict.word, when=verdict.delay_s)

    def stop(self, word: str) -> str:
        """End this chain quietly; what is left of it waits in the line."""
        self.request.chain = None
        self.request.callbacks = None
        return word


def step_of(kind: Kind) -> Step:
    """The Celery task of a kind, ready to be registered."""
    step: Step = type("Step", (Step,), {"name": kind.task, "kind": kind, "abstract": False})()
    return step


def _signed(request: Request, it: Client, grant: Go, token: Token | None) -> Request:
    """The request with what every request carries: the key, and the token of the client."""
    scope = it.settings.key_scope
    headers = dict(request.headers)
    headers[it.settings.idempotency_header] = (
        grant.key if scope == "transaction" else step_key(grant.key, grant.step)
    )
    if token:
        headers["Authorization"] = f"Bearer {token.value.get_secret_value()}"
    return replace(request, headers=headers)
