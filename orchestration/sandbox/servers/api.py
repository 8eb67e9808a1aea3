"""The path of a call to the API, from its arrival to its answer.

    arrival ─► token ─► storm ─► limits ─► fault? ─► key ─► latency ─► effect ─► journal ─► answer
                 401      429       429      before     409, 422, replay             after

Limits are decided at the moment of arrival. Effect and journal are one step without a pause in
between, so that a report never sees half of a call.
"""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import ApiError, ApiOperation, Call
from orchestration.sandbox.faults import KINDS_WITH_EFFECT, damage_reply, is_remembered
from orchestration.sandbox.idempotency import claim_key
from orchestration.sandbox.oauth import OPEN_PATHS
from orchestration.sandbox.platforms import route_of
from orchestration.sandbox.quota import format_rate_headers, format_retry_after
from orchestration.sandbox.servers.delivery import BREAKING_KINDS, break_off, send

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

    from orchestration.sandbox.calls import Reply
    from orchestration.sandbox.config import Fault
    from orchestration.sandbox.idempotency import KeyScope
    from orchestration.sandbox.provider import Provider
    from orchestration.sandbox.servers.tasks import RequestTasks


class ApiServer:
    """The callback of the HTTP server for calls of the API."""

    def __init__(self, provider: Provider, tasks: RequestTasks) -> None:
        self._provider = provider
        self._tasks = tasks

    def handle(self, request: HTTPServerRequest) -> None:
        """Answer one call, now or in a task."""
        provider = self._provider
        t_us = provider.clock.real_us()
        call = Call(request, provider.config, t_us, route_of(request.path))
        call.ahead_us = provider.clock.advanced_us
        refusal = None if call.path in OPEN_PATHS else self._refuse(call)
        if refusal is not None:
            self._finish(call, refusal)
            return
        operation = self._operation(call)
        fault = provider.faults.pick(call, operation.business_ids)
        delay_s = provider.draw_latency_s()
        if fault is None and not delay_s:
            scope, early = self._claim_key(call, operation)
            self._finish(call, early or self._execute(call, operation, scope))
        else:
            self._tasks.spawn(self._serve(call, operation, fault, delay_s), request)

    def _refuse(self, call: Call) -> Reply | None:
        """Return the 401, 403 or 429 that ends a call at its arrival; None: it is accepted."""
        provider = self._provider
        if call.config.auth:
            headers, now_us = call.request.headers, provider.clock.lifetime_us()
            client = provider.oauth.client_of(headers, call.config.api_keys, now_us)
            if client is None:
                status = int(call.config.unauthorised)
                error = ApiError(status, "bad.credentials", "Invalid login.")
                return call.error_reply(error, kind="unauthorised")
            call.client = client
        if provider.storm is not None and provider.storm.hits(call.t_us, call.method, call.path):
            call.fault = "storm"
            return call.too_many_requests(provider.storm.retry_after)
        return self._charge_limits(call)

    def _charge_limits(self, call: Call) -> Reply | None:
        """Charge the call to the limits; return the 429 of the one that refuses it."""
        config = call.config
        decision = self._provider.quota.decide(
            call.t_us, call.method, call.path, call.client, call.route
        )
        call.rate_headers = format_rate_headers(config.rate_headers, decision, call.t_us)
        call.permits = decision.permits()
        if decision.refused_by is None:
            return None
        call.refused_by = decision.refused_by.name
        retry_after = format_retry_after(config.retry_after, decision.wait_us, call.t_us)
        return call.too_many_requests(retry_after)

    def _operation(self, call: Call) -> ApiOperation:
        if call.path in OPEN_PATHS:
            answer = partial(self._provider.oauth.answer_token_request, call)
            return ApiOperation(answer, tuple, reads=True)
        return self._provider.platforms.operation(call)

    async def _serve(
        self, call: Call, operation: ApiOperation, fault: Fault | None, delay_s: float
    ) -> None:
        """Serve a call that takes time or is hit by a fault."""
        self._provider.in_flight += 1
        try:
            if fault is None:
                await self._serve_late(call, operation, delay_s)
            else:
                await self._serve_with_fault(call, operation, fault, delay_s)
        finally:
            self._provider.in_flight -= 1
            call.release_permits()

    async def _serve_late(self, call: Call, operation: ApiOperation, delay_s: float) -> None:
        scope, early = self._claim_key(call, operation)
        await asyncio.sleep(delay_s)
        self._finish(call, early or self._execute(call, operation, scope))

    async def _serve_with_fault(
        self, call: Call, operation: ApiOperation, fault: Fault, delay_s: float
    ) -> None:
        has_effect, remembers = fault.kind in KINDS_WITH_EFFECT, is_remembered(fault, call.config)
        scope, early = None, None
        if has_effect or remembers:
            scope, early = self._claim_key(call, operation)
        await asyncio.sleep(delay_s)
        if early and remembers:  # the provider remembers an answer from before the fault
            self._finish(call, early)
            return
        call.fault = fault.kind
        done = early or (self._execute(call, operation, scope) if has_effect else None)
        reply = damage_reply(call, fault, done)
        if scope and remembers:
            self._provider.keys.remember(scope, reply.status, reply.body)
        if fault.kind in BREAKING_KINDS:
            self._provider.record(call, reply)
            await break_off(call.request, reply, _headers_of(call), fault)
        else:
            self._finish(call, reply)

    def _claim_key(
        self, call: Call, operation: ApiOperation
    ) -> tuple[KeyScope | None, Reply | None]:
        if operation.reads:
            return None, None
        return claim_key(self._provider.keys, call, self._provider.clock.lifetime_us())

    def _execute(self, call: Call, operation: ApiOperation, scope: KeyScope | None) -> Reply:
        """Have the effect, and remember the answer if it is a success."""
        try:
            reply = operation.run(self._provider.clock.lifetime_us())
        except ApiError as refusal:
            reply = call.error_reply(refusal)
        if scope and reply.status < HTTPStatus.MULTIPLE_CHOICES:
            self._provider.keys.remember(scope, reply.status, reply.body)
        elif scope:
            self._provider.keys.release(scope)
        return reply

    def _finish(self, call: Call, reply: Reply) -> None:
        self._provider.record(call, reply)
        send(call.request, reply, _headers_of(call))


def _headers_of(call: Call) -> dict[str, str]:
    if call.fault == "page":  # a proxy answered, which knows nothing of the API
        return {}
    return {"ININ-Correlation-Id": call.context_id, **call.rate_headers}
