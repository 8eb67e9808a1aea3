"""What a worker does when the broker goes away: keep the work it has, and be back soon.

Celery takes this consumer by the setting `worker_consumer = "workers.reconnect:Consumer"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.worker import consumer

if TYPE_CHECKING:
    from kombu.connection import Connection

#: Seconds between two attempts to reach the broker; Celery's own pauses grow to 30 s.
RETRY_S = 1.0


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery ships no types
    """Celery's consumer, patient with a broker that is away."""

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, trying again every `RETRY_S` for as long as it takes.

        `broker_connection_max_retries` does not count: its default would be up after 100 s.
        """
        connect: Any = conn.ensure_connection

        def connect_patiently(on_error: object, _max_retries: object, **options: object) -> object:
            return connect(
                on_error,
                interval_start=RETRY_S,
                interval_step=0,
                interval_max=RETRY_S,
                **options,
            )

        conn.ensure_connection = connect_patiently  # type: ignore[method-assign]
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
