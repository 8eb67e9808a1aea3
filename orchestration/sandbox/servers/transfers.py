"""The host of the signed URLs: takes files as they come, without ever holding one whole.

It listens at a port of its own, knows neither tokens nor limits, and answers with XML where it
refuses. The journal holds what arrived, with size and MD5, and each request that brought
credentials of the API, which must never come here: kind `leak`.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, cast

from tornado.httputil import (
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    HTTPServerRequest,
)

from orchestration.sandbox.calls import ApiError, Call, Reply
from orchestration.sandbox.faults import KINDS_WITH_EFFECT, damage_reply
from orchestration.sandbox.servers.delivery import BREAKING_KINDS, break_off, send

if TYPE_CHECKING:
    from tornado.httputil import (
        HTTPConnection,
        HTTPHeaders,
        RequestStartLine,
        ResponseStartLine,
    )

    from orchestration.sandbox.config import Fault
    from orchestration.sandbox.genesys import FileSlot
    from orchestration.sandbox.provider import Provider
    from orchestration.sandbox.servers.tasks import RequestTasks

_HOST = "transfers"


class TransferServer(HTTPServerConnectionDelegate):
    """The callback of the HTTP server for files."""

    def __init__(self, provider: Provider, tasks: RequestTasks) -> None:
        self._provider = provider
        self._tasks = tasks

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """Return what takes one request."""
        del server_conn
        return _Transfer(self._provider, self._tasks, request_conn)


class _Transfer(HTTPMessageDelegate):
    """One request: judged by its head, counted while it comes, answered at its end."""

    def __init__(self, provider: Provider, tasks: RequestTasks, connection: HTTPConnection) -> None:
        self._provider = provider
        self._tasks = tasks
        self._connection = connection
        self._call: Call | None = None
        self._slot: FileSlot | None = None
        self._refusal: Reply | None = None
        self._fault: Fault | None = None
        self._md5, self._size = hashlib.md5(usedforsecurity=False), 0

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        provider, start = self._provider, cast("RequestStartLine", start_line)
        request = HTTPServerRequest(connection=self._connection, start_line=start, headers=headers)
        call = Call(request, provider.config, provider.clock.real_us(), request.path)
        call.host, call.ahead_us = _HOST, provider.clock.advanced_us
        self._call = call
        presigned = provider.platforms.genesys.presigned
        try:
            slot = presigned.admit(call, provider.clock.lifetime_us())
        except ApiError as refusal:
            self._refusal = _refusal_reply(refusal)
            return
        self._slot = slot
        self._fault = provider.faults.pick(call, lambda: (slot.name,))
        call.fault = self._fault.kind if self._fault else ""

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._refusal is None:
            self._md5.update(chunk)

    def finish(self) -> None:
        call, fault = cast("Call", self._call), self._fault
        if fault is None:
            reply = self._store()
        else:
            done = self._store() if fault.kind in KINDS_WITH_EFFECT else None
            reply = damage_reply(call, fault, done)
        self._provider.record(call, reply)
        if fault is not None and fault.kind in BREAKING_KINDS:
            self._tasks.spawn(break_off(call.request, reply, {}, fault), call.request)
        else:
            send(call.request, reply, {})

    def on_connection_close(self) -> None:
        if self._call is not None:  # broken off before its end: nothing is stored
            kind = self._refusal.kind if self._refusal else "error"
            self._provider.record(self._call, Reply(status=0, kind=kind, size=self._size))

    def _store(self) -> Reply:
        if self._refusal is not None or self._slot is None:
            return cast("Reply", self._refusal)
        call, md5 = cast("Call", self._call), self._md5.hexdigest()
        if not _matches_announced_md5(call, md5):
            error = ApiError(400, "BadDigest", "The file is not what Content-MD5 says.")
            return _refusal_reply(error)
        now_us = self._provider.clock.lifetime_us()
        return self._slot.store(call.config, md5, self._size, now_us)


def _matches_announced_md5(call: Call, md5: str) -> bool:
    """Tell whether a file has the MD5 that its header Content-MD5 announces, if there is one."""
    announced = call.request.headers.get("Content-MD5")
    return announced is None or announced == base64.b64encode(bytes.fromhex(md5)).decode()


def _refusal_reply(error: ApiError) -> Reply:
    body = f"<Error><Code>{error.code}</Code><Message>{error.message}</Message></Error>"
    return Reply(
        status=error.status,
        body=body.encode(),
        kind="leak" if error.code == "InvalidArgument" else "error",
        headers={"Content-Type": "application/xml"},
    )
