"""The connections of one client: opened before a call is admitted, used by one call at a time.

`requests` and the urllib3 below it know the way (proxies, certificates, TLS) and open the
connection. The request is then written by `workers.wire`: nothing stands between the last look at
the grant and the first byte, and nothing can send it twice.
"""

from __future__ import annotations

import resource
import ssl
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.exceptions import HTTPError, NameResolutionError

from workers import boundaries
from workers.clock import now_ns
from workers.errors import ConfigError, GrantStale, NotNow
from workers.outcome import Answer
from workers.request import Request
from workers.wire import Bounds, exchange, is_silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from urllib3.connection import HTTPConnection

    from workers.settings import ClientSettings

__all__ = [
    "Caller",
    "ConnectFailed",
    "Connection",
    "GovernedAdapter",
    "Request",
    "pool_size",
    "require_descriptors",
]

#: A connection that was idle for longer is not used again. Most servers close theirs after 20 s or
#: more, and a request that meets the close is of unknown outcome.
IDLE_S: Final = 15.0
#: Descriptors that a process needs beside its pools: store, broker, logs, files.
SPARE_DESCRIPTORS: Final = 100

try:
    VERSION: Final = version("headgate")
except PackageNotFoundError:  # run from a source tree
    VERSION = "0"  # type: ignore[misc]


class ConnectFailed(NotNow):
    """There is no connection to the provider; nothing was sent.

    `reason` is a few words such as "connection refused", never data.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class GovernedAdapter(HTTPAdapter):
    """The pools of one client: certificates are always verified, and nothing is sent twice."""

    def __init__(self, tls: ssl.SSLContext, pool_size: int) -> None:
        self.tls = tls
        super().__init__(pool_maxsize=pool_size, max_retries=0, pool_block=False)

    def build_connection_pool_key_attributes(
        self,
        request: requests.PreparedRequest,
        verify: Any,  # noqa: ANN401, ARG002 -- as requests
        cert: Any = None,  # noqa: ANN401, ARG002 -- as requests
    ) -> tuple[Any, Any]:
        """Use the one context: its authorities are read once, and nobody can switch it off."""
        host, _ = super().build_connection_pool_key_attributes(request, verify=True)
        return host, {"ssl_context": self.tls}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ANN401
        """Add nothing: the context holds the authorities."""


class Connection:
    """An open connection to the provider, in the hands of one thread."""

    def __init__(self, caller: Caller, wire: HTTPConnection) -> None:
        self._caller = caller
        self._wire = wire
        self._sock: Any = wire.sock  # a socket, a TLS socket or TLS within TLS: all alike to us
        self.usable = True  #: it may go back into the pool
        self.idle_since_ns = 0

    def is_silent(self) -> bool:
        """Whether the peer has neither closed it nor said anything unasked."""
        return is_silent(self._sock)

    def send(self, request: Request, stale_at_ns: int | None = None) -> Answer:
        """Send once, and read the answer within the client's timeouts. A call is one send.

        Args:
            request: What to send.
            stale_at_ns: The moment, by `workers.clock`, after which the grant must not be used.

        Returns:
            What came back. Faults of the provider are answers too; `sent` tells whether the
            first byte may have left.

        Raises:
            GrantStale: it was too late; nothing was sent and the connection stays usable.
        """
        client = self._caller.client
        pieces = request.pieces(self._caller.target, self._caller.fixed)
        if not (self.usable and self.is_silent()):
            self.usable = False
            return Answer(error="closed before the send", sent=False)
        start_ns = now_ns()
        if stale_at_ns is not None and start_ns > stale_at_ns:
            raise GrantStale(
                f"client {client.name}: the grant was {(start_ns - stale_at_ns) / 1e6:.0f} ms too "
                f"old at the first byte; the call goes back to the line"
            )
        self.usable = False
        bounds = Bounds(
            read_s=client.read_timeout_s,
            ends_ns=start_ns + int(client.total_timeout_s * 1e9),
            max_bytes=client.max_response_bytes,
        )
        answer, self.usable = exchange(
            self._sock, request.method, pieces, bounds, self._caller.written
        )
        return replace(answer, elapsed_s=(now_ns() - start_ns) / 1e9)

    def close(self) -> None:
        """Close it for good."""
        self.usable = False
        self._wire.close()


class Caller:
    """The connections of one client in this process, shared by its threads.

    Args:
        client: Where and with which timeouts.
        pool_size: The most connections that are kept idle.
        idle_s: An idle connection is not used again after this time.
        governed: Whether its sends are governed calls, whose first byte is a named boundary.

    Raises:
        ConfigError: `ca_file` cannot be read.
    """

    def __init__(
        self,
        client: ClientSettings,
        pool_size: int,
        *,
        idle_s: float = IDLE_S,
        governed: bool = True,
    ) -> None:
        self.client = client
        self._pool_size = pool_size
        self._idle_ns = int(idle_s * 1e9)
        self._governed = governed
        self._idle: deque[Connection] = deque()  # the most recent one on the right

        url = urlsplit(client.base_url)
        environment = requests.Session().merge_environment_settings(
            client.base_url, {}, None, None, None
        )
        self.adapter = GovernedAdapter(_tls(client, environment["verify"]), pool_size)
        # urllib3 knows how to open a connection; it cannot tell how long one was idle, so we keep
        # them ourselves.
        self._pool: Any = self._pool_of(client.base_url, environment["proxies"])
        self._tunnels = self._pool.proxy is not None and url.scheme == "https"
        forwards = self._pool.proxy is not None and not self._tunnels
        origin = f"{url.scheme}://{url.netloc.rpartition('@')[2]}" if forwards else ""
        self._place = f"{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}"
        #: What stands before a request's path in its first line.
        self.target = origin + url.path
        #: Header lines that each request has. Identity: an answer is small, and what is not
        #: compressed cannot explode.
        self.fixed = "".join(
            f"{name}: {value}\r\n"
            for name, value in {
                "Host": url.netloc.rpartition("@")[2],
                "User-Agent": f"headgate/{VERSION}",
                "Accept-Encoding": "identity",
                "Connection": "keep-alive",
                **(self._pool.proxy_headers if forwards else {}),
            }.items()
        )

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend an open connection: an idle one, or a new one.

        `connect_timeout_s` bounds each of TCP (per address) and TLS; the look-up of the name has
        the resolver's own bound. Afterwards a connection that was fully read, or not used, goes
        back to the pool; any other is closed.

        Raises:
            ConnectFailed: there is none; the text names host, port and reason.
        """
        connection = self._take() or self._open()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()
        self.adapter.close()

    def written(self) -> None:
        """Say that a request is on its way."""
        if self._governed:
            boundaries.reach("first_byte")

    def _take(self) -> Connection | None:
        oldest_ns = now_ns() - self._idle_ns
        try:
            while self._idle[0].idle_since_ns < oldest_ns:
                self._idle.popleft().close()
            while True:
                connection = self._idle.pop()
                if connection.is_silent():
                    return connection
                connection.close()
        except IndexError:
            return None

    def _give_back(self, connection: Connection) -> None:
        if connection.usable and len(self._idle) < self._pool_size:
            connection.idle_since_ns = now_ns()
            self._idle.append(connection)
        else:
            connection.close()

    def _pool_of(self, url: str, proxies: Any) -> Any:  # noqa: ANN401 -- urllib3's pools
        prepared = requests.Request("GET", url).prepare()
        try:
            return self.adapter.get_connection_with_tls_context(prepared, True, proxies)  # noqa: FBT003
        except requests.RequestException as error:
            raise ConfigError(
                f"client {self.client.name}: base_url or the proxy of the environment cannot be "
                f"used ({type(error).__name__}); correct it"
            ) from None

    def _open(self) -> Connection:
        wire: Any = self._pool._new_conn()  # noqa: SLF001 -- as botocore does: there is no other way
        wire.timeout = self.client.connect_timeout_s
        try:
            if self._tunnels:
                self._pool._prepare_proxy(wire)  # noqa: SLF001 -- CONNECT, then TLS
            else:
                wire.connect()
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            wire.close()
            raise self._failed(error) from None
        return Connection(self, wire)

    def _failed(self, error: Exception) -> ConnectFailed:
        reason = _reason(error, self.client.connect_timeout_s)
        place = self._place
        if self._pool.proxy is not None:
            place += f" through the proxy {self._pool.proxy.host}:{self._pool.proxy.port}"
        return ConnectFailed(
            f"client {self.client.name}: no connection to {place} ({reason})", reason=reason
        )


