"""A file to a signed URL: streamed from the disk, without a token, over a pool of its own.

The host of a signed URL is another one than the provider's, and no quota of the API is used there.
So nothing of the client's credentials goes along, and `destination` says which hosts it may be. The
URL itself is what lets the file in, and is as secret as they are: no text of this module holds it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final

from workers import failpoints
from workers.errors import STORE_FAILS
from workers.http.connection import Caller
from workers.http.destination import find_destination
from workers.http.request import Request
from workers.http.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from workers.http.connection import Connection
    from workers.http.destination import Destination
    from workers.http.idle import IdleConnections
    from workers.settings.client import ClientSettings

#: Bytes of a file that are read at once.
READ_BYTES: Final = 262_144
#: Bytes that are sent at once, as many as a TLS record holds: the lease is prolonged between two
#: parts, however slowly the host takes them.
SEND_BYTES: Final = 16_384
#: A lease is prolonged so often while bytes flow, seconds.
RENEW_EVERY_S: Final = 1.0
#: Hosts whose connections are kept.
MAX_HOSTS: Final = 8
#: How a file is opened, and a folder on the way to it, which need not be listed.
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
#: What a store of files calls its refusal: a word, in XML.
_CODE: Final = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")
#: The host is no peer of the client: it is shown no certificate.
_NO_CERTIFICATE: Final = {"client_cert_file": None, "client_key_file": None}
#: Set by the connection, whatever the signed URL asks for.
_OURS: Final = {"host", "content-length"}


class NotThatFile(Exception):
    """The file cannot be sent as it is; the text says which, what is wrong and what to do."""


class TakenOver(Exception):
    """The lease is another worker's by now."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was when it was submitted."""

    path: Path  #: without links
    size: int  #: bytes
    md5: str  #: hexadecimal


@dataclass(frozen=True, slots=True)
class Sent:
    """How a transfer ended."""

    status: int | None  #: None: no answer came
    code: str  #: the host's own word for its refusal, "" = none
    error: str  #: why there is no answer, in a few words
    whole: bool  #: the last byte may have left


class Transfers:
    """The connections of one client to the hosts of its signed URLs, shared by the threads.

    Args:
        client: Whose proxy, authorities and timeouts they have. `read_timeout_s` is the longest
            silence; there is no total.
        most: Connections that are kept idle, for each host.
        idle: Where those of all clients of the process are kept; None: each host has its own place.
    """

    def __init__(
        self, client: ClientSettings, most: int, idle: IdleConnections[Connection] | None = None
    ) -> None:
        self._client = client
        self._most = most
        self._idle = idle
        self._hosts: dict[str, Caller] = {}
        self._lock = Lock()

    def put(
        self, url: str, headers: Mapping[str, str], file: File, renew: Callable[[], bool]
    ) -> Sent:
        """Send the file, once, with exactly these headers and its length.

        Its MD5 is known before its last bytes leave: a file that has changed never arrives whole.

        Args:
            url: The signed URL.
            headers: What it was signed with.
            file: What is sent.
            renew: Called as bytes flow; False: the lease is lost.

        Raises:
            NotThatFile: it is missing, cannot be read, or has changed.
            TakenOver: the lease was lost; the file may arrive all the same.
            ConnectFailed: there is no connection; nothing was sent.
            ConfigError: the proxy's password or a certificate cannot be used now.
            NotAllowed: the URL leads to where no file of this client may go.
            ValueError: URL or headers cannot be sent; the text holds no more of both than the host.
        """
        destination = find_destination(url, self._client)
        signed = {name: value for name, value in headers.items() if name.lower() not in _OURS}
        request = Request("PUT", destination.path, signed)
        caller = self._caller(destination)
        with _open_unchanged(file) as opened, caller.connection() as connection:
            body = _Body(opened, file, renew)
            answer = connection.stream(request, file.size, body)
        match = _CODE.search(answer.body) if answer.body else None
        code = match[1].decode() if match else ""
        return Sent(answer.status, code, answer.error or "", whole=body.whole and answer.sent)

    def require_way(self) -> None:
        """Make sure that the proxy's password and the certificates can be used now.

        Raises:
            ConfigError: one of them cannot.
        """
        Route(self._client.model_copy(update=_NO_CERTIFICATE), 1)

    def _caller(self, destination: Destination) -> Caller:
        origin = destination.origin
        with self._lock:
            if origin not in self._hosts:
                if len(self._hosts) == MAX_HOSTS:
                    self._hosts.pop(next(iter(self._hosts))).close()
                settings = self._client.model_copy(update={"base_url": origin, **_NO_CERTIFICATE})
                self._hosts[origin] = Caller(
                    settings, self._most, only_public=not destination.is_own, idle=self._idle
                )
            return self._hosts[origin]


