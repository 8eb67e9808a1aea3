"""Keeps one Celery worker process alive: starts it again when it dies, drains it when asked.

The process is forked, so that a new one works at once: all modules are loaded, and nothing is open
yet. The supervisor has no threads and no connections of its own. A worker drains when its
supervisor is gone, and a supervisor drains when the process that `HEADGATE_PARENT` names is gone.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click
from celery.utils.nodenames import nodename

from workers.app import app
from workers.broker.names import queue_of
from workers.clients import clients
from workers.errors import HeadgateError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

#: A process that lived longer than this is started again at once, others after a growing wait.
HEALTHY_S: Final = 5.0
#: The longest wait before a process is started again, seconds.
LONGEST_WAIT_S: Final = 10.0
#: Seconds between two looks of a supervisor at its worker, and of a worker at its supervisor.
CHILD_CHECK_S: Final = 0.1
SUPERVISOR_CHECK_S: Final = 1.0
#: The signals that ask for a drain.
DRAIN_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: The environment variable with the process id of whoever started a supervisor that must not
#: outlive it.
PARENT_VARIABLE: Final = "HEADGATE_PARENT"


def run_celery_worker(name: str, concurrency: int, loglevel: str, pool: str) -> int:
    """Run a Celery worker in this process until it is drained; returns its exit code."""
    settings = clients().settings  # a wrong configuration ends here, in one sentence
    worker = app.Worker(
        hostname=nodename(name, socket.gethostname()),
        queues=[queue_of(settings.store.namespace, pool)],
        concurrency=concurrency,
        loglevel=loglevel,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


class Supervisor:
    """One child process, watched until it ends because somebody asked for it.

    Args:
        work: What the child process does; returns its exit code.
    """

    def __init__(self, work: Callable[[], int]) -> None:
        self._work = work
        self._child = 0
        self._asked = False
        self._parent = os.environ.get(PARENT_VARIABLE)

    def run(self) -> int:
        """Watch until the worker has drained, or cannot work as it is configured.

        The worker drains on SIGTERM and SIGINT, and when the process named by `HEADGATE_PARENT` is
        gone.

        Returns:
            The worker's exit code.
        """
        for number in DRAIN_SIGNALS:
            signal.signal(number, self._drain)
        deaths = 0
        while not self._asked:
            started = time.monotonic()
            self._fork()
            if self._asked:  # the signal came before the process was made
                os.kill(self._child, signal.SIGTERM)
            code = self._watch()
            if self._asked:
                return max(code, 0)
            if code == UsageError.exit_code:  # starting it again would change nothing
                return code
            deaths = 0 if time.monotonic() - started > HEALTHY_S else deaths + 1
            click.echo(f"headgate: the worker process ended ({code}), starting it again", err=True)
            self._wait(min(2.0 ** (deaths - 2), LONGEST_WAIT_S) if deaths > 1 else 0.0)
        return 0

    def _fork(self) -> None:
        supervisor = os.getpid()
        # The new process must not meet a signal with our handlers: it would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, DRAIN_SIGNALS)
        self._child = os.fork()
        if self._child:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, DRAIN_SIGNALS)
            return
        for number in DRAIN_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, DRAIN_SIGNALS)
        threading.Thread(target=_drain_without_supervisor, args=[supervisor], daemon=True).start()
        code = 1
        try:
            code = self._work()
        except HeadgateError as error:
            click.echo(f"headgate: {error}", err=True)
            code = error.exit_code
        except BaseException:  # noqa: BLE001 -- nothing of the supervisor's may run in this process
            traceback.print_exc()
        finally:
            os._exit(code)

    def _watch(self) -> int:
        """Wait for the end of the worker; returns its exit code."""
        while True:
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                self._child = 0
                return os.waitstatus_to_exitcode(status)
            self._drain_without_parent()
            time.sleep(CHILD_CHECK_S)

    def _wait(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not self._asked and time.monotonic() < ends:
            self._drain_without_parent()
            time.sleep(CHILD_CHECK_S)

    def _drain_without_parent(self) -> None:
        """Drain when whoever started this process is gone."""
        if self._parent and not self._asked and str(os.getppid()) != self._parent:
            os.kill(os.getpid(), signal.SIGTERM)

    def _drain(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True
        if self._child:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self._child, signal.SIGTERM)


def _drain_without_supervisor(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(SUPERVISOR_CHECK_S)
    os.kill(os.getpid(), signal.SIGTERM)
