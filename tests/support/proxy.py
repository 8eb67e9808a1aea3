"""A small proxy on loopback: tunnels by CONNECT, and plain requests that it passes on."""

from __future__ import annotations

import base64
import socket
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


class Proxy:
    """Wants `login` ("user:password") of whoever asks, when it has one."""

    def __init__(self, login: str = "") -> None:
        self.login = login
        self.asked: list[tuple[str, str]] = []  #: method and target of each request
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End everything."""
        for it in (self._listener, *self._sockets):
            with suppress(OSError):
                it.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                self._sockets.append(taken)
                threading.Thread(target=self._serve, args=(taken,), daemon=True).start()

    def _serve(self, taken: socket.socket) -> None:
        with taken, suppress(OSError, ValueError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := taken.recv(65_536)):
                    return  # whoever it was has gone
                head += piece
            method, target, _ = head.split(b"\r\n")[0].decode().split()
            self.asked.append((method, target))
            if not self._may(head):
                taken.sendall(
                    b"HTTP/1.1 407 canary-reason\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            tunnel = method == "CONNECT"
            place = urlsplit(f"//{target}" if tunnel else target)
            with socket.create_connection((place.hostname, place.port)) as there:
                self._sockets.append(there)
                if tunnel:
                    taken.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    there.sendall(head)
                back = threading.Thread(target=_copy, args=(there, taken), daemon=True)
                back.start()
                _copy(taken, there)
                back.join()

    def _may(self, head: bytes) -> bool:
        wanted = base64.b64encode(self.login.encode()).decode()
        return not self.login or f"Proxy-Authorization: Basic {wanted}\r\n".encode() in head


def _copy(here: socket.socket, there: socket.socket) -> None:
    with suppress(OSError):
        while piece := here.recv(65_536):
            there.sendall(piece)
    with suppress(OSError):
        there.shutdown(socket.SHUT_RDWR)


@contextmanager
def a_proxy(login: str = "") -> Iterator[Proxy]:
    """A proxy for the length of a `with`."""
    with closing(Proxy(login)) as proxy:
        yield proxy
