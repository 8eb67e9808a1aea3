"""What a worker does when the broker goes away: keep the work it has, and be back soon.

Celery takes this consumer by the setting `worker_consumer = "workers.reconnect:Consumer"`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from celery.worker import consumer

if TYPE_CHECKING:
    from kombu.connection import Connection

#: Seconds between two attempts to reach the broker; Celery's own pauses grow to 30 s.
RETRY_S = 1.0


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery ships no types
    """Celery's consumer, patient with a broker that is away."""

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, trying again every `RETRY_S`."""
        conn.ensure_connection = partial(  # type: ignore[method-assign]
            conn.ensure_connection, interval_start=RETRY_S, interval_step=0, interval_max=RETRY_S
        )
        connected: Connection = super().ensure_connected(conn)
        return connected

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of the lost connection, but of none of its messages.

        The threads go on with whatever they have. Stock Celery also puts every message that is
        not acknowledged back into its queue at this moment: it would run twice.
        """
        for channel in self.connection.transport.channels:
            channel.do_restore = False
        super().on_connection_error_after_connected(exc)
