"""The dispatcher: a thread in each worker that rings and publishes the bells.

There is no leader. Of each client one process rings at a time, and the store says when that is next
needed; what makes work wakes all of them. A dispatcher that dies takes nothing with it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from orchestration.dispatch import pages
from orchestration.dispatch.bells import Bells
from orchestration.dispatch.breaker_log import BreakerLog
from orchestration.dispatch.delays import Warnings
from orchestration.dispatch.looks import count_out, find_due, find_work
from orchestration.dispatch.obstacle_look import look_again
from orchestration.dispatch.page_opener import PageOpener
from orchestration.dispatch.presence import Presence
from orchestration.dispatch.shares import Shares, Use
from orchestration.dispatch.turns import Turns
from orchestration.dispatch.wakes import Wakes
from workers.broker.reception import reception
from workers.errors import HeadgateError
from workers.governor.flows import CALLS_POOL, MEDIA_POOL
from workers.store.connection import keep_embedded, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery

    from workers.clients import Client, Clients
    from workers.governor.grants import Ring

#: After a failure of store or broker the next turn comes so many seconds later.
RETRY_TURN_S: Final = 0.5
#: Longest wait for a wake-up: heartbeats and checks come between.
WAIT_S: Final = 0.25
#: Seconds between two looks for work of which no wake-up came.
LOOK_EVERY_S: Final = 2.0
#: Seconds between two looks for work of which no script noted that a ring is needed, as those of an
#: earlier release do not.
LOOK_WHOLE_S: Final = 30.0
#: A store that went back by a failover forgot no more seconds than that.
REMEMBERS_S: Final = 120.0
#: Seconds between two looks for definitions of flows that are missing.
FLOWS_EVERY_S: Final = 10.0
#: Seconds between two checks that an embedded store is there.
STORE_CHECK_S: Final = 3.0

_logger = logging.getLogger(__name__)


class Dispatcher(threading.Thread):
    """Rings for every configured client until it is stopped.

    Args:
        app: The application whose broker carries the bells.
        clients: For whom to ring.
        worker: The name of this worker.
        threads: How many steps this worker can do at once.
        pool: What its threads do: one of `flows.POOLS`.
    """

    def __init__(
        self, app: Celery, clients: Clients, worker: str, *, threads: int, pool: str = CALLS_POOL
    ) -> None:
        super().__init__(name="dispatcher", daemon=True)
        self._clients = clients
        self._presence = Presence(clients, worker, threads=threads, pool=pool)
        self._worker = f"{worker}/{self._presence.process.id}"  # of one name there may be two
        self._threads = threads
        self._pool = pool
        self._stop_asked = threading.Event()
        self._warnings = Warnings(_logger)
        self._breaker_log = BreakerLog()
        self._bells = Bells(app, self._warnings)
        self._turns = Turns(self._presence.process.id)
        self._shares = {CALLS_POOL: Shares(grows=True), MEDIA_POOL: Shares(grows=False)}
        self.page_opener = PageOpener(clients)
        self._wakes: Wakes | None = None
        self._look_due_s = 0.0  #: when it looks for work of which no wake-up came
        self._look_whole_due_s = 0.0
        self._flows_due_s: dict[str, float] = {}  #: of each client: when its flows are looked at
        self._store_due_s = time.monotonic() + STORE_CHECK_S

    def stop(self) -> None:
        """Finish the turn that is under way and ring no more."""
        self._stop_asked.set()
        self.page_opener.stop()
        self.join(timeout=10)
        self._presence.end()

    def run(self) -> None:
        """Take the turns of all clients as they come."""
        self.page_opener.start()
        while not self._stop_asked.is_set():
            if not (self._is_present() and self._ring_or_wait()):
                self._stop_asked.wait(RETRY_TURN_S)
            self._keep_store()
        self._step_down()

    def _step_down(self) -> None:
        """Let others ring at once for the clients for which this process did."""
        if self._wakes:
            self._wakes.close()
        try:
            for name in self._turns.owned:
                self._clients[name].governor().step_down(self._worker, self._pool)
        except HeadgateError as error:
            _logger.warning("others ring in a moment only: %s", error)

    def _ring_or_wait(self) -> bool:
        """Ring for the client whose turn it is, or wait for that, or to be woken.

        Returns:
            Whether that went well; if not, the reason is logged.
        """
        try:
            now_s = time.monotonic()
            if now_s >= self._look_due_s:
                self._look_for_work()
            first = self._turns.first
            if first and first[1] <= now_s:
                self._ring_for(first[0])
            else:
                self._wait(min(WAIT_S, first[1] - now_s) if first else WAIT_S)
        except HeadgateError as error:
            self._warnings.warn("wait", f"nothing is rung for now: {error}")
            return False
        except Exception:  # a dispatcher that ended would strand its clients
            _logger.exception("nothing was rung")
            return False
        return True

    def _ring_for(self, name: str) -> None:
        owns, next_s = self.take_turn(name)
        now_s, live = time.monotonic(), self._presence.live
        self._turns.note(name, owns=owns, now_s=now_s, next_s=next_s, live=live)

    def _wait(self, seconds: float) -> None:
        store = self._clients.settings.store
        self._wakes = self._wakes or Wakes(open_store(store), store.namespace)
        woken = self._wakes.wait(seconds)
        now_s = time.monotonic()
        if woken is None:  # nobody knows what was missed: another server may be the store now
            self._look_due_s = self._look_whole_due_s = now_s
            woken = self._turns.seen_since(now_s - REMEMBERS_S)
        self._turns.wake(woken, now_s, self._presence.live)

    def _look_for_work(self) -> None:
        """The net under wake-ups that were lost, or came before this worker was there."""
        now_s, look = time.monotonic(), find_due
        self._look_due_s = now_s + LOOK_EVERY_S
        if now_s >= self._look_whole_due_s:
            self._look_whole_due_s, look = now_s + LOOK_WHOLE_S, find_work
        names = self._turns.without_turn(self._clients.names(), self._look_due_s)
        store = self._clients.settings.store
        with_work = look(open_store(store), store.namespace, names)
        self._turns.wake(with_work, time.monotonic(), self._presence.live)

    def _is_present(self) -> bool:
        """Keep this worker in the registry; nothing is rung by one that is not there."""
        try:
            self._presence.keep()
        except HeadgateError as error:
            self._warnings.warn("presence", f"nothing is rung for now: {error}")
            return False
        except Exception:  # a dispatcher that ended would strand its clients
            _logger.exception("this worker is not in the registry")
            return False
        # Bells that it rang would be for others, who ring themselves, and for its own idle threads.
        return not reception.is_refused

    def _keep_store(self) -> None:
        if time.monotonic() < self._store_due_s:
            return
        self._clients.idle.close_old()  # also those of clients that have no work any more
        try:
            keep_embedded(self._clients.settings.store)
        except HeadgateError as error:
            _logger.warning("%s", error)
        self._store_due_s = time.monotonic() + STORE_CHECK_S

    def take_turn(self, name: str) -> tuple[bool, float | None]:
        """Ring once for the client of this name.

        Returns:
            Whether this process is the one that rings for it, and the seconds until it is to ring
            again; None: not before it is woken.
        """
        try:
            self._presence.require_agreed(name)
            client = self._clients[name]
            if client.obstacle.why:
                look_again(client, self._pool)  # others ring
                return False, RETRY_TURN_S
            started_s = time.monotonic()
            ring = self._ring(client)
            if not self._bells.publish(client, ring.bells):
                self._stop_asked.wait(RETRY_TURN_S)
            self._breaker_log.note(client, ring.open_breakers)
            if ring.sweep:
                self._sweep(client)
            if ring.owns:
                self._define_again(client)
            if ring.needs_page:
                self.page_opener.ask(name, ring.needs_page)
            if ring.turn_s is None:
                return ring.owns, None
            return ring.owns, max(0.0, ring.turn_s - (time.monotonic() - started_s))
        except HeadgateError as error:
            self._warnings.warn(f"client {name}", f"client {name} is not rung for now: {error}")
        except Exception:  # a dispatcher that ended would strand its client
            _logger.exception("client %s was not rung", name)
        return False, RETRY_TURN_S

    def _ring(self, client: Client) -> Ring:
        """Ring for as many as may be out beside those of other clients."""
        now_s, calls = time.monotonic(), self._shares[CALLS_POOL]
        if names := calls.to_count(client.name, now_s):
            calls.recount(count_out(client.store, client.keys.namespace, names), now_s)
        most = {pool: shares.most(client.name, now_s) for pool, shares in self._shares.items()}
        ring = client.governor().ring(self._worker, self._threads, self._pool, most)
        if ring.reclaimed:
            _warn_of_rollback(client.name, ring.reclaimed)
        for pool, shares in self._shares.items():
            waits = ring.turn_s is not None and pool == CALLS_POOL
            out, threads = ring.out[pool], ring.threads[pool]
            use = Use(out=out, threads=threads, owns=ring.owns, waits=waits, at_s=now_s)
            shares.note(client.name, use, sum(bell.pool == pool for bell in ring.bells))
        return ring

    def _define_again(self, client: Client) -> None:
        """Define now and then what is missing of the flows in which something waits."""
        if time.monotonic() < self._flows_due_s.get(client.name, 0.0):
            return
        self._flows_due_s[client.name] = time.monotonic() + FLOWS_EVERY_S
        try:
            for name in pages.define_again(client):
                _logger.warning("client %s: flow %s was defined anew", client.name, name)
        except HeadgateError:
            raise
        except Exception as error:  # noqa: BLE001 -- a row may be damaged in any way
            why = f"client {client.name}: a flow cannot be defined ({type(error).__name__})"
            text = f"{why}; headgate doctor looks at the ledger"
            self._warnings.warn(f"flows {client.name}", text)

    def _sweep(self, client: Client) -> None:
        requeued, taken_over, ended = client.governor().sweep()
        if requeued or taken_over:
            _logger.warning(
                "client %s: %d bells unanswered, %d leases expired, %d transactions ended for it",
                client.name,
                requeued,
                taken_over,
                ended,
            )


def _warn_of_rollback(client: str, reclaimed: Mapping[str, int]) -> None:
    """Say that the store had gone back, and what became of the calls that it had forgotten."""
    _logger.warning(
        "client %s: the store had forgotten %d calls that this worker sent, after a failover "
        "perhaps; %d of them are out again, the others are treated as maybe sent",
        client,
        sum(reclaimed.values()),
        reclaimed.get("SENT", 0) + reclaimed.get("KNOWN", 0),
    )
