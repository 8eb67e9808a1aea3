"""An address that stays while the server behind it changes, as a service or a DNS name does."""

from __future__ import annotations

import socket
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Endpoint:
    """Passes connections on to the port `target`; those that are open stay with theirs."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._answers: list[threading.Event] = []  # set: they pass
        self._requests: list[threading.Event] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def hold(self) -> None:
        """Hold back the answers on all connections that are open, until `let_go`."""
        for passing in self._answers:
            passing.clear()

    def hold_requests(self) -> None:
        """Hold back what is sent on all connections that are open; it arrives at `let_go`."""
        for passing in self._requests:
            passing.clear()

    def let_go(self) -> None:
        """Let all answers pass, and all requests."""
        for passing in (*self._answers, *self._requests):
            passing.set()

    def cut(self) -> None:
        """Break all connections; the next ones go to `target`."""
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with (
            near,
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.target)) as far,
        ):
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [near, far]
            answers, requests = threading.Event(), threading.Event()
            for passing, kept in ((answers, self._answers), (requests, self._requests)):
                passing.set()
                kept.append(passing)
            back = threading.Thread(target=_copy, args=(far, near, answers), daemon=True)
            back.start()
            _copy(near, far, requests)
            back.join()


def _copy(here: socket.socket, there: socket.socket, passing: threading.Event) -> None:
    with suppress(OSError):
        while piece := here.recv(65_536):
            passing.wait()
            there.sendall(piece)
    for one in (here, there):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def an_endpoint(target: int) -> Iterator[Endpoint]:
    """An endpoint for the length of a `with`."""
    with closing(Endpoint(target)) as endpoint:
        yield endpoint
