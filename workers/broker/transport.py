"""The link to the broker: kombu's Redis transport, safe against what a broker can hold and do.

The stock transport ends the worker when a string in a queue is no task message, and when the
broker restarts while messages are out. This transport

- looks at each popped text before anybody else does (`workers.broker.popping`);
- remembers the broker's address, so that a channel can be closed after its connection is gone
  (`workers.broker.consumer` says what the worker itself does then);
- keeps one client per channel, which costs less than a new one for every operation;
- runs no script on the broker (`workers.broker.bindings`).
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import kombu.transport
from kombu.exceptions import OperationalError
from kombu.transport import redis as stock
from redis import SSLConnection
from redis.exceptions import RedisError
from typing_extensions import override

from workers.broker.bindings import ScriptlessBindings
from workers.broker.popping import PoppingChannel
from workers.settings.redis_url import VERIFIED
from workers.store.tls import require_usable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kombu.asynchronous.hub import Hub
    from redis import Redis
    from redis.client import PubSub

#: Names of kombu's keys that become options here, beside those that are options of kombu's own.
_KEY_OPTIONS = ("keyprefix_queue", "keyprefix_binding_deadlines", "keyprefix_binding_permanent")
logger = logging.getLogger(__name__)


class Channel(PoppingChannel, ScriptlessBindings):
    """A channel that outlives its connection."""

    from_transport_options = (  # type: ignore[assignment]  # their type has their length
        *stock.Channel.from_transport_options,
        *_KEY_OPTIONS,
        "garbage_key",
    )
    _kept: Redis | None = None

    @override
    @contextmanager
    def conn_or_acquire(self, client: Redis | None = None) -> Iterator[Redis]:
        """Lend `client`, else the one that this channel keeps.

        Threads may share it: each command borrows a connection of the client's pool.
        """
        lent = client or self._kept
        if lent is None:
            lent = self._kept = self._create_client()  # type: ignore[no-untyped-call]
        yield lent

    @override
    def _disconnect_pools(self) -> None:
        self._kept = None
        super()._disconnect_pools()  # type: ignore[no-untyped-call]

    @override
    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        # kombu takes a lost connection apart before its channels, which may still acknowledge.
        if self.connection is not None and self.connection.client is not None:
            params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
            # A URL that Celery was given on its command line went through no settings.
            verify = self.connection.client.transport_options.get("verify_certificates", True)
            if not issubclass(params["connection_class"], SSLConnection):
                params["driver_info"] = None  # as `workers.store.connection.connect` says
            elif verify:
                params.update(VERIFIED)
            self._last_connparams = params
        return dict(self._last_connparams)

    def push(self, queue: str, texts: Sequence[str]) -> None:
        """Put messages into a queue as they are, in one command.

        Raises:
            kombu.exceptions.OperationalError: any of them may be there.
        """
        try:
            with self.conn_or_acquire() as client:
                client.lpush(queue, *texts)
        except RedisError as error:
            raise OperationalError(str(error)) from error

    @override
    def _receive_one(self, c: PubSub) -> bool | None:
        taken: bool | None = None
        try:
            taken = super()._receive_one(c)  # type: ignore[no-untyped-call]
        except (OSError, RedisError):
            raise
        except Exception as error:  # noqa: BLE001 -- as above; a KeyError would cost a reconnect
            logger.warning("a broadcast is no control message (%s)", type(error).__name__)
        return taken


class _OnlyChanges:
    """The event loop as kombu's transport sees it, which adds all its sockets at each turn.

    Here only a new one is added, for each costs a call of the kernel or two.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the loop has
        return getattr(self._hub, name)

    def add_reader(self, descriptor: int, callback: Callable[..., object], *args: object) -> None:
        if self._hub.readers.get(descriptor) != (callback, args):
            self._hub.add_reader(descriptor, callback, *args)  # type: ignore[no-untyped-call]


class Transport(stock.Transport):
    """Redis or Valkey as a broker."""

    Channel = Channel

    @override
    def register_with_event_loop(self, connection: Any, loop: Hub) -> None:
        super().register_with_event_loop(connection, _OnlyChanges(loop))  # type: ignore[no-untyped-call]


def install() -> None:
    """Let `redis://` and `rediss://` mean this transport for every connection opened from now.

    `amqps://` means kombu's own with its certificates verified.
    """
    ours = f"{__name__}:Transport"
    amqps = "workers.broker.amqps:AmqpsTransport"
    for scheme, transport in {"redis": ours, "rediss": ours, "amqps": amqps}.items():
        kombu.transport.TRANSPORT_ALIASES[scheme] = transport
        # kombu remembers an earlier look-up for the life of the process.
        kombu.transport._transport_cache.pop(scheme, None)  # noqa: SLF001 -- there is no other way
    # kombu says of each rediss:// URL that it formats that its server is not verified: here it is.
    logging.getLogger("kombu.connection").addFilter(_is_true)


def _is_true(record: logging.LogRecord) -> bool:
    return "defaulting to insecure SSL behaviour" not in str(record.msg)


def broker_settings(url: str, key_options: Mapping[str, str]) -> dict[str, Any]:
    """Celery's settings for the broker.

    Args:
        url: Where it is.
        key_options: What keys on it are called, from `names.key_options`.

    Raises:
        ConfigError: a certificate or key that the URL names cannot be used.
    """
    server = require_usable(url)
    verifies = {"verify_certificates": server.verifies}
    options = {**transport_options(), **key_options, **server.seconds, **verifies}
    return {
        "broker_url": server.url,
        "broker_use_ssl": server.tls or False,
        "broker_transport_options": options,
    }


def transport_options() -> dict[str, Any]:
    """`broker_transport_options` for every process that shares the broker.

    `retry_on_timeout` is not among them and must not be added: kombu would then send the
    messages of `Producer.batch()` one by one, and a repeated write can double a message.
    """
    return {
        # A bell needs no acknowledgement, the ledger rings again: 8 store commands less a call.
        "ack_emulation": False,
        # Seconds. A publish to a broker that freezes fails, instead of blocking for ever.
        "socket_timeout": 5.0,
        "socket_connect_timeout": 2.0,
        # The kernel finds out about a peer that is gone even while nothing is sent.
        "socket_keepalive": True,
        # Seconds. An unanswered poll on a half-open connection is given up after 6 to 11 s.
        "health_check_interval": 5,
        # The rest counts only with `ack_emulation`. Seconds until a message that nobody
        # acknowledged comes back; the shortest value on a broker wins.
        "visibility_timeout": 3600,
        # Look for such messages every 2 s; kombu's defaults look every 100 s.
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        # Seconds that a worker killed while looking keeps all others from looking.
        "unacked_mutex_expire": 30,
    }
