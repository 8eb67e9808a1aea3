"""Takes messages out of the queues: what is no task goes to a short list, and nobody else sees it.

This is the half of kombu's channel that polls: it takes as many messages at once as there is room
for. It uses kombu's private names; the tests fail where a release of kombu changes them.
"""

from __future__ import annotations

import logging
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from kombu.transport import redis as stock
from kombu.utils.json import loads
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from typing_extensions import override

from workers.broker.messages import TaskMessage, read_task_message
from workers.broker.reception import reception

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The list of strings that were no task messages, newest first, for a person to look at; the
#: option `garbage_key` names another.
GARBAGE_KEY: Final = "headgate.garbage"
#: Entries that the list keeps, and bytes of each: together at most 1 MB in the broker.
GARBAGE_KEPT: Final = 1000
GARBAGE_BYTES: Final = 1024
#: The ending of the queues that carry answers to remote control, which are no tasks.
CONTROL_QUEUE: Final = ".pidbox"

_logger = logging.getLogger(__name__)


class PoppingChannel(stock.Channel):
    """kombu's channel, which hands on nothing but task messages, each read once."""

    Message = TaskMessage
    garbage_key = GARBAGE_KEY
    #: How many messages may come at once; a worker says how many of its threads are free.
    count_free: Callable[[], int] = staticmethod(lambda: 1)
    _command = "BRPOP"  #: of the poll that is out
    _takes_many = True  #: as far as is known of the broker

    @override
    def _brpop_start(self, timeout: float | None = None) -> None:
        """Poll for one message, or for as many as there is room for."""
        count = self.count_free() if self._takes_many else 1
        if count < 2:  # noqa: PLR2004 -- one needs nothing that kombu does not have
            self._command = "BRPOP"
            super()._brpop_start(timeout)  # type: ignore[no-untyped-call]
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        prefix = self.global_keyprefix
        keys = [
            prefix + self._q_for_pri(queue, priority)  # type: ignore[no-untyped-call]
            for priority in self.priority_steps
            for queue in queues
        ]
        self._command = "BLMPOP"
        self._in_poll = connection = self.client.connection
        self._brpop_sent_at = monotonic()  # type: ignore[assignment]  # kombu has the same line
        wait_s = timeout or self.brpop_timeout or 0
        connection.send_command("BLMPOP", wait_s, len(keys), *keys, "RIGHT", "COUNT", count)

    @override
    def _brpop_read(self, **options: Any) -> bool:
        """Hand on what a poll brought.

        Raises:
            Empty: it brought nothing that is a task.
        """
        key, texts = self._read_reply(options)
        reception.clear()
        if not texts:
            raise Empty
        queue = key.decode().rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        if not sum([self.deliver(queue, text) for text in texts]):
            raise Empty
        return True

    def _read_reply(self, options: dict[str, Any]) -> tuple[bytes, Sequence[bytes]]:
        """The key and the messages that the poll has brought, which may be none."""
        client = self.client
        try:
            reply = client.parse_response(client.connection, self._command, **options)
        except self.connection_errors:
            client.connection.disconnect()  # so that the next poll connects
            raise
        except ResponseError as error:
            if self._command == "BRPOP" or not _lacks_command(error):
                raise
            _logger.info("the broker gives one message at a time (%s)", error)
            self._takes_many = False
            raise Empty from None  # that says nothing of the queue
        finally:
            self._in_poll = None  # type: ignore[assignment]  # kombu has the same line
            self._flush_brpop_reauth()  # type: ignore[no-untyped-call]
        if not reply:
            return b"", ()
        key, brought = reply
        if self._command == "BRPOP":
            return key, (brought,)
        return key[len(self.global_keyprefix) :], brought  # which kombu's client does for BRPOP

    def deliver(self, queue: str, text: bytes) -> bool:
        """Hand on what lay in a queue, or put it aside; returns whether it was handed on."""
        is_answer = queue.endswith(CONTROL_QUEUE)
        message = _read_answer(text) if is_answer else read_task_message(text)
        if message is None:
            self._put_aside(queue, text)
            return False
        self.connection._deliver(message, queue)  # noqa: SLF001 -- as kombu's own channel does
        return True

    def _put_aside(self, queue: str, text: bytes) -> None:
        # The text stays out of the log: nobody knows what it holds.
        _logger.warning(
            "%d bytes in queue %r are no task: see %s", len(text), queue, self.garbage_key
        )
        try:
            with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
                pipe.lpush(self.garbage_key, text[:GARBAGE_BYTES])
                # kombu's client adds its prefix to the key of LPUSH, but not to that of LTRIM.
                pipe.ltrim(self.global_keyprefix + self.garbage_key, 0, GARBAGE_KEPT - 1)
                pipe.execute()
        except RedisError as error:
            _logger.warning("%s took no entry (%s): that text is gone", self.garbage_key, error)


def _read_answer(text: bytes) -> Any:  # noqa: ANN401 -- whatever was answered
    return loads(text)  # type: ignore[no-untyped-call]


def _lacks_command(error: ResponseError) -> bool:
    """Whether the server does not know a command, or does not give it to this user."""
    return isinstance(error, NoPermissionError) or "unknown command" in str(error)
