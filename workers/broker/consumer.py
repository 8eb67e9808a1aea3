"""What a worker does when the broker goes away: it keeps its work, and is back soon.

Celery's stock consumer waits up to 30 s between two attempts, gives up after 100 of them, ends
when the broker refuses a command, and puts back messages that its threads are still working on.
"""

from __future__ import annotations

import logging
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING

from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer, state
from typing_extensions import override

from workers.broker.popping import PoppingChannel
from workers.broker.reception import reception

if TYPE_CHECKING:
    from kombu.connection import Connection
    from kombu.message import Message

logger = logging.getLogger(__name__)

#: Seconds between two attempts to reach the broker.
RETRY_S = 1.0
#: Seconds between two looks whether a worker that waits is to stop.
REST_S = 0.1
#: Settings of a Celery app that go with this consumer.
SETTINGS = {
    "worker_consumer": f"{__name__}:Consumer",
    # A worker may be started before its broker.
    "broker_connection_retry_on_startup": True,
    # None is for ever: nobody should have to restart workers after a long outage.
    "broker_connection_max_retries": None,
    # A broker that refuses commands (disk full, memory full) counts as one that is away.
    "broker_channel_error_retry": True,
}


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery ships no types
    """Celery's consumer, patient with a broker that is away."""

    @override
    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, trying again every `RETRY_S`."""
        reception.note_away()
        conn.ensure_connection = partial(  # type: ignore[method-assign]
            conn.ensure_connection, interval_start=RETRY_S, interval_step=0, interval_max=RETRY_S
        )
        connected: Connection = super().ensure_connected(conn)
        reception.note_connection()
        return connected

    @override
    def update_strategies(self) -> None:
        """Serve no task of Celery's own, such as `celery.group`: no bell names one.

        A stranger's would fail with a traceback, or run tasks of ours.
        """
        super().update_strategies()
        for name in [name for name in self.strategies if name.startswith("celery.")]:
            del self.strategies[name]

    @override
    def on_ready(self) -> None:
        """Let a poll bring as many messages as threads are free."""
        channel = self.task_consumer.channel
        if isinstance(channel, PoppingChannel):
            channel.count_free = self.count_free_threads
        super().on_ready()

    def count_free_threads(self) -> int:
        """How many threads have no task, neither one that runs nor one that waits for them."""
        return int(self.pool.num_processes) - len(state.reserved_requests)

    @override
    def on_unknown_task(self, body: object, message: Message, exc: Exception) -> None:
        """Drop a message that names no task of ours.

        A newer release or a stranger sent it; the ledger rings again for what is ours. Celery logs
        the whole message, and a traceback.
        """
        del body, exc
        name = str(message.headers.get("task"))[:64]
        logger.warning("this worker has no task %r: its message is dropped", name)
        message.reject_log_error(logger, self.connection_errors)  # type: ignore[no-untyped-call]

    @override
    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of the lost connection, but of none of its messages.

        The threads go on with all they have. The stock consumer also puts back what is not
        acknowledged yet, and it runs twice. A worker that stops still gives back what it has not
        begun: that is another path.
        """
        wait_s = reception.note_failure(exc)
        for channel in self.connection.transport.channels:
            channel.do_restore = False
        with warnings.catch_warnings():  # Celery's worker turns on what our application turned off
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        _rest(wait_s)


def _rest(seconds: float) -> None:
    """Wait before a queue that was refused is asked for again; a worker that stops does not."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        state.maybe_shutdown()
        time.sleep(REST_S)
