"""An HTTP server that keeps what it is sent, and answers as it is told."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.support.tls import server_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class Receiver(ThreadingHTTPServer):
    """Listens on loopback."""

    daemon_threads = True

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 204
        self.received: list[tuple[str, Mapping[str, str], bytes]] = []  #: path, headers, body
        self.answers = threading.Event()
        self.answers.set()
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self.server_port}/hook/canary-path/?key=canary-query"
        if certificate:
            self.socket = server_context(certificate).wrap_socket(self.socket, server_side=True)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append((self.path, headers, body))
        self.server.answers.wait(20)
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def a_receiver(certificate: Path | None = None) -> Iterator[Receiver]:
    """A receiver for the length of a `with`."""
    receiver = Receiver(certificate)
    serving = threading.Thread(target=receiver.serve_forever, args=(0.01,), daemon=True)
    serving.start()
    try:
        yield receiver
    finally:
        receiver.answers.set()
        receiver.shutdown()
        receiver.server_close()
