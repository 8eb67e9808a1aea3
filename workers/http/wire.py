"""One request and its answer over one open socket, under one deadline.

Read timeouts start anew with each byte, so a peer that drips could hold a thread for ever. Here
every single read and write may take at most `read_s`, and all of them together end at `ends_ns`.
"""

from __future__ import annotations

import io
import ssl
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from typing import TYPE_CHECKING, Final, cast

from typing_extensions import override

from workers.answer.outcome import Answer
from workers.clock import now_ns
from workers.handshake import describe_refusal
from workers.http.tls import NAMES

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from _typeshed import WriteableBuffer

#: Bytes of one read or write; most requests and answers are one of each.
IO_BYTES: Final = 65_536
#: Bytes that the heads of an answer may take, all interim ones and trailers included.
HEAD_BYTES: Final = 262_144
#: A body in chunks of one byte takes six on the wire.
CHUNK_OVERHEAD: Final = 6
#: The first status that ends an exchange; those below (100, 102, 103) announce another one.
FIRST_FINAL_STATUS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one exchange may take."""

    read_s: float  #: longest silence
    ends_ns: int  #: end of the whole exchange, on the clock of `workers.clock`
    max_bytes: int  #: largest body


class _TooLarge(OSError):
    """More bytes came than any answer within the bounds can have."""


class _Line(io.RawIOBase):
    """A socket whose reads and writes keep the bounds; they raise `TimeoutError`."""

    def __init__(self, sock: socket.socket, bounds: Bounds) -> None:
        self._sock = sock
        self._bounds = bounds
        self._room = HEAD_BYTES + CHUNK_OVERHEAD * bounds.max_bytes
        self.ended = False  #: nothing more is read; what is buffered can still be looked at

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        if self.ended:
            return None
        self._arm()
        size = self._sock.recv_into(buffer)
        self._room -= size
        if self._room < 0:
            raise _TooLarge
        return size

    def write_all(self, data: bytes) -> None:
        """Write piece by piece: a TLS socket starts its timeout anew with each record."""
        rest = memoryview(data)
        while rest:
            self._arm()
            rest = rest[self._sock.send(rest[:IO_BYTES]) :]

    def _arm(self) -> None:
        left_s = (self._bounds.ends_ns - now_ns()) / 1e9
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(min(self._bounds.read_s, left_s))


class _Reader(io.BufferedReader):
    """What `HTTPResponse` reads from; knows at its end whether more than the answer came."""

    surplus = False

    def makefile(self, _mode: str) -> _Reader:
        """Stand in for the socket that `HTTPResponse` is given: it asks for nothing else."""
        return self

    @override
    def close(self) -> None:
        if not self.closed:
            cast("_Line", self.raw).ended = True
            self.surplus = bool(self.peek(1))
        super().close()


def is_silent(sock: socket.socket) -> bool:
    """Whether an unused connection is still open, and nothing came that nobody asked for.

    The function reads instead of asking whether something could be read: the session tickets of
    TLS 1.3 wait in the socket too, and are no sign of an end.
    """
    try:
        sock.settimeout(0)
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False


def exchange(
    sock: socket.socket, method: str, pieces: Iterable[bytes], bounds: Bounds
) -> tuple[Answer, bool]:
    """Write one request and read its answer; whatever goes wrong is an answer too.

    Args:
        sock: An open connection.
        method: The request's method: an answer to HEAD has no body.
        pieces: The encoded request. An error of the iterable is raised, unless it is an OSError.
        bounds: What the exchange may take.

    Returns:
        The answer, still without its duration, and whether the connection may be used again.
    """
    line = _Line(sock, bounds)
    intact = True
    try:
        for piece in pieces:
            line.write_all(piece)
    except TimeoutError:
        return Answer(error=_timeout("write", bounds)), False
    except OSError:
        # A provider that refuses a request by its head may answer (413, 401) and hang up while the
        # body is still being written. Its answer is worth more than the reset.
        intact = False
    reader = _Reader(line, IO_BYTES)
    response = HTTPResponse(cast("socket.socket", reader), method=method)
    body = bytearray()
    try:
        response.begin()
        while response.status < FIRST_FINAL_STATUS:
            response.fp = None  # type: ignore[assignment]  # the next answer reads on from here
            response = HTTPResponse(cast("socket.socket", reader), method=method)
            response.begin()
        error = _read_body(response, body, bounds.max_bytes)
    except (OSError, HTTPException, ValueError) as problem:
        refused = describe_refusal(problem, NAMES)
        if refused and not _has_status(response):  # what was sent behind the handshake was not read
            return Answer(error=refused, sent=False), False
        error = _words(problem, response, bounds)
    if not _has_status(response):
        return Answer(error=error if intact else "reset while sending"), False
    reusable = error is None and intact and response.isclosed()
    reusable = reusable and not (response.will_close or reader.surplus)
    headers = _headers(response)
    if error is None and headers.get("content-encoding", "identity").lower() != "identity":
        error = "body encoded"  # we asked for identity, and decode nothing that could explode
    answer = Answer(status=response.status, headers=headers, body=bytes(body), error=error)
    return answer, reusable


def _read_body(response: HTTPResponse, body: bytearray, max_bytes: int) -> str | None:
    while piece := response.read(min(IO_BYTES, max_bytes + 1 - len(body))):
        body += piece
        if len(body) > max_bytes:
            del body[max_bytes:]
            return "body too large"
    return "body cut" if response.length else None


def _headers(response: HTTPResponse) -> dict[str, str]:
    """By lower-case name; repeated ones are joined, folded ones unfolded."""
    headers: dict[str, str] = {}
    for name, text in (response.headers or {}).items():
        low, value = name.lower(), " ".join(text.split()) if "\n" in text else text
        headers[low] = f"{headers[low]}, {value}" if low in headers else value
    return headers


def _has_status(response: HTTPResponse) -> bool:
    """Whether a final status line was read: it counts, whatever follows it."""
    status = cast("int | str", response.status)  # "UNKNOWN" until it is read
    return isinstance(status, int) and status >= FIRST_FINAL_STATUS


def _words(problem: Exception, response: HTTPResponse, bounds: Bounds) -> str:
    if isinstance(problem, TimeoutError):
        return _timeout("read", bounds)
    if isinstance(problem, RemoteDisconnected):
        return "closed without an answer"
    if _has_status(response):
        return "body too large" if isinstance(problem, _TooLarge) else "body cut"
    unreadable = isinstance(problem, _TooLarge) or not isinstance(problem, OSError)
    return "unreadable answer" if unreadable else "reset after send"


def _timeout(bound: str, bounds: Bounds) -> str:
    return f"{'total' if now_ns() >= bounds.ends_ns else bound} timeout"
