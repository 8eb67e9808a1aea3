"""Opens pages of jobs in a thread of its own: no ring waits for a page of another client."""

from __future__ import annotations

import logging
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from orchestration.dispatch import pages
from orchestration.dispatch.delays import Rests, Warnings
from workers.errors import HeadgateError, LedgerDamaged, SchemaUnknown
from workers.store.connection import FULL, room

if TYPE_CHECKING:
    from workers.clients import Client, Clients

#: Several small pages of a job are opened at once until they hold so many transactions; a full page
#: holds more.
MOST_AT_ONCE: Final = 25
#: Seconds until a job whose page could not be opened is tried again.
REST_S: Final = 10.0
#: Seconds between two looks whether to stop.
LOOK_S: Final = 0.5

_logger = logging.getLogger(__name__)


class PageOpener(threading.Thread):
    """Opens the pages that rings asked for. What is opened then wakes the dispatchers by itself.

    Args:
        clients: Whose jobs.
    """

    def __init__(self, clients: Clients) -> None:
        super().__init__(name="page-opener", daemon=True)
        self._clients = clients
        self._asked: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._waiting: set[str] = set()  #: jobs that stand in it: each stands there once
        self._stop_asked = threading.Event()
        self._resting = Rests()  #: jobs whose pages cannot be opened
        self._warnings = Warnings(_logger)

    def ask(self, client: str, job: str) -> None:
        """Open the next page of this job soon."""
        if job not in self._waiting:
            self._waiting.add(job)
            self._asked.put((client, job))

    def stop(self) -> None:
        """Finish the page that is being opened, and open no more."""
        self._stop_asked.set()

    def run(self) -> None:
        """Open pages as they are asked for."""
        while not self._stop_asked.is_set():
            self.open_asked(LOOK_S)

    def open_asked(self, timeout_s: float) -> None:
        """Open what was asked for first, if that happens within so many seconds.

        A job whose page cannot be opened must not stop the other jobs.
        """
        try:
            name, job = self._asked.get(timeout=timeout_s)
        except Empty:
            return
        self._waiting.discard(job)
        if self._resting.rests(job):
            return
        try:
            self._open(self._clients[name], job)
        except (SchemaUnknown, LedgerDamaged) as error:
            self._rest(job, f"job {job}: its next page cannot be opened: {error}")
        except HeadgateError as error:
            self._warnings.warn(name, f"client {name}: no page is opened for now: {error}")
        except Exception as error:  # noqa: BLE001 -- a page may be damaged in any way
            why = f"job {job}: its next page cannot be opened ({type(error).__name__})"
            self._rest(job, f"{why}; headgate doctor looks at the ledger")

    def _open(self, client: Client, job: str) -> None:
        """Open the job's next pages. One mostly suffices, but a page may hold a single batch."""
        left, most = room(client.store)
        if most and left < 0:
            self._rest(job, f"the store is above {FULL:.0%} of its memory: job {job} waits")
            return
        transactions, until_s = 0, time.monotonic() + client.fleet.worker.tick_s
        while (of_page := pages.open_next_page(client, job)) is not None:
            transactions += of_page
            if transactions >= MOST_AT_ONCE or time.monotonic() >= until_s:
                break

    def _rest(self, job: str, why: str) -> None:
        self._warnings.warn(job, why)
        self._resting.rest(job, REST_S)