class _Body:
    """The bytes of a file; the last ones come only when the whole is the file that was meant."""

    def __init__(self, opened: BinaryIO, file: File, renew: Callable[[], bool]) -> None:
        self._opened = opened
        self._file = file
        self._renew = renew
        self._due_s = time.monotonic() + RENEW_EVERY_S
        self.whole = False  #: the last ones were given out

    def __iter__(self) -> Iterator[bytes]:
        file, md5 = self._file, hashlib.md5(usedforsecurity=False)
        sent, held = 0, b""
        while piece := self._read():
            if sent + len(held) + len(piece) > file.size:
                raise _changed(file)  # it grows; the last bytes of what was meant are still here
            yield from self._parts(held)
            if sent < file.size / 2 <= sent + len(held):
                failpoints.reach("half_sent")
            sent, held = sent + len(held), piece
            md5.update(piece)
        if sent + len(held) != file.size or md5.hexdigest() != file.md5:
            raise _changed(file)
        self.whole = True
        yield from self._parts(held)

    def _parts(self, piece: bytes) -> Iterator[bytes]:
        """The piece in parts; while each of them is sent the lease lasts."""
        for start in range(0, len(piece), SEND_BYTES):
            if time.monotonic() > self._due_s:
                self._due_s = time.monotonic() + RENEW_EVERY_S
                self._prolong()
            yield piece[start : start + SEND_BYTES]

    def _read(self) -> bytes:
        try:
            return self._opened.read(READ_BYTES)
        except OSError as error:
            raise _unreadable(self._file, error) from None

    def _prolong(self) -> None:
        with suppress(*STORE_FAILS):  # the lease lasts for a while
            if not self._renew():
                raise TakenOver


@contextmanager
def _open_unchanged(file: File) -> Iterator[BinaryIO]:
    try:
        opened = open_regular(file.path)
    except OSError as error:
        raise _unreadable(file, error) from None
    with opened:
        if os.fstat(opened.fileno()).st_size != file.size:
            raise _changed(file)
        yield opened


def _changed(file: File) -> NotThatFile:
    return NotThatFile(f"{file.path} has changed since it was submitted; submit it again")


def _unreadable(file: File, error: OSError) -> NotThatFile:
    return NotThatFile(
        f"{file.path} cannot be read on host {platform.node()} "
        f"({(error.strerror or type(error).__name__).lower()}); put it there, or set "
        f"worker.media_root to the folder that holds it, and replay this"
    )


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to be read, without a buffer.

    A pipe would block whoever opens it, and a device may never end. No link is followed in any part
    of the path: it is what `os.path.realpath` made of it, and somebody may have put a link there
    since.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    folder = os.open(path.anchor or os.curdir, _FOLDER)
    try:
        for name in path.parts[bool(path.anchor) : -1]:
            inner = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        opened = os.open(path.name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(opened, "rb", buffering=0)


def is_below(path: Path, root: Path) -> bool:
    """Whether a path that `os.path.realpath` made lies below the root."""
    return path.is_relative_to(os.path.realpath(root))
