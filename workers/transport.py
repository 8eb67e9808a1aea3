"""The broker connection: kombu's Redis transport, made safe against what a broker can hold and do.

The stock transport ends the worker when one string in a queue is not a task message, and when the
broker restarts while messages are out. This one

- looks at every popped text before anybody else does, and puts what is no task on a short list;
- remembers how to reach the broker, so that a channel can still be closed when its link is gone;
- keeps one client object per channel, which costs less than a new one for every operation.

What the worker does when the broker goes away is in `workers.reconnect`.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Literal

import kombu.transport
from kombu.transport import redis as stock
from kombu.utils.json import loads
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import PubSub

#: Where strings that are no task messages end, newest first, for a person to look at.
GARBAGE_KEY = "headgate.garbage"
#: Entries that the garbage list keeps, and bytes of each: together at most 1 MB of the broker.
GARBAGE_KEPT, GARBAGE_BYTES = 1000, 1024
#: Ending of the queues that answers to remote control take; these are no tasks.
CONTROL_QUEUE = b".pidbox"

logger = logging.getLogger(__name__)

#: AMQP's bound for a name; a string with a bound is also checked to be proper Unicode.
_Name = Annotated[str, Field(max_length=255)]
_Moment = Annotated[str, Field(min_length=1)]
_TwoLimits = Annotated[list[float | None], Field(min_length=2, max_length=2)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Headers(_Strict):
    """What Celery reads of a task message before any thread of its own runs."""

    task: _Name
    id: _Name
    eta: _Moment | None = None
    expires: _Moment | None = None
    timelimit: _TwoLimits | None = None
    stamped_headers: list[_Name] | None = None
    stamps: dict[str, Any] | None = None


class _Delivery(_Strict):
    exchange: _Name
    routing_key: _Name


class _Properties(_Strict):
    delivery_tag: _Name
    delivery_info: _Delivery


class _Envelope(_Strict):
    headers: _Headers
    properties: _Properties
    content_type: Literal["application/json"] = Field(alias="content-type")


#: Positional arguments, keyword arguments, and the rest of the chain with its callbacks.
_BODY = TypeAdapter(tuple[list[Any], dict[str, Any], dict[str, Any]])


class Channel(stock.Channel):  # type: ignore[misc]  # kombu's channels are untyped
    """A channel that takes nothing but task messages and outlives its connection."""

    _kept: Redis | None = None

    def conn_or_acquire(self, client: Redis | None = None) -> AbstractContextManager[Redis]:
        """Lend `client`, or the one that this channel keeps.

        Clients are safe to share between threads: each command borrows a connection of the pool.
        """
        lent = client or self._kept
        if lent is None:
            lent = self._kept = self._create_client()
        return nullcontext(lent)

    def _disconnect_pools(self) -> None:
        self._kept = None
        super()._disconnect_pools()

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        # A lost connection is taken apart before its channels: they still acknowledge and clean up.
        if self.connection is not None and self.connection.client is not None:
            self._last_connparams = super()._connparams(asynchronous)
        return dict(self._last_connparams)

    def _create_client(self, asynchronous: bool = False) -> Redis:  # noqa: FBT001, FBT002
        client: Redis = super()._create_client(asynchronous)
        client.set_response_callback("BRPOP", self._screen)
        return client

    def _receive_one(self, c: PubSub) -> bool | None:
        try:
            return super()._receive_one(c)
        except (OSError, RedisError):
            raise
        except Exception as error:  # noqa: BLE001  # see _is_task
            logger.warning("a broadcast is no control message (%s)", type(error).__name__)
            return None

    def _screen(self, reply: list[bytes] | None, **_: object) -> list[bytes] | None:
        """Pass a popped task on; put anything else aside and report an empty poll."""
        if not reply:
            return None
        queue, text = reply
        if queue.endswith(CONTROL_QUEUE) or self._is_task(text):
            return reply
        self._put_aside(queue, text)
        return None

    def _is_task(self, text: bytes) -> bool:
        """Whether the worker can take `text`: it is decoded here as the worker will do it."""
        try:
            _Envelope.model_validate_json(text)  # which also refuses what is nested 200 deep
            _BODY.validate_python(self.Message(loads(text), channel=self).decode())
        except Exception:  # noqa: BLE001  # strangers' text fails in a dozen ways, none of them ours
            return False
        return True

    def _put_aside(self, queue: bytes, text: bytes) -> None:
        # The text itself stays out of the log: nobody knows what it holds.
        logger.warning("%d bytes in queue %r are no task; see %s", len(text), queue, GARBAGE_KEY)
        try:
            with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
                pipe.lpush(GARBAGE_KEY, text[:GARBAGE_BYTES])
                # kombu's client adds the prefix to the key of LPUSH, and not to that of LTRIM.
                pipe.ltrim(self.global_keyprefix + GARBAGE_KEY, 0, GARBAGE_KEPT - 1)
                pipe.execute()
        except RedisError as error:
            logger.warning("%s could not be written and its text is gone: %s", GARBAGE_KEY, error)


class Transport(stock.Transport):  # type: ignore[misc]  # kombu's transports are untyped
    """Redis or Valkey as a broker."""

    Channel = Channel


def install() -> None:
    """Make `redis://` and `rediss://` mean this transport, for every connection opened later."""
    for scheme in ("redis", "rediss"):
        kombu.transport.TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
        # An earlier look-up is remembered for the life of the process.
        kombu.transport._transport_cache.pop(scheme, None)  # noqa: SLF001


def transport_options() -> dict[str, Any]:
    """`broker_transport_options` for every process that shares the broker.

    There is no `retry_on_timeout` among them, and none may be added: kombu then sends the
    messages of `Producer.batch()` one by one, and a repeated write can double a message.
    """
    return {
        # A bell need not be acknowledged, the ledger rings again: saves 8 store commands a call.
        "ack_emulation": False,
        # A frozen broker fails a publish instead of blocking its thread for ever.
        "socket_timeout": 5.0,
        "socket_connect_timeout": 2.0,
        # The kernel notices a peer that is gone even when nothing is being sent.
        "socket_keepalive": True,
        # Seconds. A poll that stays unanswered on a half-open link is given up after 6 to 11 s.
        "health_check_interval": 5,
        # The rest counts only where `ack_emulation` is switched on again. Seconds until a message
        # that nobody acknowledged comes back; the shortest value of all processes wins.
        "visibility_timeout": 3600,
        # Look for such messages every 2 s; the defaults look every 100 s.
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        # A worker that is killed while it looks keeps the others from looking for so many seconds.
        "unacked_mutex_expire": 30,
    }
