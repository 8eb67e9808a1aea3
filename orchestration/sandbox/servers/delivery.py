"""How an answer leaves: as HTTP wants it, or broken in the way that a fault orders."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import zlib
from http import HTTPStatus
from itertools import repeat
from typing import TYPE_CHECKING, cast

from tornado.httputil import HTTPHeaders, ResponseStartLine
from tornado.iostream import StreamClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tornado.http1connection import HTTP1Connection
    from tornado.httputil import HTTPServerRequest
    from tornado.iostream import IOStream

    from orchestration.sandbox.calls import Reply
    from orchestration.sandbox.config import Fault, FaultKind

_CHUNK_BYTES = 65_536

#: Kinds that take the connection away from HTTP and leave it closed.
BREAKING_KINDS: frozenset[FaultKind] = frozenset(
    {
        "drop_before",
        "drop_after",
        "hang_before",
        "hang",
        "reset",
        "slow_body",
        "truncated",
        "huge_body",
    }
)
#: Value of SO_LINGER with which a close sends a TCP reset: on, for 0 seconds.
_LINGER_NONE = struct.pack("ii", 1, 0)


def send(request: HTTPServerRequest, reply: Reply, headers: dict[str, str]) -> None:
    """Send a whole answer and keep the connection."""
    connection = cast("HTTP1Connection", request.connection)
    start = ResponseStartLine("HTTP/1.1", reply.status, _reason_phrase(reply.status))
    all_headers = HTTPHeaders(_complete_headers(reply, headers, len(reply.body)))
    body = reply.body if request.method != "HEAD" else None
    # A caller that has hung up loses its answer, but what the call did is done.
    with contextlib.suppress(StreamClosedError):
        connection.write_headers(start, all_headers, body)
        connection.finish()


async def break_off(
    request: HTTPServerRequest, reply: Reply, headers: dict[str, str], fault: Fault
) -> None:
    """Deliver an answer in the way of one of `BREAKING_KINDS`, and close the connection."""
    stream = cast("HTTP1Connection", request.connection).detach()
    try:
        await _break(stream, reply, headers, fault)
    except StreamClosedError:
        pass  # the caller's deadline came first
    finally:
        stream.close()


async def _break(stream: IOStream, reply: Reply, headers: dict[str, str], fault: Fault) -> None:
    match fault.kind:
        case "hang" | "hang_before":
            await _until_closed(stream, fault.hang_s)
        case "reset":
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        case "slow_body":
            await stream.write(_encode_head(reply, headers, len(reply.body)))
            for index in range(len(reply.body)):
                await asyncio.sleep(fault.slow_s / len(reply.body))
                await stream.write(reply.body[index : index + 1])
        case "truncated":
            body = reply.body[: len(reply.body) // 2]
            await stream.write(_encode_head(reply, headers, len(reply.body)) + body)
        case "huge_body":
            encoding = {"Content-Encoding": "gzip"} if fault.gzip else {}
            length = None if fault.gzip else round(fault.size_mb * 1e6)
            await stream.write(_encode_head(reply, {**headers, **encoding}, length))
            for chunk in _huge_text(round(fault.size_mb * 1e6), packed=fault.gzip):
                await stream.write(chunk)


def _huge_text(size: int, *, packed: bool) -> Iterator[bytes]:
    """Yield a JSON text of `size` bytes (at least 2) piece by piece."""
    packer = zlib.compressobj(wbits=31)
    whole, rest = divmod(max(0, size - 2), _CHUNK_BYTES)
    for plain in (b'"', *repeat(b"x" * _CHUNK_BYTES, whole), b"x" * rest, b'"'):
        if chunk := packer.compress(plain) if packed else plain:
            yield chunk
    if packed:
        yield packer.flush()


async def _until_closed(stream: IOStream, most_s: float) -> None:
    closed = asyncio.Event()
    stream.set_close_callback(closed.set)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(closed.wait(), most_s)


def _complete_headers(reply: Reply, headers: dict[str, str], length: int | None) -> dict[str, str]:
    complete = {"Content-Type": "application/json", **headers, **reply.headers}
    if length is not None:
        complete["Content-Length"] = str(length)
    return complete


def _encode_head(reply: Reply, headers: dict[str, str], length: int | None) -> bytes:
    """Return the head of an answer after which the connection is closed."""
    complete = {**_complete_headers(reply, headers, length), "Connection": "close"}
    start = f"HTTP/1.1 {reply.status} {_reason_phrase(reply.status)}\r\n"
    text = "".join(f"{name}: {value}\r\n" for name, value in complete.items())
    return f"{start}{text}\r\n".encode("latin-1")


def _reason_phrase(status: int) -> str:
    """Return the standard phrase of a status, or a neutral word."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
