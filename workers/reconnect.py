"""What a worker does when the broker goes away: keep what it has, and be back soon.

Named by the setting `worker_consumer`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from celery.worker import consumer

if TYPE_CHECKING:
    from kombu import Connection

#: Seconds between two attempts to reach the broker. Celery's own waits grow to 30 s.
RETRY_S = 1.0


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery ships no types
    """Celery's consumer of one worker process."""

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, trying again every `RETRY_S`."""
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=RETRY_S, interval_step=0, interval_max=RETRY_S
        )
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of the lost connection, but of no message.

        The threads go on with every message taken so far. Stock Celery puts these messages back
        for others as well: each would run twice.
        """
        for channel in self.connection.transport.channels:
            channel.do_restore = False
        super().on_connection_error_after_connected(exc)
