"""The dispatcher: a thread in each worker that rings, publishes the bells, and fills the backlog.

There is no leader. The store gives each caller its turns, so that all dispatchers together tick
evenly, and every decision is one script. A dispatcher that dies takes nothing with it.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from kombu.exceptions import KombuError

from orchestration.dispatch import pages, publisher
from orchestration.dispatch.breaker_log import BreakerLog
from orchestration.dispatch.delays import Delays, Rests
from orchestration.dispatch.presence import Presence
from orchestration.kinds.registry import all_kinds
from workers import failpoints
from workers.broker.reception import reception
from workers.errors import (
    ConfigError,
    HeadgateError,
    LedgerDamaged,
    SchemaUnknown,
    TokenUnavailable,
)
from workers.governor.flows import CALLS_POOL, MEDIA_POOL, URGENT
from workers.governor.grants import Hindrance
from workers.governor.registry import WORKER_ID
from workers.http.route import ConnectFailed
from workers.store.connection import FULL, keep_embedded, room

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery

    from workers.clients import Client, Clients
    from workers.governor.grants import Bell, Ring

#: After a failure of store or broker the next turn comes so many seconds later.
RETRY_TURN_S: Final = 0.5
#: A tick opens several small pages until they hold so many transactions; a full page holds more.
TRANSACTIONS_A_TICK: Final = 25
#: Seconds until a job whose page could not be opened is tried again, and a warning is repeated.
REST_S: Final = 10.0
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
        self._app = app
        self._clients = clients
        self._presence = Presence(clients, worker, threads=threads, pool=pool)
        self._worker = f"{worker}/{self._presence.process.id}"  # of one name there may be two
        self._threads = threads
        self._pool = pool
        self._stop_asked = threading.Event()
        self._resting = Rests()  #: jobs whose pages cannot be opened
        self._warned = Rests()  #: jobs and clients of which something was logged
        self._breaker_log = BreakerLog()
        self._delays = Delays()  #: of jobs whose rows cannot be done here
        self._flows_due_s: dict[str, float] = {}  #: of each client: when its flows are looked at
        self._store_due_s = time.monotonic() + STORE_CHECK_S

    def stop(self) -> None:
        """Finish the turn that is under way and ring no more."""
        self._stop_asked.set()
        self.join(timeout=10)
        self._presence.end()

    def run(self) -> None:
        """Take the turns of all clients as they come."""
        turns = dict.fromkeys(self._clients.names(), 0.0)
        while not self._stop_asked.is_set():
            if not self._is_present() or not turns:
                self._stop_asked.wait(RETRY_TURN_S)
            else:
                name = min(turns, key=turns.__getitem__)
                self._stop_asked.wait(max(0.0, turns[name] - time.monotonic()))
                turns[name] = time.monotonic() + self.take_turn(name)
            self._keep_store()

    def _is_present(self) -> bool:
        """Keep this worker in the registry; nothing is rung by one that is not there."""
        try:
            self._presence.keep()
        except HeadgateError as error:
            self._warn_once("presence", f"nothing is rung for now: {error}")
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

    def take_turn(self, name: str) -> float:
        """Ring once for the client of this name; returns seconds until the next turn."""
        try:
            self._presence.require_agreed(name)
            client = self._clients[name]
            if client.obstacle.why:
                self._look_again(client)
                return RETRY_TURN_S
            ring = client.governor().ring(self._worker, self._threads, self._pool)
            if ring.reclaimed:
                _warn_of_rollback(client.name, ring.reclaimed)
            started = time.monotonic()
            self._publish(client, ring)
            self._breaker_log.note(client, ring.open_breakers)
            if ring.sweep:
                self._sweep(client)
            self._define_again(client)
            if ring.needs_page and self._open_pages(client, ring.needs_page):
                return 0.0  # urgent work does not wait for the next turn
            return max(0.0, ring.turn_s - (time.monotonic() - started))
        except HeadgateError as error:
            self._warn_once(f"client {name}", f"client {name} is not rung for now: {error}")
        except Exception:  # a dispatcher that ended would strand its client
            _logger.exception("client %s was not rung", name)
        return RETRY_TURN_S

    def _look_again(self, client: Client) -> None:
        """Look whether what keeps this worker from the client's calls is gone; others ring."""
        if client.obstacle.claim_look():
            # Not in this thread: it may wait for the token endpoint.
            look = partial(_look_for_obstacle, client, self._pool)
            threading.Thread(target=look, name="look-again", daemon=True).start()

    def _define_again(self, client: Client) -> None:
        """Define now and then what is missing of the flows in which something waits."""
        if time.monotonic() < self._flows_due_s.get(client.name, 0.0):
            return
        self._flows_due_s[client.name] = time.monotonic() + REST_S
        try:
            for name in pages.define_again(client):
                _logger.warning("client %s: flow %s was defined anew", client.name, name)
        except HeadgateError:
            raise
        except Exception as error:  # noqa: BLE001 -- a row may be damaged in any way
            why = f"client {client.name}: a flow cannot be defined ({type(error).__name__})"
            self._warn_once(f"flows {client.name}", f"{why}; headgate doctor looks at the ledger")

    def _publish(self, client: Client, ring: Ring) -> None:
        if not ring.bells:
            return
        try:
            bells, unknown = self._name_tasks(client, ring.bells)
            if bells:
                publisher.publish(self._app, client.keys.namespace, client.name, bells)
        except (OSError, KombuError) as error:
            _logger.warning("the broker is away, the bells are requeued (%s)", type(error).__name__)
            for bell in ring.bells:
                client.governor().requeue(bell.key, bell.step)
            self._stop_asked.wait(RETRY_TURN_S)
        else:
            failpoints.reach("published")
            for bell in unknown:
                delay_s = self._delays.next_s(bell.job)
                client.governor().requeue(bell.key, bell.step, Hindrance(delay_s=delay_s))

    def _name_tasks(
        self, client: Client, bells: list[Bell]
    ) -> tuple[list[tuple[str, Bell]], list[Bell]]:
        """The bells with their tasks, and those whose job this release does not know or read."""
        named, unknown = [], []
        for bell in bells:
            try:
                kind_name = client.ledger.job_params(bell.job).kind
            except (SchemaUnknown, LedgerDamaged) as error:
                unknown.append(bell)
                self._warn_once(bell.job, str(error))
                continue
            kind = all_kinds().get(kind_name)
            if task := kind and (kind.steps.local_task if bell.local else kind.steps.task):
                named.append((task, bell))
            else:
                unknown.append(bell)
                self._warn_once(
                    bell.job, f"job {bell.job} is of kind {kind_name!r}, which this worker lacks"
                )
        return named, unknown

    def _open_pages(self, client: Client, job: str) -> bool:
        """Open the job's next pages, as many as a tick takes; returns whether that is urgent.

        One page mostly suffices, but a page may hold a single batch. A job whose page cannot be
        opened must not stop the other jobs.
        """
        if self._resting.rests(job):
            return False
        left, most = room(client.store)
        if most and left < 0:
            self._rest(job, f"the store is above {FULL:.0%} of its memory: job {job} waits")
            return False
        try:
            transactions, until_s = 0, time.monotonic() + client.fleet.worker.tick_s
            while (of_page := pages.open_next_page(client, job)) is not None:
                transactions += of_page
                if transactions >= TRANSACTIONS_A_TICK or time.monotonic() >= until_s:
                    break
            return transactions > 0 and client.ledger.job_params(job).lane == URGENT
        except (SchemaUnknown, LedgerDamaged) as error:
            self._rest(job, f"job {job}: its next page cannot be opened: {error}")
            return False
        except HeadgateError:
            raise
        except Exception as error:  # noqa: BLE001 -- a page may be damaged in any way
            why = f"job {job}: its next page cannot be opened ({type(error).__name__})"
            self._rest(job, f"{why}; headgate doctor looks at the ledger")
            return False

    def _rest(self, job: str, why: str) -> None:
        """Warn of a job whose page cannot be opened, and leave it alone for a while."""
        self._warn_once(job, why)
        self._resting.rest(job, REST_S)

    def _warn_once(self, subject: str, text: str) -> None:
        """Log what is wrong with a job or client, once in a while."""
        if self._warned.rests(subject):
            return
        self._warned.rest(subject, REST_S)
        _logger.warning("%s", text)

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


