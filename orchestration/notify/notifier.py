"""The thread that looks for events and delivers notices. Work waits for neither.

It keeps nothing in memory: what it has noted, and what is to be delivered, is in the store.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Final

from orchestration.notify.delivery import Undelivered, one_try, open_delivery
from orchestration.notify.outbox import MOST_TRIES, Outbox
from orchestration.notify.watch import Watch
from workers.errors import HeadgateError
from workers.governor.registry import Configuration
from workers.store.connection import open_store

if TYPE_CHECKING:
    from orchestration.notify.delivery import Delivery
    from orchestration.notify.events import Notice
    from workers.clients import Clients

#: Seconds between two looks of all workers together, and of one worker at what is to be delivered.
LOOK_S: Final = 5.0
#: Seconds for which the end of a worker waits for a try that is under way.
PATIENCE_S: Final = 2.0
#: And for the end of a command that was killed.
KILL_S: Final = 0.5

_logger = logging.getLogger(__name__)


class Notifier(threading.Thread):
    """Looks and delivers until it is stopped; there is one in each worker where [notify] is set.

    Args:
        clients: Whose events they are.
    """

    def __init__(self, clients: Clients) -> None:
        super().__init__(name="notifier", daemon=True)
        self._clients = clients
        self._configuration = Configuration.of(clients.settings.clients).digest
        self._stop_asked = threading.Event()
        self._delivery: Delivery | None = None
        self._warning = ""  #: the newest one, which is not repeated

    def stop(self) -> None:
        """End soon; what is not delivered is left to others."""
        self._stop_asked.set()
        self.join(PATIENCE_S)
        if self.is_alive() and self._delivery:
            self._delivery.cancel()
            self.join(KILL_S)

    def run(self) -> None:
        """Take turns until `stop`."""
        while not self._stop_asked.is_set():
            try:
                self.take_turn()
            except HeadgateError as error:
                self._warn(f"there are no notices for now: {error}")
            except Exception:  # a thread that ended would tell nothing any more
                _logger.exception("notices were not looked at")
            else:
                self._warning = ""
            self._stop_asked.wait(LOOK_S)

    def take_turn(self) -> None:
        """Look if it is this worker's turn, and deliver what waits, for about `LOOK_S`.

        Raises:
            HeadgateError: the store gives no answer, or [notify] is wrong.
        """
        outbox, watch = self._opened
        if outbox.take_turn(self._configuration, LOOK_S):
            watch.look()
        ends_s = time.monotonic() + LOOK_S
        for notice in outbox.waiting():
            if self._stop_asked.is_set() or time.monotonic() >= ends_s:
                return
            if claimed := outbox.claim(notice):
                self._deliver(outbox, claimed)

    @cached_property
    def _opened(self) -> tuple[Outbox, Watch]:
        """The outbox, and who looks for it; raises as `take_turn` until the store is there."""
        settings = self._clients.settings.store
        store = open_store(settings)
        outbox = Outbox(store, settings.namespace)
        return outbox, Watch(self._clients, store, outbox)

    def _deliver(self, outbox: Outbox, notice: Notice) -> None:
        """Try once; what fails comes again when its claim is over, `MOST_TRIES` times at most."""
        try:
            with one_try():
                self._delivery = self._delivery or open_delivery(self._clients.settings.notify)
                self._delivery.deliver(notice)
        except (Undelivered, HeadgateError) as error:
            if self._stop_asked.is_set():
                outbox.let_go(notice)
                return
            is_last = notice.tries >= MOST_TRIES
            _logger.warning(
                "notice %s %s: try %d of %d failed: %s%s",
                notice.event,
                notice.id,
                notice.tries,
                MOST_TRIES,
                error,
                "; it is given up" if is_last else "",
            )
            if is_last:
                outbox.finish(notice)
        else:
            outbox.finish(notice)

    def _warn(self, text: str) -> None:
        """Log what is wrong, once."""
        if text != self._warning:
            self._warning = text
            _logger.warning("%s", text)
