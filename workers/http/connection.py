"""One governed call: over a connection that was open before the call was admitted.

Nothing stands between the last look at the grant and the first byte, and nothing can send a
request twice: no retry, no redirect, no reconnect.
"""

from __future__ import annotations

import itertools
import resource
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from workers import failpoints
from workers.answer.outcome import Answer
from workers.clock import now_ns
from workers.errors import ConfigError, GrantStale
from workers.http.idle import MAX_IDLE_S, IdleConnections, most_idle
from workers.http.request import Request
from workers.http.route import ConnectFailed, PooledAdapter, Route
from workers.http.wire import Bounds, exchange, is_silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from urllib3.connection import HTTPConnection

    from workers.settings.client import ClientSettings

__all__ = [
    "Caller",
    "ConnectFailed",
    "Connection",
    "PooledAdapter",
    "Request",
    "pool_size",
    "require_descriptors",
]

#: With this status a proxy refuses who asks; a provider has no use for it.
PROXY_AUTH_STATUS: Final = 407
#: A body that is streamed has no total deadline, seconds.
NO_DEADLINE_S: Final = 10 * 365 * 86_400.0
#: Descriptors that a process needs beside those of its threads: broker, logs, modules.
SPARE_DESCRIPTORS: Final = 100
#: What one thread may have open at a time: a connection to a provider, two to the store, a file.
DESCRIPTORS_A_THREAD: Final = 4
_CLOSED: Final = Answer(error="closed before the send", sent=False)


class Connection:
    """An open connection to the provider, in the hands of one thread."""

    def __init__(self, caller: Caller, opened: HTTPConnection) -> None:
        self._caller = caller
        self._opened = opened
        self._sock: Any = opened.sock  # a socket, TLS over one, or TLS within TLS
        self.usable = True  #: it may go back into the pool
        self.idle_since_ns = 0

    def is_silent(self) -> bool:
        """Whether the peer has neither closed it nor sent anything unasked."""
        return is_silent(self._sock)

    def send(self, request: Request, stale_at_ns: int | None = None) -> Answer:
        """Send once, and read the answer within the client's timeouts.

        Args:
            request: What to send.
            stale_at_ns: The moment, by `workers.clock`, after which the grant must not be used;
                None: the request is on no quota, so there is no grant.

        Returns:
            What came back. Faults of the provider are answers too; `sent` tells whether the first
            byte may have left.

        Raises:
            GrantStale: it was too late; nothing was sent and the connection stays usable.
        """
        caller, client = self._caller, self._caller.client
        pieces: Iterable[bytes] = request.pieces(caller.route.target, caller.route.fixed)
        self._look_again()
        if not self.usable:
            return _CLOSED
        if stale_at_ns is not None:
            late_ns = now_ns() - stale_at_ns
            if late_ns > 0:
                raise GrantStale(
                    f"client {client.name}: the grant was {late_ns / 1e6:.0f} ms too old at the "
                    f"first byte; the call goes back to the backlog"
                )
            pieces = _as_granted(pieces)
        return self._exchange(request.method, pieces, client.total_timeout_s)

    def stream(self, request: Request, length: int, body: Iterable[bytes]) -> Answer:
        """Send a body of `length` bytes as it is made; bounded by the longest silence alone.

        What making it raises is raised, and the connection is of no more use.
        """
        self._look_again()
        if not self.usable:
            return _CLOSED
        route = self._caller.route
        head = request.head(route.target, route.fixed, length)
        return self._exchange(request.method, itertools.chain([head], body), NO_DEADLINE_S)

    def _look_again(self) -> None:
        """Find out whether it is still usable: the peer may have closed it since it was lent."""
        self.usable = self.usable and self.is_silent()

    def _exchange(self, method: str, pieces: Iterable[bytes], total_s: float) -> Answer:
        caller, client, start_ns = self._caller, self._caller.client, now_ns()
        self.usable = False  # until the answer is fully read
        bounds = Bounds(
            read_s=client.read_timeout_s,
            ends_ns=start_ns + int(total_s * 1e9),
            max_bytes=client.max_response_bytes,
        )
        answer, self.usable = exchange(self._sock, method, pieces, bounds)
        if answer.status == PROXY_AUTH_STATUS and caller.route.forwards:
            # The proxy says so, and passed nothing on.
            error = f"the proxy answered {PROXY_AUTH_STATUS}; check proxy_username and its password"
            answer, self.usable = Answer(error=error, sent=False), False
        return replace(answer, elapsed_s=(now_ns() - start_ns) / 1e9)

    def close(self) -> None:
        """Close it for good."""
        self.usable = False
        self._opened.close()


class Caller:
    """The connections of one client in this process, shared by its threads.

    Args:
        client: Where and with which timeouts.
        pool_size: The most connections that are kept idle.
        idle_s: An idle connection is not used again after this time.
        only_public: As of `Route`.
        idle: Where those of all clients of the process are kept; None: it keeps its own.

    Raises:
        ConfigError: the URL, the proxy, its password or a certificate cannot be used.
    """

    def __init__(
        self,
        client: ClientSettings,
        pool_size: int,
        *,
        idle_s: float = MAX_IDLE_S,
        only_public: bool = False,
        idle: IdleConnections[Connection] | None = None,
    ) -> None:
        self.client = client
        self.route = Route(client, pool_size, only_public=only_public)
        self._pool_size = pool_size
        # Not in urllib3's pool, which cannot tell how long one was idle.
        self._idle = IdleConnections(pool_size, idle_s) if idle is None else idle

    @property
    def adapter(self) -> PooledAdapter:
        """For a `requests` session of other code on the same way to the provider."""
        return self.route.adapter

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend an open connection: an idle one, else a new one.

        Afterwards one that was fully read, or not used, goes back to the pool; any other is closed.

        Raises:
            ConnectFailed: there is none; nothing was sent.
            ConfigError: the proxy's password or a certificate cannot be used now.
        """
        connection = self._take() or Connection(self, self.route.open())
        try:
            yield connection
        finally:
            self._give_back(connection)

    def has_idle(self) -> bool:
        """Whether a connection is kept idle; the peer may have closed it since."""
        return self._idle.has(self)

    def reach(self) -> None:
        """Open a new connection, and keep it for a later call; raises as `connection`."""
        self._give_back(Connection(self, self.route.open()))

    def close(self) -> None:
        """Close all idle connections."""
        self._idle.close(self)
        self.adapter.close()

    def _take(self) -> Connection | None:
        """Take a connection that is young and silent; close those that are not."""
        while (connection := self._idle.take(self)) is not None:
            if connection.is_silent():
                return connection
            connection.close()
        return None

    def _give_back(self, connection: Connection) -> None:
        if connection.usable:
            self._idle.keep(self, connection, self._pool_size)
        else:
            connection.close()


def _as_granted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a call on the quota; behind the last one it is on its way."""
    yield from pieces
    failpoints.reach("first_byte")


def pool_size(concurrency: int, max_retries: int) -> int:
    """Connections of one pool: one for each thread and one for each of its retries."""
    return concurrency * (1 + max_retries)


def count_descriptors(threads: int) -> int:
    """What a process of so many threads may have open at a time, whatever its clients are."""
    return DESCRIPTORS_A_THREAD * threads + most_idle(threads)


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
            f"{hard}; raise the limit (ulimit -n) or lower worker.concurrency"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
