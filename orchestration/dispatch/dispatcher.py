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

from orchestration.dispatch import pages, publisher
from orchestration.kinds.registry import all_kinds
from workers import failpoints
from workers.errors import HeadgateError
from workers.store.connection import FULL, keep_embedded, room

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

    from workers.clients import Client, Clients
    from workers.governor.governor import Bell, Ring

#: After a failure of store or broker the next turn comes so late.
AWAY_S = 0.5
#: Transactions that are let into the line in a beat if its time allows: as few pages hold them.
IN_A_BEAT = 25
#: A job whose page could not be opened is tried again after this, and a warning repeated.
AGAIN_S = 10.0
#: How often a pacer sees to it that an embedded store is there.
STORE_S = 3.0

logger = logging.getLogger(__name__)


class Pacer(threading.Thread):
    """Rings for every configured client until stopped."""

    def __init__(
        self, app: Celery, clients: Clients, worker: str, threads: int, pool: str = "calls"
    ) -> None:
        super().__init__(name="pacer", daemon=True)
        self._app = app
        self._clients = clients
        self._worker = worker
        self._threads = threads
        self._pool = pool
        self._stop_asked = threading.Event()
        self._not_before: dict[str, float] = {}
        self._store_due_s = time.monotonic() + STORE_S

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
            self._keep_store()

    def _keep_store(self) -> None:
        if time.monotonic() < self._store_due_s:
            return
        try:
            keep_embedded(self._clients.settings.store)
        except HeadgateError as error:
            logger.warning("%s", error)
        self._store_due_s = time.monotonic() + STORE_S

    def _turn(self, name: str) -> float:
        """Ring once; returns seconds until the next turn."""
        try:
            client = self._clients[name]
            ring = client.governor().ring(self._worker, self._threads, self._pool)
            started = time.monotonic()
            self._publish(client, ring)
            if ring.sweep:
                self._sweep(client)
            if ring.hungry and self._open(client, ring.hungry):
                return 0.0  # urgent work does not wait for the next turn
            return max(0.0, ring.turn_s - (time.monotonic() - started))
        except HeadgateError as error:
            self._warn(f"client {name}", f"client {name} is not rung for now: {error}")
        except Exception:  # a pacer that ends would strand its client
            logger.exception("client %s was not rung", name)
        return AWAY_S

    def _publish(self, client: Client, ring: Ring) -> None:
        if not ring.bells:
            return
        try:
            named = list(self._named(client, ring.bells))
            if named:
                publisher.publish(self._app, client.name, named)
        except (OSError, KombuError) as error:
            logger.warning("the broker is away, the bells go back (%s)", type(error).__name__)
            for bell in ring.bells:
                client.governor().give_back(bell.key, bell.step)
            self._stop_asked.wait(AWAY_S)
        failpoints.reach("published")

    def _named(self, client: Client, rung: list[Bell]) -> Iterator[tuple[str, Bell]]:
        """The bells with their tasks; those of a kind that a newer release knows go back."""
        for bell in rung:
            name = client.ledger.job_params(bell.job).kind
            kind = all_kinds().get(name)
            if task := kind and (kind.steps.act_task if bell.pool else kind.steps.task):
                yield task, bell
            else:
                self._warn(bell.job, f"job {bell.job} is of kind {name!r}, which this worker lacks")
                client.governor().give_back(bell.key, bell.step)

    def _open(self, client: Client, job: str) -> bool:
        """Open the job's next pages, as many as a beat takes; returns whether that is urgent.

        One page mostly suffices, but of batches there may be one on a page. What cannot be opened
        must not stop the other jobs.
        """
        if self._rests(job):
            return False
        left, most = room(client.store)
        if most and left < 0:
            self._warn(job, f"the store is above {FULL:.0%} of its memory: job {job} waits")
            return False
        try:
            opened, till = 0, time.monotonic() + client.fleet.worker.tick_s
            while (more := pages.open_next_page(client, job)) is not None:
                opened += more
                if opened >= IN_A_BEAT or time.monotonic() >= till:
                    break
            return opened > 0 and client.ledger.job_params(job).lane == 0
        except HeadgateError:
            raise
        except Exception as error:  # noqa: BLE001 -- a page may be damaged in any way
            why = f"job {job}: its next page cannot be opened ({type(error).__name__})"
            self._warn(job, f"{why}; headgate doctor looks at the ledger")
            return False

    def _warn(self, about: str, text: str) -> None:
        """Say what is wrong with a job or client, once in a while; a job's pages rest as long."""
        if self._rests(about):
            return
        self._not_before[about] = time.monotonic() + AGAIN_S
        logger.warning("%s", text)

    def _rests(self, about: str) -> bool:
        return time.monotonic() < self._not_before.get(about, 0.0)

    def _sweep(self, client: Client) -> None:
        given_back, taken_over, ended = client.governor().sweep()
        if given_back or taken_over:
            logger.warning(
                "client %s: %d bells unanswered, %d leases expired, %d transactions ended for it",
                client.name,
                given_back,
                taken_over,
                ended,
            )
