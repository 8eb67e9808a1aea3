"""The pacer: a thread in each worker that rings, publishes the bells, and keeps the line filled.

There is no leader. The store gives each caller its turns, so that all pacers together tick evenly,
and every decision is one script; a pacer that dies takes nothing with it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from kombu.exceptions import KombuError

from orchestration import bells, jobs
from tasks import KINDS
from workers import boundaries
from workers.errors import HeadgateError

if TYPE_CHECKING:
    from celery import Celery

    from workers.clients import Client, Clients
    from workers.governor import Ring

#: After a failure of store or broker the next turn comes so late.
AWAY_S = 0.5

logger = logging.getLogger(__name__)


class Pacer(threading.Thread):
    """Rings for every configured client until stopped."""

    def __init__(self, app: Celery, clients: Clients, worker: str, threads: int) -> None:
        super().__init__(name="pacer", daemon=True)
        self._app = app
        self._clients = clients
        self._worker = worker
        self._threads = threads
        self._stop_asked = threading.Event()

    def stop(self) -> None:
        """Finish the turn that is under way and ring no more."""
        self._stop_asked.set()
        self.join(timeout=10)

    def run(self) -> None:
        """Take the turns of all clients as they come."""
        turns = dict.fromkeys(self._clients.names(), 0.0)
        while turns and not self._stop_asked.is_set():
            name = min(turns, key=turns.__getitem__)
            self._stop_asked.wait(max(0.0, turns[name] - time.monotonic()))
            turns[name] = time.monotonic() + self._turn(name)

    def _turn(self, name: str) -> float:
        """Ring once; returns seconds until the next turn."""
        try:
            client = self._clients[name]
            ring = client.governor.ring(self._worker, self._threads)
            started = time.monotonic()
            self._publish(client, ring)
            if ring.sweep:
                self._sweep(client)
            if ring.hungry:
                self._open(client, ring.hungry)
            return max(0.0, ring.turn_s - (time.monotonic() - started))
        except HeadgateError as error:
            logger.warning("client %s is not rung for now: %s", name, error)
        except Exception:  # a pacer that ends would strand its client
            logger.exception("client %s was not rung", name)
        return AWAY_S

    def _publish(self, client: Client, ring: Ring) -> None:
        if not ring.bells:
            return
        try:
            named = [(KINDS[client.ledger.about(it.job)["kind"]].task, it) for it in ring.bells]
            bells.publish(self._app, client.name, named)
        except (OSError, KombuError) as error:
            logger.warning("the broker is away, the bells go back (%s)", type(error).__name__)
            for bell in ring.bells:
                client.governor.give_back(bell.key, bell.step)
            self._stop_asked.wait(AWAY_S)
        boundaries.reach("published")

    def _open(self, client: Client, job: str) -> None:
        try:
            jobs.open_next_page(client, job)
        except HeadgateError:
            raise
        except Exception:  # a page that cannot be opened must not stop the other jobs
            logger.exception("client %s: a page of job %s cannot be opened", client.name, job)
            client.store.srem(client.keys.hungry, job)

    def _sweep(self, client: Client) -> None:
        given_back, taken_over, ended = client.governor.sweep()
        if given_back or taken_over:
            logger.warning(
                "client %s: %d bells unanswered, %d leases expired, %d transactions ended for it",
                client.name,
                given_back,
                taken_over,
                ended,
            )
