"""One governed call over a connection of its own, against servers that misbehave."""

from __future__ import annotations

import gzip
import itertools
import resource
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tls import make_certificate, server_context
from workers import failpoints
from workers.clock import now_ns
from workers.errors import ConfigError, GrantStale, NotNow
from workers.http import connection as http_connection
from workers.http import idle, wire
from workers.http.connection import Caller, ConnectFailed, Request, pool_size, require_descriptors
from workers.http.route import VERSION
from workers.http.wire import Bounds, exchange
from workers.settings.client import ClientSettings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from workers.answer.outcome import Answer

    Act = Callable[[socket.socket], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Provider:
    """A raw server that answers each whole request with the next act; the last one stays."""

    def __init__(self, *acts: Act, tls: ssl.SSLContext | None = None) -> None:
        self.acts = list(acts)
        self.requests: list[bytes] = []
        self.connections = 0
        self.sockets: list[socket.socket] = []
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self.threads.append(threading.Thread(target=self._serve, args=(sock,)))
                self.threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        self.sockets.append(sock)
        with sock, suppress(OSError, ValueError):
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self.sockets.append(sock)
            while request := read_request(sock):
                self.requests.append(request)
                act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
                act(sock)

    def hang_up(self) -> None:
        """End every connection."""
        for sock in self.sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End everything; a socket is closed by nobody but its own thread."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self.threads[0].join()
        self._listener.close()
        self.hang_up()
        for thread in self.threads[1:]:
            thread.join(timeout=10)
            assert not thread.is_alive()


def read_request(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65_536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    size = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            size = int(line.partition(b":")[2])
    while len(body) < size:
        piece = sock.recv(65_536)
        if not piece:
            return b""
        body += piece
    return head + b"\r\n\r\n" + body


def say(data: bytes) -> Act:
    return lambda sock: sock.sendall(data)


def say_and_hang_up(data: bytes) -> Act:
    def act(sock: socket.socket) -> None:
        sock.sendall(data)
        hang_up(sock)

    return act


def drip(head: bytes, drops: bytes = b"x") -> Act:
    """Say the head, then drop after drop, as long as anybody listens."""

    def act(sock: socket.socket) -> None:
        sock.sendall(head)
        while True:
            sock.sendall(drops)
            time.sleep(0.01)

    return act


def flood(head: bytes, piece: bytes) -> Act:
    def act(sock: socket.socket) -> None:
        sock.sendall(head)
        while True:
            sock.sendall(piece * 1_000)

    return act


def hang_up(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def keep_silent(sock: socket.socket) -> None:
    del sock


@contextmanager
def a_provider(*acts: Act, tls: ssl.SSLContext | None = None) -> Iterator[Provider]:
    with closing(Provider(*(acts or (say(OK),)), tls=tls)) as provider:
        yield provider


def a_caller(url: str, pool_size: int = 8, idle_s: float = 15.0, **settings: Any) -> Caller:
    client = ClientSettings(name="acme", base_url=url, **settings)
    return Caller(client, pool_size, idle_s=idle_s)


def call(caller: Caller, method: str = "POST", body: bytes | None = b"{}") -> Answer:
    with caller.connection() as connection:
        return connection.send(Request(method, "/things", body=body), None)


def eventually(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline, "did not happen within 10 s"
        time.sleep(0.002)


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "it.pem", "127.0.0.1")


# One connection, many calls


def test_two_hundred_calls_in_a_row_use_one_connection() -> None:
    with a_provider() as provider:
        caller = a_caller(provider.url)

        answers = [call(caller) for _ in range(200)]

    assert {(it.status, it.body, it.error) for it in answers} == {(200, b"ok", None)}
    assert (provider.connections, len(provider.requests)) == (1, 200)


def test_two_hundred_calls_over_tls_use_one_connection(certificate: Path) -> None:
    with a_provider(tls=server_context(certificate)) as provider:
        caller = a_caller(provider.url, ca_file=certificate)

        answers = [call(caller) for _ in range(200)]

    assert {(it.status, it.body, it.error) for it in answers} == {(200, b"ok", None)}
    assert (provider.connections, len(provider.requests)) == (1, 200)


def testthreads_share_the_pool_and_no_connection_serves_two_at_once() -> None:
    with a_provider() as provider:
        caller = a_caller(provider.url)

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: call(caller), range(200)))

    assert {it.body for it in answers} == {b"ok"}
    assert len(provider.requests) == 200
    assert provider.connections <= 8


def test_no_more_idle_connections_are_kept_than_the_pool_holds() -> None:
    with a_provider() as provider:
        caller = a_caller(provider.url, pool_size=1)

        with caller.connection(), caller.connection():
            pass
        with caller.connection(), caller.connection():
            eventually(lambda: provider.connections == 3)


def test_the_connection_is_open_before_anything_is_sent() -> None:
    with a_provider() as provider, a_caller(provider.url).connection():
        eventually(lambda: provider.connections == 1)

        assert provider.requests == []


def test_an_unused_connection_goes_back_over_tls_too(certificate: Path) -> None:
    """The session tickets that wait in an unused TLS 1.3 connection are no sign of its end."""
    with a_provider(tls=server_context(certificate)) as provider:
        caller = a_caller(provider.url, ca_file=certificate)
        for _ in range(3):
            with caller.connection():
                pass

        answer = call(caller)

    assert (answer.status, provider.connections) == (200, 1)


# The grant


def test_a_stale_grant_sends_nothing_and_leaves_the_connection_in_the_pool() -> None:
    with a_provider() as provider:
        caller = a_caller(provider.url)
        with pytest.raises(GrantStale), caller.connection() as connection:
            connection.send(Request("POST", "/things"), now_ns() - 1)
        assert provider.requests == []

        answer = call(caller)

    assert (answer.status, provider.connections, len(provider.requests)) == (200, 1, 1)


def test_a_connection_that_met_a_stale_grant_can_send_under_the_next_one() -> None:
    with a_provider() as provider, a_caller(provider.url).connection() as connection:
        with pytest.raises(GrantStale):
            connection.send(Request("POST", "/things"), now_ns() - 1)

        answer = connection.send(Request("POST", "/things"), now_ns() + 10**12)

    assert (answer.status, len(provider.requests)) == (200, 1)


def test_a_grant_may_be_used_in_its_last_nanosecond_and_not_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with a_provider() as provider, a_caller(provider.url).connection() as connection:
        moment = now_ns()
        monkeypatch.setattr(http_connection, "now_ns", lambda: moment)

        connection.send(Request("POST", "/things"), moment)
        with pytest.raises(GrantStale):
            connection.send(Request("POST", "/things"), moment - 1)

    assert len(provider.requests) == 1


def test_the_first_byte_of_a_granted_call_is_a_failpoint_after_the_write_and_none_if_it_is_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    with a_provider() as provider, a_caller(provider.url).connection() as connection:
        monkeypatch.setattr(failpoints, "reach", seen.append)
        with suppress(GrantStale):
            connection.send(Request("POST", "/things"), now_ns() - 1)
        assert seen == []

        def reach(name: str) -> None:
            eventually(lambda: len(provider.requests) == 1)  # it has left already
            seen.append(name)

        monkeypatch.setattr(failpoints, "reach", reach)
        connection.send(Request("POST", "/things"), now_ns() + 10**12)
        connection.send(Request("POST", "/things"), None)  # on no quota: no failpoint

    assert seen == ["first_byte"]


# What goes over the wire


def test_a_request_goes_out_as_it_was_given_below_the_base_url() -> None:
    with a_provider() as provider:
        caller = a_caller(provider.url + "/api/v2")
        with caller.connection() as connection:
            headers = {"Content-Type": "application/json", "Idempotency-Key": "k-1"}
            connection.send(Request("POST", "/lists?x=%20y", headers, b'{"a":1}'), None)

    assert provider.requests == [
        b"POST /api/v2/lists?x=%20y HTTP/1.1\r\n"
        + f"Host: 127.0.0.1:{provider.port}\r\n".encode()
        + f"User-Agent: headgate/{VERSION}\r\n".encode()
        + b"Accept-Encoding: identity\r\n"
        b"Connection: keep-alive\r\n"
        b"Content-Type: application/json\r\n"
        b"Idempotency-Key: k-1\r\n"
        b"Content-Length: 7\r\n\r\n"
        b'{"a":1}'
    ]


@pytest.mark.parametrize(
    ("method", "body", "line"),
    [
        ("GET", None, None),
        ("DELETE", None, None),
        ("POST", None, b"Content-Length: 0"),
        ("PUT", b"", b"Content-Length: 0"),
        ("PATCH", b"x" * 300_000, b"Content-Length: 300000"),
    ],
)
def test_the_length_of_the_body_is_always_told(
    method: str, body: bytes | None, line: bytes | None
) -> None:
    with a_provider() as provider:
        call(a_caller(provider.url), method, body)

    head, _, sent = provider.requests[0].partition(b"\r\n\r\n")
    lengths = [it for it in head.split(b"\r\n") if it.lower().startswith(b"content-length")]
    assert lengths == ([line] if line else [])
    assert sent == (body or b"")


def test_no_cookie_survives_an_answer() -> None:
    with a_provider(say(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n"))) as provider:
        caller = a_caller(provider.url)

        call(caller)
        call(caller)

    assert b"cookie" not in provider.requests[1].lower()


@pytest.mark.parametrize(
    "value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "a\x1bb", "a\x7fb", "zażółć", "\uff11"]
)
def test_a_header_value_that_could_smuggle_something_cannot_be_built(value: str) -> None:
    with pytest.raises(ValueError, match="header X-Tenant") as caught:
        Request("POST", "/things", {"X-Tenant": value})

    assert value not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"X Y": "1"},
        {"X\r\nY": "1"},
        {"": "1"},
        {"Host": "evil"},
        {"content-length": "3"},
        {"Transfer-Encoding": "chunked"},
        {"Expect": "100-continue"},
        {"X-A": "1", "x-a": "2"},
    ],
)
def test_a_header_that_is_not_the_callers_to_set_cannot_be_built(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        Request("POST", "/things", headers)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PO ST", "/"),
        ("GET\r\n", "/"),
        ("", "/"),
        ("GET", "things"),
        ("GET", ""),
        ("GET", "/a b"),
        ("GET", "/a\r\nX: 1"),
        ("GET", "/ä"),
        ("GET", "/a#b"),
        ("GET", "/.."),
        ("GET", "/a/./b"),
        ("GET", "/../../tenant-b/v2/x"),
        ("GET", "/a/%2e%2E/b"),
        ("GET", "/a/.%2e?x=1"),
        ("GET", "/a%2F..%2fb"),
        ("GET", "/a/..%5Cb"),
        ("GET", "/a/..;x/b"),
    ],
)
def test_a_request_line_that_could_smuggle_something_cannot_be_built(
    method: str, path: str
) -> None:
    with pytest.raises(ValueError, match=r"method|path"):
        Request(method, path)