def _look_for_obstacle(client: Client, pool: str) -> None:
    """Look whether something keeps this pool from the client's calls, and note it."""
    why = client.obstacle.why
    try:
        why = _find_obstacle(client, pool)
    except HeadgateError:
        pass  # the look said nothing
    except Exception:  # a look that ended here would be the last one
        _logger.exception("client %s: what kept this worker from its calls stays", client.name)
    if why:
        client.obstacle.note(why)
    else:
        client.obstacle.clear()


def _find_obstacle(client: Client, pool: str) -> str:
    """What keeps this pool, and not every other one, from the client's calls; "" = nothing.

    Raises:
        HeadgateError: nobody knows.
    """
    try:
        client.require_bound()
        client.governor()
        if pool == MEDIA_POOL:
            client.transfers().require_way()
        elif why := _find_broken_way(client):
            return why
        else:
            client.tokens().get()
    except ConfigError as error:
        return str(error)
    except TokenUnavailable as error:
        return str(error) if error.refused or error.overdue else ""
    return ""


def _find_broken_way(client: Client) -> str:
    """Why this process cannot connect while others can; "" = it can, or nobody can."""
    try:
        client.caller().reach()
    except ConnectFailed as error:
        return str(error) if client.governor().fails_alone(WORKER_ID) else ""
    client.governor().note_connected(WORKER_ID)
    return ""
