"""The path of a request, from its arrival to its answer.

    arrival ─► token ─► storm ─► limits ─► fault? ─► key ─► latency ─► effect ─► journal ─► answer
                 401      429       429      before     409, 422, replay             after

Limits are decided at the moment of arrival. Effect and journal are one step without a pause in
between, so a report never sees half of a call.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, cast

from orchestration.sandbox.calls import call as calls
from orchestration.sandbox.calls.call import Answer, ApiError, Call, Operation
from orchestration.sandbox.determinism import Clock
from orchestration.sandbox.faults.delivery import BREAKING, break_off, send
from orchestration.sandbox.faults.rules import (
    WITH_EFFECT,
    FaultBook,
    StormInForce,
    damaged,
    is_remembered,
)
from orchestration.sandbox.generic import Generic
from orchestration.sandbox.genesys.organisation import Genesys
from orchestration.sandbox.genesys.routes import template
from orchestration.sandbox.idempotency import KeyState, KeyStore, Scope
from orchestration.sandbox.journal.journal import Entry, Journal
from orchestration.sandbox.oauth import OPEN_PATHS, OAuth
from orchestration.sandbox.quota.headers import rate_headers, retry_after
from orchestration.sandbox.quota.limits import Limiter, matcher

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tornado.http1connection import HTTP1Connection
    from tornado.httputil import HTTPServerRequest

    from orchestration.sandbox.config.config import Config, Fault

log = logging.getLogger(__name__)


class Sandbox:
    """One provider: its state, and the callback of its HTTP server."""

    def __init__(self, config: Config, journal: Journal, transfer_port: int = 0) -> None:
        self.config = config
        self.journal = journal
        self.transfer_port = transfer_port  #: where the signed URLs lead to
        self.clock = Clock()
        self.oauth = OAuth()
        self.max_lag_us = 0  #: longest time that this process kept arrivals waiting
        self.in_flight = 0  #: calls that wait for their latency or are broken off slowly
        self.tasks: set[asyncio.Task[None]] = set()
        self._forget()

    def _forget(self) -> None:
        self.keys = KeyStore()
        self.genesys, self.generic = Genesys(self.transfer_port), Generic()
        self.limiter = Limiter(self.config.limits)
        self.faults = FaultBook(self.config.faults)
        self.storm: StormInForce | None = None
        self._random = Random(self.config.seed)  # noqa: S311 - repeatable latency, no secret

    def reset(self) -> None:
        """Forget effects, keys, entities and counters; tokens, clock and configuration stay."""
        self.journal.clear()
        self._forget()

    def apply(self, config: Config) -> None:
        """Take a configuration; the state of limits that it does not change stays."""
        before, self.config = self.config, config
        if config.limits != before.limits:
            self.limiter = Limiter(config.limits)
            self.journal.limits = config.limits
        if config.seed != before.seed:
            self._random = Random(config.seed)  # noqa: S311 - repeatable latency, no secret

    def set_faults(self, config: Config) -> None:
        """Take a configuration's faults, with their counters at zero."""
        self.config = config
        self.faults = FaultBook(config.faults)

    def handle(self, request: HTTPServerRequest) -> None:
        """Answer one request to the API, now or in a task."""
        t_us = self.clock.real_us()
        call = Call(request, self.config, t_us, template(request.path))
        call.ahead_us = self.clock.advanced_us
        refused = None if call.path in OPEN_PATHS else self._refusal(call)
        if refused is not None:
            self._end(call, refused)
            return
        operation = self._operation(call)
        fault = self.faults.pick(call.method, call.path, operation.business_ids)
        delay_s = self._latency_s()
        if fault is None and not delay_s:
            scope, answer = self._claim(call, operation)
            self._end(call, answer or self._execute(call, operation, scope))
        else:
            self.spawn(self._serve(call, operation, fault, delay_s), request)

    def spawn(self, work: Coroutine[None, None, None], request: HTTPServerRequest) -> None:
        """Run the rest of a request in a task; its connection does not outlive a bug."""
        task = asyncio.get_running_loop().create_task(_to_its_end(work, request))
        self.tasks.add(task)  # a task that nobody holds may vanish
        task.add_done_callback(self.tasks.discard)

    def _refusal(self, call: Call) -> Answer | None:
        """Return the 401 or 429 that ends a call at its arrival; None: it is accepted."""
        if self.config.auth:
            headers, now_us = call.request.headers, self.clock.lifetime_us()
            client = self.oauth.client_of(headers, self.config.api_keys, now_us)
            if client is None:
                return calls.error(call, 401, "bad.credentials", "Invalid login.", "unauthorised")
            call.client = client
        if self.storm is not None and self.storm.hits(call.t_us, call.method, call.path):
            call.fault = "storm"
            return calls.too_many_requests(call, self.storm.retry_after)
        decision = self.limiter.decide(call.t_us, call.method, call.path, call.client, call.route)
        call.rate_headers = rate_headers(self.config.rate_headers, decision, call.t_us)
        call.places = decision.places()
        if decision.refused_by is None:
            return None
        call.refused_by = decision.refused_by.name
        value = retry_after(self.config.retry_after, decision.wait_us, call.t_us)
        return calls.too_many_requests(call, value)

    def _operation(self, call: Call) -> Operation:
        if call.path in OPEN_PATHS:
            return Operation(partial(self.oauth.issue, call), tuple, reads=True)
        return self.genesys.operation(call) or self.generic.operation(call)

    def _latency_s(self) -> float:
        spread = self.config.latency_sigma
        factor = self._random.lognormvariate(0.0, spread) if spread else 1.0
        return self.config.latency_ms * factor / 1000

    async def _serve(
        self, call: Call, operation: Operation, fault: Fault | None, delay_s: float
    ) -> None:
        """Serve a call that takes time or is hit by a fault."""
        self.in_flight += 1
        try:
            await self._act(call, operation, fault, delay_s)
        finally:
            self.in_flight -= 1
            _free(call)

    async def _act(
        self, call: Call, operation: Operation, fault: Fault | None, delay_s: float
    ) -> None:
        acts = fault is None or fault.kind in WITH_EFFECT
        keeps_5xx = fault is not None and is_remembered(fault, self.config)
        scope, early = self._claim(call, operation) if acts or keeps_5xx else (None, None)
        await asyncio.sleep(delay_s)
        if fault is None or (early and keeps_5xx):
            self._end(call, early or self._execute(call, operation, scope))
            return
        call.fault = fault.kind
        done = early or (self._execute(call, operation, scope) if acts else None)
        answer = damaged(call, fault, done)
        if scope and keeps_5xx:
            self.keys.remember(scope, answer.status, answer.body)
        if fault.kind in BREAKING:
            self.record(call, answer)
            await break_off(call.request, answer, _headers(call), fault)
        else:
            self._end(call, answer)

    def _claim(self, call: Call, operation: Operation) -> tuple[Scope | None, Answer | None]:
        """Take the call's key: its scope, or the answer that ends the call early."""
        config = self.config
        honoured = matcher(config.idempotency_match).match(f"{call.method} {call.path}")
        if not call.key or operation.reads or config.idempotency == "off" or not honoured:
            return None, None
        scope: Scope = (call.client, call.key)
        if config.idempotency == "method_path_key":
            scope = (call.client, call.method, call.path, call.key)
        lifetime_us = round(config.idempotency_lifetime_s * 1e6)
        now_us = self.clock.lifetime_us()
        state, status, body = self.keys.claim(scope, call.body, now_us, lifetime_us)
        match state:
            case KeyState.NEW:
                return scope, None
            case KeyState.REPLAY:
                headers = {"Idempotency-Replayed": "true"}
                return None, Answer(status=status, body=body, kind="replay", headers=headers)
            case KeyState.IN_PROGRESS:
                message = "The first call under this key is still in progress."
                return None, calls.error(call, 409, "request.in.progress", message)
            case KeyState.REUSED:
                message = "This key belongs to a call with another body."
                return None, calls.error(call, 422, "idempotency.key.reused", message)

    def _execute(self, call: Call, operation: Operation, scope: Scope | None) -> Answer:
        """Have the effect, and remember the answer if it is a success."""
        try:
            answer = operation.run(self.clock.lifetime_us())
        except ApiError as refusal:
            answer = calls.error(call, refusal.status, refusal.code, refusal.message)
        if scope and answer.status < HTTPStatus.MULTIPLE_CHOICES:
            self.keys.remember(scope, answer.status, answer.body)
        elif scope:
            self.keys.release(scope)
        return answer

    def _end(self, call: Call, answer: Answer) -> None:
        self.record(call, answer)
        send(call.request, answer, _headers(call))

    def record(self, call: Call, answer: Answer) -> None:
        """Put a call and what became of it into the journal."""
        _free(call)
        self.journal.add(
            Entry(
                t_us=call.t_us,
                client=call.client,
                method=call.method,
                path=call.path,
                key=call.key,
                status=answer.status,
                kind="token" if call.path in OPEN_PATHS else answer.kind,
                fault=call.fault,
                created=answer.created,
                updated=answer.updated,
                repeated=answer.repeated,
                queued=answer.queued,
                work_us=self.clock.real_us() - call.t_us,
                refused_by=call.refused_by,
                ahead_us=call.ahead_us,
                host=call.host,
                md5=answer.md5,
                size=answer.size,
            )
        )


def _free(call: Call) -> None:
    while call.places:
        call.places.pop().free()


def _headers(call: Call) -> dict[str, str]:
    return {"ININ-Correlation-Id": call.context_id, **call.rate_headers}


async def _to_its_end(work: Coroutine[None, None, None], request: HTTPServerRequest) -> None:
    try:
        await work
    except Exception:
        log.exception("%s %s ended without an answer", request.method, request.path)
        cast("HTTP1Connection", request.connection).close()