@pytest.mark.parametrize("path", ["/...", "/a/.b/..c/d.", "/a..b", "/a?next=/../b", "/%252e%252e/"])
def test_dots_in_a_name_or_in_the_query_are_no_way_upwards(path: str) -> None:
    assert Request("GET", path).path == path


def test_no_data_is_in_the_repr_of_a_request_or_an_answer() -> None:
    secret = "canary"
    with a_provider(
        say(b"HTTP/1.1 200 canary\r\nX: canary\r\nContent-Length: 6\r\n\r\ncanary")
    ) as it:
        answer = call(a_caller(it.url))

    request = Request("POST", f"/{secret}", {"Authorization": secret}, secret.encode())

    assert answer.body == secret.encode()
    assert secret not in repr(request) + repr(answer)


# Faults of the provider are answers, and nothing is ever sent again

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ZIPPED = gzip.compress(b"\0" * 1_000_000)

FAULTS: dict[str, tuple[Act, int | None, str]] = {
    "dropped before the answer": (hang_up, None, "closed without an answer"),
    "reset before the answer": (reset, None, "reset after send"),
    "no answer": (keep_silent, None, "read timeout"),
    "no HTTP": (say_and_hang_up(b"hello\r\n\r\n"), None, "unreadable answer"),
    "only an interim answer": (
        say_and_hang_up(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        None,
        "closed without an answer",
    ),
    "drips its status line": (drip(b"HTTP/1.1 2"), None, "total timeout"),
    "drips its head": (drip(b"HTTP/1.1 200 OK\r\nX: "), 200, "total timeout"),
    "drips its body": (drip(CHUNKED, b"1\r\nx\r\n"), 200, "total timeout"),
    "drips interim answers": (drip(b"", b"HTTP/1.1 102 P\r\n\r\n"), None, "total timeout"),
    "stalls in its body": (say(HEAD + b"12345"), 200, "read timeout"),
    "cuts its body": (say_and_hang_up(HEAD + b"12345"), 200, "body cut"),
    "cuts a chunk": (say_and_hang_up(CHUNKED + b"a\r\n12345"), 200, "body cut"),
    "cuts before the last chunk": (say_and_hang_up(CHUNKED + b"1\r\nx\r\n"), 200, "body cut"),
    "wrong chunk size": (say_and_hang_up(CHUNKED + b"zz\r\nx\r\n"), 200, "body cut"),
    "body above the cap": (
        say(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000),
        200,
        "body too large",
    ),
    "endless body": (flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x"), 200, "body too large"),
    "endless chunks": (flood(CHUNKED, b"1\r\nx\r\n"), 200, "body too large"),
    "endless chunk of size -1": (flood(CHUNKED + b"-1\r\n", b"x"), 200, "body too large"),
    "endless interim answers": (flood(b"", b"HTTP/1.1 100 C\r\n\r\n"), None, "unreadable answer"),
    "endless headers": (flood(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), 200, "body cut"),
    "compressed unasked": (
        say(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(ZIPPED), ZIPPED)
        ),
        200,
        "body encoded",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_provider_is_an_answer_and_the_request_went_out_once(fault: str) -> None:
    act, status, error = FAULTS[fault]
    read_s, total_s = (30.0, 0.3) if error == "total timeout" else (0.3, 30.0)
    with a_provider(act, say(OK)) as provider:
        caller = a_caller(
            provider.url,
            max_response_bytes=2_000,
            read_timeout_s=read_s,
            total_timeout_s=total_s,
        )

        answer = call(caller)
        after = call(caller)

    assert (answer.status, answer.error, answer.sent) == (status, error, True)
    assert len(answer.body) <= 2_000
    assert (after.status, after.body, after.error) == (200, b"ok", None)
    assert len(provider.requests) == 2


def test_a_body_that_just_fits_is_whole_and_one_byte_more_is_too_large() -> None:
    def sized(size: int) -> Act:
        return say(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size)

    with a_provider(sized(2_000), sized(2_001)) as provider:
        caller = a_caller(provider.url, max_response_bytes=2_000)

        answers = [call(caller), call(caller)]

    assert [(len(it.body), it.error) for it in answers] == [
        (2_000, None),
        (2_000, "body too large"),
    ]


@pytest.mark.parametrize(
    ("said", "status", "body", "connections"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", 1),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + OK, 200, b"ok", 1),
        (CHUNKED + b"2\r\nok\r\n3;x=y\r\n...\r\n0\r\nTrailer: t\r\n\r\n", 200, b"ok...", 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", 1),
        (b"HTTP/1.1 202 A\r\nContent-Length: 0\r\n\r\n", 202, b"", 1),
        (b"HTTP/1.1 500 E\r\nContent-Length: 1\r\n\r\nx", 500, b"x", 1),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", 2),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", 2),
        (OK + OK, 200, b"ok", 2),  # more than the answer: its remains must not meet the next call
        (b"HTTP/1.1 307 T\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 307, b"", 1),
        (
            b"HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            302,
            b"",
            1,
        ),
    ],
)
def test_an_answer_is_read_to_its_end_and_only_a_clean_connection_is_used_again(
    said: bytes, status: int, body: bytes, connections: int
) -> None:
    with a_provider(say(said), say(OK)) as provider:
        caller = a_caller(provider.url)

        answer, after = call(caller), call(caller)

    assert (answer.status, answer.body, answer.error) == (status, body, None)
    assert (after.status, after.body) == (200, b"ok")
    assert (provider.connections, len(provider.requests)) == (connections, 2)


def test_an_answer_without_length_ends_with_its_connection() -> None:
    with a_provider(say_and_hang_up(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as provider:
        answer = call(a_caller(provider.url))

    assert (answer.body, answer.error) == (b"all of it", None)


def test_an_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    with a_provider(say(HEAD), say(OK)) as provider:
        caller = a_caller(provider.url)

        answer, after = call(caller, "HEAD", None), call(caller)

    assert (answer.status, answer.body, answer.error) == (200, b"", None)
    assert (after.body, provider.connections) == (b"ok", 1)


def test_headers_have_lower_case_names_and_repeated_and_folded_ones_are_one_line() -> None:
    said = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nX-B: 3\r\n  4\r\nContent-Length: 0\r\n\r\n"
    with a_provider(say(said)) as provider:
        answer = call(a_caller(provider.url))

    assert answer.headers == {"x-a": "1, 2", "x-b": "3 4", "content-length": "0"}


def drain(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(65_536):
        pass


@pytest.mark.parametrize("then", [drain, socket.socket.close])
def test_a_refusal_that_comes_before_the_body_was_taken_is_heard(then: Act) -> None:
    """A provider may say 413 and hang up, even with a reset, while the body is on its way."""

    def refuse(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.recv(1_000)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        then(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=refuse, args=(listener,), daemon=True).start()
        caller = a_caller(f"http://127.0.0.1:{listener.getsockname()[1]}")
        answer = call(caller, body=b"x" * 20_000_000)

    assert (answer.status, answer.error, answer.sent) == (413, None, True)


def test_a_peer_that_takes_nothing_ends_the_write() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        answer = call(a_caller(url, read_timeout_s=0.2), body=b"x" * 20_000_000)

    assert (answer.status, answer.error, answer.sent) == (None, "write timeout", True)


def test_a_reset_while_the_body_is_written_may_have_been_sent() -> None:
    def drop(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.recv(1_000)
        reset(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drop, args=(listener,), daemon=True).start()
        caller = a_caller(f"http://127.0.0.1:{listener.getsockname()[1]}")
        answer = call(caller, body=b"x" * 20_000_000)

    assert (answer.status, answer.error, answer.sent) == (None, "reset while sending", True)


def test_a_drip_over_tls_ends_at_the_total_deadline(certificate: Path) -> None:
    with a_provider(drip(CHUNKED, b"1\r\nx\r\n"), tls=server_context(certificate)) as provider:
        caller = a_caller(
            provider.url, ca_file=certificate, read_timeout_s=30.0, total_timeout_s=0.3
        )
        answer = call(caller)

    assert (answer.status, answer.error) == (200, "total timeout")


def test_no_read_or_write_may_take_longer_than_what_is_left_of_the_total(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of them takes two seconds here, of seven; a silence of five is allowed."""
    moments = itertools.count(0, 2 * 10**9)
    monkeypatch.setattr(wire, "now_ns", lambda: next(moments))
    timeouts: list[float | None] = []

    class Slow(socket.socket):
        def settimeout(self, value: float | None) -> None:
            timeouts.append(value)

        def recv_into(self, buffer: Any, *_: Any) -> int:
            line = b"HTTP/1.1 200 OK\r\n" if len(timeouts) == 2 else b"X: y\r\n"
            buffer[: len(line)] = line
            return len(line)

    ours, theirs = socket.socketpair()
    bounds = Bounds(read_s=5.0, ends_ns=7 * 10**9, max_bytes=1_000)
    with Slow(fileno=ours.detach()) as sock, theirs:
        answer, _ = exchange(sock, "GET", [b"GET"], bounds)

    assert timeouts == [5.0, 5.0, 3.0, 1.0]
    assert (answer.status, answer.error) == (200, "total timeout")


@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda status, head, body: b"HTTP/1.1 %d\r\n%b\r\n\r\n%b" % (status, head, body),
            st.integers(0, 1_100),
            st.sampled_from(
                [b"Content-Length: 3", b"Content-Length: x", CHUNKED[17:-4], b"A", b""]
            ),
            st.binary(max_size=60),
        ),
    )
)
def test_no_bytes_of_a_provider_can_raise(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        bounds = Bounds(read_s=5, ends_ns=now_ns() + 5 * 10**9, max_bytes=1_000)

        answer, reusable = exchange(ours, "GET", [b"GET"], bounds)

    assert answer.sent
    assert answer.status is None or answer.status >= 200
    assert not (reusable and (answer.error or answer.status is None))


def test_a_call_that_was_torn_out_of_its_thread_leaves_no_half_read_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tear_out(_: str) -> None:
        raise KeyboardInterrupt

    with a_provider(keep_silent, say(OK)) as provider:
        caller = a_caller(provider.url)
        monkeypatch.setattr(failpoints, "reach", tear_out)
        with pytest.raises(KeyboardInterrupt), caller.connection() as connection:
            connection.send(Request("POST", "/things"), now_ns() + 10**12)
        monkeypatch.undo()
        eventually(lambda: len(provider.acts) == 1)  # else the second request may come first

        answer = call(caller)

    assert (answer.body, provider.connections) == (b"ok", 2)


# Idle connections


def test_a_connection_that_the_peer_closed_while_idle_is_replaced_before_the_call() -> None:
    with a_provider() as provider:
        caller = a_caller(provider.url)
        call(caller)
        provider.hang_up()

        with caller.connection() as connection:
            eventually(lambda: provider.connections == 2)
            answer = connection.send(Request("POST", "/things"), None)

    assert (answer.status, len(provider.requests)) == (200, 2)


def test_a_connection_that_was_idle_for_too_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with a_provider() as provider:
        caller = a_caller(provider.url, idle_s=15.0)
        call(caller)
        start_ns = now_ns()
        monkeypatch.setattr(idle, "now_ns", lambda: start_ns + 14 * 10**9)
        call(caller)
        assert provider.connections == 1

        monkeypatch.setattr(idle, "now_ns", lambda: start_ns + 30 * 10**9)
        answer = call(caller)

    assert (answer.status, provider.connections) == (200, 2)


def test_a_connection_that_closes_in_our_hands_sends_nothing_and_says_so() -> None:
    with a_provider() as provider, a_caller(provider.url).connection() as connection:
        eventually(lambda: len(provider.sockets) == 1)
        provider.hang_up()

        answer = connection.send(Request("POST", "/things"), None)

    assert (answer.status, answer.error, answer.sent) == (None, "closed before the send", False)
    assert provider.requests == []


def test_something_said_unasked_is_not_taken_for_the_answer_to_the_next_call() -> None:
    """A proxy may say 408 to an idle connection; that is no answer to what we send later."""
    with a_provider() as provider:
        caller = a_caller(provider.url)
        call(caller)
        provider.sockets[0].sendall(b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")

        answer = call(caller)

    assert (answer.status, provider.connections) == (200, 2)


def test_a_closed_caller_has_closed_its_connections() -> None:
    with a_provider() as provider:
        caller = a_caller(provider.url)
        call(caller)

        caller.close()

        eventually(lambda: not any(it.is_alive() for it in provider.threads[1:]))


# No connection


def test_a_refused_connection_names_the_place_and_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(ConnectFailed) as caught:
        call(a_caller(f"http://127.0.0.1:{port}"))

    assert isinstance(caught.value, NotNow)
    assert caught.value.reason == "connection refused"
    assert str(caught.value) == (
        f"client acme: no connection to 127.0.0.1:{port} (connection refused)"
    )


def test_an_unknown_name_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(ConnectFailed, match=r"api\.example\.com:443 \(the name is not known\)"):
        call(a_caller("https://api.example.com"))


def test_a_tls_handshake_that_never_comes_ends_with_the_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"

        with pytest.raises(ConnectFailed, match=r"no answer within 0\.2 s"):
            call(a_caller(url, connect_timeout_s=0.2))


def test_a_tls_handshake_that_drips_ends_with_the_connect_timeout() -> None:
    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with suppress(OSError):
            sock.sendall(b"\x16\x03\x03\x40\x00")
            while True:
                sock.sendall(b"x")
                time.sleep(0.01)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"

        with pytest.raises(ConnectFailed, match=r"no answer within 0\.2 s"):
            call(a_caller(url, connect_timeout_s=0.2))


def test_a_server_that_speaks_no_tls_is_no_connection() -> None:
    def speak(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=speak, args=(listener,), daemon=True).start()

        with pytest.raises(ConnectFailed, match="TLS failed: wrong version number"):
            call(a_caller(f"https://127.0.0.1:{listener.getsockname()[1]}"))


def test_a_certificate_that_nobody_signed_is_not_accepted(certificate: Path) -> None:
    with a_provider(tls=server_context(certificate)) as provider:
        with pytest.raises(ConnectFailed, match="certificate is not accepted: self-signed"):
            call(a_caller(provider.url))

        assert provider.requests == []


def test_a_certificate_for_another_host_is_not_accepted(tmp_path: Path) -> None:
    other = make_certificate(tmp_path / "other.pem", "10.0.0.1")
    with a_provider(tls=server_context(other)) as provider:
        with pytest.raises(ConnectFailed, match="certificate is not accepted: IP address mismatch"):
            call(a_caller(provider.url, ca_file=other))

        assert provider.requests == []


def test_no_session_on_the_adapter_can_switch_the_verification_off(certificate: Path) -> None:
    with a_provider(tls=server_context(certificate)) as provider:
        session = requests.Session()
        session.mount("https://", a_caller(provider.url).adapter)

        with pytest.raises(requests.exceptions.SSLError):
            session.get(provider.url, verify=False, timeout=5)

        assert provider.requests == []


def test_the_adapter_serves_a_session_and_repeats_nothing(certificate: Path) -> None:
    with a_provider(say(OK), hang_up, tls=server_context(certificate)) as provider:
        session = requests.Session()
        session.mount("https://", a_caller(provider.url, ca_file=certificate).adapter)
        assert session.get(provider.url, timeout=5).text == "ok"

        with pytest.raises(requests.exceptions.ConnectionError):
            session.post(provider.url, data=b"x", timeout=5)

        assert len(provider.requests) == 2


def test_a_ca_file_that_cannot_be_read_is_a_wrong_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"client acme: .*none\.pem cannot be read"):
        a_caller("https://127.0.0.1", ca_file=tmp_path / "none.pem")


# Proxies of the environment


def test_plain_calls_go_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with a_provider() as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{proxy.port}")
        caller = a_caller("http://api.example.com/v2")

        answers = [call(caller), call(caller)]

    first_line, *headers = proxy.requests[0].split(b"\r\n")
    assert [it.status for it in answers] == [200, 200]
    assert first_line == b"POST http://api.example.com/v2/things HTTP/1.1"
    assert {b"Host: api.example.com", b"Proxy-Authorization: Basic dXNlcjpwYXNz"} <= set(headers)
    assert proxy.connections == 1


def test_calls_over_tls_go_through_a_tunnel_of_the_proxy(
    monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    context = server_context(certificate)

    def tunnel(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        inner = context.wrap_socket(sock, server_side=True)
        proxy.sockets.append(inner)
        while request := read_request(inner):
            proxy.requests.append(request)
            inner.sendall(OK)

    with a_provider(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        caller = a_caller("https://127.0.0.1:4711", ca_file=certificate)

        answers = [call(caller), call(caller)]

    targets = [it.split()[:2] for it in proxy.requests]
    assert [it.status for it in answers] == [200, 200]
    assert targets == [[b"CONNECT", b"127.0.0.1:4711"]] + [[b"POST", b"/things"]] * 2


def test_a_proxy_that_refuses_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with a_provider(say(b"HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n")) as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:canary@127.0.0.1:{proxy.port}")

        with pytest.raises(ConnectFailed, match=f"through the proxy 127.0.0.1:{proxy.port}") as it:
            call(a_caller("https://api.example.com"))

    assert "canary" not in str(it.value)


# Descriptors


def test_the_pool_has_a_connection_for_each_thread_and_each_of_its_retries() -> None:
    assert pool_size(32, 3) == 128
    assert pool_size(1, 0) == 1


def test_the_soft_limit_of_open_files_is_raised_when_it_is_too_low() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

        require_descriptors(300)

        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 400
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_pool_beyond_the_hard_limit_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 4_096))

    with pytest.raises(ConfigError, match=r"4000 connections need 4100 open files.*4096"):
        require_descriptors(4_000)