def _tls(client: ClientSettings, verify: str | bool | None) -> ssl.SSLContext:  # noqa: FBT001
    """Trust the client's own authority, else what the environment names, else certifi's list."""
    named = str(client.ca_file or (verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH))
    try:
        return _context(named)
    except OSError as error:
        raise ConfigError(
            f"client {client.name}: the certificate authorities in {named} cannot be read "
            f"({error.strerror or error}); correct ca_file"
        ) from None


@cache
def _context(authorities: str) -> ssl.SSLContext:
    if Path(authorities).is_dir():
        return ssl.create_default_context(capath=authorities)
    return ssl.create_default_context(cafile=authorities)


def _reason(error: BaseException, timeout_s: float) -> str:  # noqa: PLR0911 -- a table
    """A few words, from the innermost cause that says something."""
    if isinstance(error, NameResolutionError):
        return "the name is not known"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no reason given').replace('_', ' ').lower()}"
    if error.__cause__ is not None:
        return _reason(error.__cause__, timeout_s)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__


def pool_size(concurrency: int, max_retries: int) -> int:
    """Connections of one pool: each thread's own, and one for each of its retries."""
    return concurrency * (1 + max_retries)


def require_descriptors(connections: int) -> None:
    """Make room for so many connections in this process, raising its soft limit if need be.

    Raises:
        ConfigError: not even the hard limit of open files holds them.
    """
    needed = connections + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigError(
            f"{connections} connections need {needed} open files, but this process may have "
            f"{hard}; raise the limit (ulimit -n) or lower worker.concurrency or max_retries"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
