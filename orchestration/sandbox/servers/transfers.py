"""The host of the signed URLs: takes files as they come, without ever holding one whole.

It listens at a port of its own, knows neither tokens nor limits, and answers with XML where it
refuses. The journal tells what arrived, with size and MD5, and each request that brought
credentials of the API, which must never come here: kind `leak`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tornado.httputil import (
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    HTTPServerRequest,
)

from orchestration.sandbox.calls.call import Answer, ApiError, Call
from orchestration.sandbox.faults.delivery import BREAKING, break_off, send
from orchestration.sandbox.faults.rules import WITH_EFFECT, damaged
from orchestration.sandbox.genesys.presigned import digest_matches, new_md5

if TYPE_CHECKING:
    from tornado.httputil import (
        HTTPConnection,
        HTTPHeaders,
        RequestStartLine,
        ResponseStartLine,
    )

    from orchestration.sandbox.config.config import Fault
    from orchestration.sandbox.genesys.presigned import Slot
    from orchestration.sandbox.servers.api import Sandbox

_HOST = "transfers"


class Transfers(HTTPServerConnectionDelegate):
    """The callback of the HTTP server for files."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """Return what takes one request."""
        del server_conn
        return _Transfer(self._sandbox, request_conn)


class _Transfer(HTTPMessageDelegate):
    """One request: judged by its head, counted while it comes, answered at its end."""

    def __init__(self, sandbox: Sandbox, connection: HTTPConnection) -> None:
        self._sandbox = sandbox
        self._connection = connection
        self._call: Call | None = None
        self._slot: Slot | None = None
        self._refusal: Answer | None = None
        self._fault: Fault | None = None
        self._md5, self._size = new_md5(), 0

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        sandbox, start = self._sandbox, cast("RequestStartLine", start_line)
        request = HTTPServerRequest(connection=self._connection, start_line=start, headers=headers)
        call = Call(request, sandbox.config, sandbox.clock.real_us(), request.path)
        call.host, call.ahead_us = _HOST, sandbox.clock.advanced_us
        self._call = call
        try:
            slot = sandbox.genesys.presigned.admit(call, sandbox.clock.lifetime_us())
        except ApiError as refusal:
            self._refusal = _refused(refusal)
            return
        self._slot = slot
        self._fault = sandbox.faults.pick(call.method, call.path, lambda: (slot.name,))
        call.fault = self._fault.kind if self._fault else ""

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._refusal is None:
            self._md5.update(chunk)

    def finish(self) -> None:
        call, fault, sandbox = cast("Call", self._call), self._fault, self._sandbox
        if fault is None:
            answer = self._stored()
        else:
            done = self._stored() if fault.kind in WITH_EFFECT else None
            answer = damaged(call, fault, done)
        sandbox.record(call, answer)
        if fault is not None and fault.kind in BREAKING:
            sandbox.spawn(break_off(call.request, answer, {}, fault), call.request)
        else:
            send(call.request, answer, {})

    def on_connection_close(self) -> None:
        if self._call is not None:  # broken off before its end: nothing is stored
            kind = self._refusal.kind if self._refusal else "error"
            self._sandbox.record(self._call, Answer(status=0, kind=kind, size=self._size))

    def _stored(self) -> Answer:
        if self._refusal is not None or self._slot is None:
            return cast("Answer", self._refusal)
        call, md5 = cast("Call", self._call), self._md5.hexdigest()
        if not digest_matches(call, md5):
            return _refused(ApiError(400, "BadDigest", "The file is not what Content-MD5 says."))
        now_us = self._sandbox.clock.lifetime_us()
        return self._slot.take(call.config, md5, self._size, now_us)


def _refused(refusal: ApiError) -> Answer:
    body = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
    return Answer(
        status=refusal.status,
        body=body.encode(),
        kind="leak" if refusal.code == "InvalidArgument" else "error",
        headers={"Content-Type": "application/xml"},
    )
