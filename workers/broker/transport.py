"""The link to the broker: kombu's Redis transport, safe against what a broker can hold and do.

The stock transport ends the worker when a string in a queue is no task message, and when the
broker restarts while messages are out. This transport

- looks at each popped text before anybody else does, and keeps what is no task on a short list;
- remembers the broker's address, so that a channel can be closed after its connection is gone
  (`workers.broker.consumer` says what the worker itself does then);
- keeps one client per channel, which costs less than a new one for every operation;
- runs no script on the broker (`workers.broker.bindings`).
"""

from __future__ import annotations

import logging
from base64 import b64decode
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import kombu.transport
from kombu.transport import redis as stock
from kombu.utils.json import loads
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from redis import SSLConnection
from redis.exceptions import RedisError
from typing_extensions import override

from workers.broker.bindings import ScriptlessBindings
from workers.broker.reception import reception
from workers.settings.redis_url import VERIFIED
from workers.store.tls import require_usable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from redis import Redis
    from redis.client import PubSub

#: The list of strings that were no task messages, newest first, for a person to look at; the
#: option `garbage_key` names another.
GARBAGE_KEY = "headgate.garbage"
#: Names of kombu's keys that become options here, beside those that are options of kombu's own.
_KEY_OPTIONS = ("keyprefix_queue", "keyprefix_binding_deadlines", "keyprefix_binding_permanent")
#: Entries that the list keeps, and bytes of each: together at most 1 MB in the broker.
GARBAGE_KEPT, GARBAGE_BYTES = 1000, 1024
#: The ending of the queues that carry answers to remote control, which are no tasks.
CONTROL_QUEUE = b".pidbox"

logger = logging.getLogger(__name__)

#: AMQP's bound for names; a string with a bound is also checked to be proper Unicode.
_Name = Annotated[str, Field(max_length=255)]
_Moment = Annotated[str, Field(min_length=1)]
_Pair = Annotated[list[float | None], Field(min_length=2, max_length=2)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Headers(_Part):
    """The headers that Celery's event loop reads; a value of another type would end the worker."""

    task: _Name
    id: _Name
    retries: int = 0
    eta: _Moment | None = None
    expires: _Moment | None = None
    timelimit: _Pair | None = None
    stamped_headers: list[_Name] | None = None
    stamps: dict[str, Any] | None = None


class _DeliveryInfo(_Part):
    exchange: _Name
    routing_key: _Name


class _Properties(_Part):
    delivery_tag: _Name
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64", "utf-8"] | None = None


class _Envelope(_Part):
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties
    body: str


#: Positional arguments, keyword arguments, and the rest of the chain with its callbacks.
_BODY = TypeAdapter(tuple[list[Any], dict[str, Any], dict[str, Any]])


def is_task_message(text: bytes) -> bool:
    """Whether a worker can take `text`: protocol 2, JSON, nested less than 200 deep."""
    try:
        envelope = _Envelope.model_validate_json(text)
        encoded = envelope.properties.body_encoding == "base64"
        _BODY.validate_json(b64decode(envelope.body) if encoded else envelope.body)
        # kombu's reader also gives a meaning to `__type__`; it must not fail on it later.
        loads(text)  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 -- a stranger's text fails in a dozen ways
        return False
    return True


class Channel(ScriptlessBindings):
    """A channel that hands on nothing but task messages, and outlives its connection."""

    garbage_key = GARBAGE_KEY
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
            lent = self._kept = self._create_client()
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

    @override
    def _create_client(self, asynchronous: bool = False) -> Redis:
        client: Redis = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        client.set_response_callback("BRPOP", self._screen)
        return client

    def _screen(self, reply: list[bytes] | None, **_: object) -> list[bytes] | None:
        """Hand on a popped task; put anything else aside and report an empty poll."""
        reception.clear()
        if not reply:
            return None
        queue, text = reply
        if queue.endswith(CONTROL_QUEUE) or is_task_message(text):
            return reply
        self._put_aside(queue, text)
        return None

    def _put_aside(self, queue: bytes, text: bytes) -> None:
        # The text stays out of the log: nobody knows what it holds.
        logger.warning(
            "%d bytes in queue %r are no task: see %s", len(text), queue, self.garbage_key
        )
        try:
            with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
                pipe.lpush(self.garbage_key, text[:GARBAGE_BYTES])
                # kombu's client adds its prefix to the key of LPUSH, but not to that of LTRIM.
                pipe.ltrim(self.global_keyprefix + self.garbage_key, 0, GARBAGE_KEPT - 1)
                pipe.execute()
        except RedisError as error:
            logger.warning("%s took no entry (%s): that text is gone", self.garbage_key, error)

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


class Transport(stock.Transport):
    """Redis or Valkey as a broker."""

    Channel = Channel


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
