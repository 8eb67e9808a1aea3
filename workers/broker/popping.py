"""Takes messages out of the queues: what is no task goes to a short list, and nobody else sees it.

This is the half of kombu's channel that reads the answers to its polls. It uses kombu's private
names; the tests of the transport fail where a release of kombu changes them.
"""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any, Final

from kombu.transport import redis as stock
from kombu.utils.json import loads
from redis.exceptions import RedisError
from typing_extensions import override

from workers.broker.messages import TaskMessage, read_task_message
from workers.broker.reception import reception

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

    @override
    def _brpop_read(self, **options: Any) -> bool:
        """Hand on what a poll brought.

        Raises:
            Empty: it brought nothing that is a task.
        """
        reply = self._read_reply(options)
        reception.clear()
        if not reply:
            raise Empty
        key, text = reply
        queue = key.decode().rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        if not self.deliver(queue, text):
            raise Empty
        return True

    def _read_reply(self, options: dict[str, Any]) -> Any:  # noqa: ANN401 -- redis-py types no answers
        client = self.client
        try:
            return client.parse_response(client.connection, "BRPOP", **options)
        except self.connection_errors:
            client.connection.disconnect()  # so that the next poll connects
            raise
        finally:
            self._in_poll = None  # type: ignore[assignment]  # kombu has the same line
            self._flush_brpop_reauth()  # type: ignore[no-untyped-call]

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
