"""The connection to the store, the one wrapper that turns its errors into "not now", and fitness.

Fitness is what a store must have before work is trusted to it: durability, and free memory.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry
from typing_extensions import override

from workers.errors import FunctionUnknown, LedgerDamaged, StoreAway, StoreReplaced, StoreUnfit
from workers.handshake import describe_failure
from workers.store.embedded import open_embedded
from workers.store.primary import let_connections_go, reason_to_reconnect
from workers.store.replaced import read_replaced
from workers.store.tls import NAMES, require_usable

if TYPE_CHECKING:
    from workers.settings.load import StoreSettings

#: What the server answers; the command or the script says of which form it is.
Reply: TypeAlias = Any

#: What the server says of a key of a wrong type, and of a script of ours that stopped by itself.
_DAMAGED: Final = re.compile(
    r"(?:user_function:\d+: |(?=WRONGTYPE ))(.*?)(?: script: .*)?", re.DOTALL
)
#: Seconds between two looks at the role of the server.
ROLE_S: Final = 1.0
#: Seconds until a connection attempt or an answer counts as missing.
TIMEOUT_S = 5.0
#: Threads bound the connections. redis-py's own bound (100) counts all that were ever opened.
MOST_CONNECTIONS = 2**31
#: Part of the store's memory above which nothing more is accepted or opened.
FULL: Final = 0.8


def _not_now(error: RedisError) -> StoreAway | LedgerDamaged:
    if demoted := reason_to_reconnect(error):
        return StoreAway(demoted)
    if isinstance(error, AuthenticationError | AuthorizationError):
        return StoreAway("the store refuses the user or password of its URL; correct store.url")
    if reason := describe_failure(error, NAMES):
        return StoreAway(f"there is no connection to the store: {reason}")
    if isinstance(error, ResponseError) and (replaced := read_replaced(str(error))):
        return StoreReplaced(replaced)
    # The server's text names commands and keys, never values; a URL with a password is not in it.
    if isinstance(error, ResponseError) and (damaged := _DAMAGED.fullmatch(str(error))):
        return LedgerDamaged(
            f"a key of the ledger is wrong: {damaged[1]}; headgate doctor looks at it"
        )
    return StoreAway(f"the store did not answer ({type(error).__name__}: {error})")


class _Connection(Protocol):
    """What of a connection of redis-py is used, with the types that it lacks."""

    is_connected: bool

    def can_read(self, timeout: float) -> bool: ...
    def send_command(self, *command: str | bytes | float) -> None: ...
    def read_response(self) -> Reply: ...
    def disconnect(self) -> None: ...


class Pipeline(redis.client.Pipeline):
    """A pipeline whose failures are `StoreAway`."""

    store: Store

    @override
    def execute(self, raise_on_error: bool = True) -> list[Reply]:
        """Send all commands in one round trip."""
        self.store.require_primary()
        try:
            return super().execute(raise_on_error)
        except RedisError as error:
            raise self.store.fail(error) from None


class Store(redis.Redis):
    """A client of the store: any failure to answer raises `StoreAway`.

    It never repeats a command by itself: no script runs twice behind anyone's back.
    """

    @override
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._process, self._idle = os.getpid(), deque[_Connection]()
        self._primary_until_s = float("inf")  #: by `time.monotonic`; then its role is looked at

    def ask(self, *command: str | bytes | float) -> Reply:
        """Send one command over a connection that is kept for this.

        It goes without the locks, the metrics and the hooks of `execute_command`, which cost more
        than the round trip of a short command. There are as many connections as threads have
        asked at one moment.

        Raises:
            FunctionUnknown: the server does not know the function that it is to call.
            StoreAway: it gave no answer, or refused.
        """
        idle, connection = self._take()
        try:
            connection.send_command(*command)
            answer = connection.read_response()
        except RedisError as error:
            connection.disconnect()
            if isinstance(error, ResponseError) and str(error) == "Function not found":
                raise FunctionUnknown(f"the store did not answer ({error})") from None
            raise self.fail(error) from None
        except BaseException:  # an answer that nobody read would be taken for that of the next one
            connection.disconnect()
            raise
        idle.append(connection)
        return answer

    def look_at_role(self) -> None:
        """Look every `ROLE_S` whether the server is a primary: who only reads is never refused."""
        self._primary_until_s = 0.0

    def require_primary(self) -> None:
        """Leave a server that has become a replica; raises `StoreAway`."""
        if time.monotonic() < self._primary_until_s:
            return
        self._primary_until_s = time.monotonic() + ROLE_S
        try:
            replication = super().execute_command("INFO", "replication")  # type: ignore[no-untyped-call]
        except RedisError as error:
            raise self.fail(error) from None
        if replication.get("role") != "master":
            self._primary_until_s = 0.0
            raise self.fail(ReadOnlyError("a replica answers", status_code="READONLY"))

    def fail(self, error: RedisError) -> StoreAway | LedgerDamaged:
        """What a failure of the server is to a caller.

        A server that is not the primary is left: the next command of every thread connects anew, by
        the name of the store's URL, which may lead to another server by now.
        """
        if reason_to_reconnect(error):
            idle, self._idle = self._idle, deque()  # what is in use goes back to the old one
            for connection in idle:
                connection.disconnect()
            let_connections_go(self.connection_pool)
        return _not_now(error)

    def _take(self) -> tuple[deque[_Connection], _Connection]:
        """Where connections are kept, and the one used last; it may have been closed meanwhile."""
        if self._process != os.getpid():  # a fork: these are the parent's
            self._process, self._idle = os.getpid(), deque()
        idle = self._idle
        try:
            connection = idle.pop()
        except IndexError:  # another thread may have been faster: no lock is needed
            connection = cast("_Connection", self.connection_pool.make_connection())
        try:
            if connection.is_connected and connection.can_read(0):  # a close is all it can be
                connection.disconnect()
        except RedisError:
            connection.disconnect()
        return idle, connection

    @override
    def execute_command(self, *args: Any, **options: Any) -> Reply:
        """Send one command."""
        self.require_primary()
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RedisError as error:
            raise self.fail(error) from None

    @override
    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Collect commands for one round trip."""
        del shard_hint
        pipe = Pipeline(self.connection_pool, self.response_callbacks, transaction, None)
        pipe.store = self
        return pipe


