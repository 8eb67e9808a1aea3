"""Starts the dispatcher in every Celery worker of our application.

The application's setting `imports` names this module, so that Celery imports it before it builds a
worker from its steps: in `headgate worker` and in `celery -A workers.app worker` alike.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from celery import bootsteps

from orchestration.dispatch.dispatcher import Dispatcher
from orchestration.dispatch.looks import find_work
from orchestration.dispatch.restarts import restarts
from orchestration.notify import Notifier
from workers.app import app
from workers.broker.names import pool_of
from workers.clients import clients
from workers.errors import ConfigError, HeadgateError, TokenUnavailable
from workers.governor.flows import MEDIA_POOL
from workers.http.connection import count_descriptors, require_descriptors
from workers.http.idle import most_idle

if TYPE_CHECKING:
    from celery.worker import WorkController

#: Seconds for which a thread may compute while others wait. Python's own 5 ms are too long: a bell
#: passes through several threads, and would wait for tens of them while a page is opened.
SWITCH_S: Final = 0.001

_logger = logging.getLogger(__name__)


class DispatcherStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Runs the dispatcher beside the pool, from the first connection until the drain begins."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: WorkController, **options: object) -> None:
        super().__init__(parent, **options)
        self.dispatcher: Dispatcher | None = None
        self.notifier: Notifier | None = None

    def start(self, parent: WorkController) -> None:
        """Begin to ring, or end the worker with one sentence and its exit code.

        Celery would log any other error with a traceback.
        """
        try:
            self._start(parent)
        except HeadgateError as error:
            restarts.last_words = str(error)
            _logger.critical("the worker cannot start: %s", error)
            raise SystemExit(error.exit_code) from None

    def _start(self, parent: WorkController) -> None:
        """Begin to ring.

        Raises:
            ConfigError: the worker takes from the queues of both pools, or of none; or it may not
                open as many files as its threads need.
        """
        pool = pool_of(clients().settings.store.namespace, parent.app.amqp.queues.consume_from)
        require_descriptors(count_descriptors(parent.concurrency))
        sys.setswitchinterval(SWITCH_S)
        if pool == MEDIA_POOL:
            # A file that waits in this process behind others may wait for long.
            parent.app.conf.worker_disable_prefetch = True
        else:
            threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
        self.dispatcher = Dispatcher(
            parent.app, clients(), parent.hostname, threads=parent.concurrency, pool=pool
        )
        self.dispatcher.start()
        if clients().settings.notify.is_on:
            self.notifier = Notifier(clients())
            self.notifier.start()

    def stop(self, parent: WorkController) -> None:
        """Ring no more. Bells that are out are answered, or the sweep requeues them."""
        del parent
        if self.dispatcher:
            self.dispatcher.stop()
        if self.notifier:
            self.notifier.stop()


def _warm_up() -> None:
    """Open what the first call of each client with work would wait for; that reports what fails.

    There are at most as many as the process keeps idle connections.
    """
    with suppress(HeadgateError):
        store, settings = clients().open_installation().store, clients().settings
        names = find_work(store, settings.store.namespace, clients().names())
        for name in names[: most_idle(settings.worker.concurrency)]:
            with suppress(HeadgateError):
                _warm_up_client(name)


def _warm_up_client(name: str) -> None:
    try:
        clients()[name].warm_up()
    except (TokenUnavailable, ConfigError) as error:
        clients().obstacles[name].note(str(error))
        raise


app.steps["worker"].add(DispatcherStep)
