"""Listeners behind TLS: one that records what it is sent, and one that passes everything on."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from tests.support.tls import make_certificate, server_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A version of TLS that nobody should speak any more.
OLD_TLS: Final = "TLS 1.1"
#: What can be wrong with a listener on 127.0.0.1, most by its certificate, and what a user reads.
WRONG: Final = {
    "self-signed": "self-signed certificate",
    "other name": "IP address mismatch",
    "expired": "certificate has expired",
    "not yet valid": "certificate is not yet valid",
    OLD_TLS: "speaks no TLS 1.2 or later",
}
_VALID_DAYS: Final = {"expired": (-9, -2), "not yet valid": (2, 9)}


class Listener:
    """Shakes hands with whoever comes, and records what arrives after that.

    Args:
        context: What it shows and asks for.
        target: The port to which it passes on what arrives; None = it answers nothing.
    """

    def __init__(self, context: ssl.SSLContext, target: int | None = None) -> None:
        self._context, self._target = context, target
        self._sockets: list[socket.socket] = []
        self.tries = self.failed = 0  #: connections, and those whose handshake failed
        self.received = b""  #: what came after a handshake
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        for taken in (self._listener, *self._sockets):
            with suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)
            taken.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                self.tries += 1
                threading.Thread(target=self._serve, args=[taken], daemon=True).start()

    def _serve(self, taken: socket.socket) -> None:
        with suppress(OSError):
            taken.settimeout(10)
            try:
                near = self._context.wrap_socket(taken, server_side=True)
            except OSError:
                self.failed += 1
                raise
            near.settimeout(None)
            self._sockets.append(near)
            far = None
            if self._target is not None:
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets.append(far)
                threading.Thread(target=_copy, args=[far, near], daemon=True).start()
            while piece := near.recv(65_536):
                self.received += piece
                if far:
                    far.sendall(piece)
            near.close()


def _copy(here: socket.socket, there: socket.socket) -> None:
    with suppress(OSError):
        while piece := here.recv(65_536):
            there.sendall(piece)
    with suppress(OSError):
        there.shutdown(socket.SHUT_RDWR)


@contextmanager
def listening(context: ssl.SSLContext, target: int | None = None) -> Iterator[Listener]:
    """A `Listener` for the length of a `with`."""
    listener = Listener(context, target)
    try:
        yield listener
    finally:
        listener.close()


@contextmanager
def wrong_listener(folder: Path, fault: str) -> Iterator[tuple[Listener, Path | None]]:
    """A listener that has one of the faults `WRONG`, and the authority to trust.

    The authority is None where the fault is that nobody knows it.
    """
    address = "10.0.0.1" if fault == "other name" else "127.0.0.1"
    days = _VALID_DAYS.get(fault, (-1, 1))
    certificate = make_certificate(folder / "wrong.pem", address, valid_days=days)
    context = server_context(certificate)
    if fault == OLD_TLS:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with listening(context) as listener:
        yield listener, None if fault == "self-signed" else certificate