def connect(url: str, *, timeout_s: float = TIMEOUT_S) -> Store:
    r"""A client of the server at `url`; nothing is sent yet.

    Answers are text. A byte that is no UTF-8 stands in it as \xff: a damaged field can be shown,
    and is as unreadable as any other garbage.

    Raises:
        ConfigError: a certificate or key that the URL names cannot be used.
    """
    server = require_usable(url)
    given: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 0,
        **server.seconds,
    }
    if server.tls is None:
        given["driver_info"] = None  # spares two commands a connection
    else:
        # With TLS 1.3 the server's session tickets arrive in front of its first answer. Without
        # one redis-py takes them for an answer that was left over, and gives the connection up.
        given |= server.tls
    store = Store.from_url(
        server.url,
        decode_responses=True,
        encoding_errors="backslashreplace",
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        max_connections=MOST_CONNECTIONS,
        protocol=2,
        **given,
    )
    return cast("Store", store)


def to_us(time: tuple[int, int]) -> int:
    """What the store answers to TIME, seconds and microseconds, in us since the epoch."""
    seconds, us = time
    return seconds * 1_000_000 + us


def store_now_us(store: Store) -> int:
    """The store's clock, in us since the epoch.

    Raises:
        StoreAway: it gives no answer.
    """
    return to_us(store.time())


def url_of(settings: StoreSettings) -> str:
    """Find the URL of the store; the embedded one is started when none is configured."""
    return settings.server_url() or open_embedded(settings.data_dir).url


def keep_embedded(settings: StoreSettings) -> None:
    """Start the embedded store again if it has ended; nothing happens to a store of your own.

    Processes that live long call this. Whoever killed the keeper or the server, the store is there
    again under the same URL (unless a stranger took the port meanwhile), and clients reconnect by
    themselves. A folder that was deleted stays deleted.

    Raises:
        StoreAway: it did not start.
    """
    if settings.url is None and (settings.data_dir.expanduser() / "server.conf").exists():
        open_embedded(settings.data_dir)


def broker_url_of(settings: StoreSettings) -> str:
    """Find the URL to which bells are published: the store's own unless another is named."""
    return settings.server_url_of_broker() or url_of(settings)


_stores: dict[str, Store] = {}
_lock = threading.Lock()


def open_store(settings: StoreSettings) -> Store:
    """Open the process's one client of the configured store, after a check of its durability.

    Raises:
        StoreAway: it does not answer.
        StoreUnfit: it evicts keys or keeps nothing on disk.
    """
    url = url_of(settings)
    with _lock:
        store = _stores.get(url)
        if store is None:
            store = connect(url)
            require_durable(store, settings)
            store.look_at_role()
            _stores[url] = store
        return store


def require_durable(store: Store, settings: StoreSettings) -> str:
    """Refuse a store that would lose the ledger; returns its appendfsync ("always", "everysec").

    Everything is read from INFO, which every managed store allows, but for `appendfsync`: where
    CONFIG GET is forbidden, `store.durable` states it, and nobody asks.
    """
    memory, persistence = store.info("memory"), store.info("persistence")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreUnfit(
            f"the store evicts keys (maxmemory-policy {policy}) and would forget what was sent; "
            f"set maxmemory-policy noeviction"
        )
    if not int(persistence.get("aof_enabled", 0)):
        raise StoreUnfit(
            "the store keeps its data in memory only (appendonly no) and would forget what was "
            "sent; set appendonly yes and appendfsync always"
        )
    return fsync_of(store, settings)


def fsync_of(store: Store, settings: StoreSettings) -> str:
    """Find how the store writes to disk: as `store.durable` states, else by CONFIG GET."""
    return settings.durable or ask_fsync(store)


def ask_fsync(store: Store) -> str:
    """Ask the store how it writes to disk."""
    try:
        fsync = str(store.config_get("appendfsync")["appendfsync"])
    except (StoreAway, KeyError):
        raise StoreUnfit(
            "the store does not say how it writes to disk (CONFIG GET is not allowed); "
            'state it as store.durable = "always" or "everysec"'
        ) from None
    if fsync == "no":
        raise StoreUnfit(
            "the store leaves writing to disk to the system (appendfsync no); "
            "set appendfsync always"
        )
    return fsync


def room(store: Store) -> tuple[int, int]:
    """Ask for the bytes left below `FULL`, negative above it, and for the store's memory, 0 = any.

    Raises:
        StoreAway: it did not answer.
    """
    memory = store.info("memory")
    most = int(memory.get("maxmemory", 0))
    return int(FULL * most) - int(memory["used_memory"]), most
