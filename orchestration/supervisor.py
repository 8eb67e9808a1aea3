"""Keeps one Celery worker process alive: starts it again when it dies, drains it when asked.

The process is forked, so that a new one works at once: all modules are loaded, and nothing is open
yet. The supervisor has no threads and no connections of its own.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import click
from celery.utils.nodenames import default_nodename, host_format

from workers.app import QUEUE, app, clients

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

#: A process that lived longer than this is started again at once, others after a growing wait.
HEALTHY_S = 5.0
#: The longest wait before a process is started again.
LONGEST_WAIT_S = 10.0


def celery_worker(name: str, concurrency: int, loglevel: str) -> int:
    """Run a Celery worker in this process until it is drained; returns its exit code."""
    clients()  # a wrong configuration ends here, in one sentence
    worker = app.Worker(
        hostname=host_format(default_nodename(name)),
        queues=[QUEUE],
        concurrency=concurrency,
        loglevel=loglevel,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


class Supervisor:
    """One child process, watched until it ends because somebody asked for it."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._work = work
        self._child = 0
        self._asked = False

    def run(self) -> int:
        """Watch until a SIGTERM or SIGINT has drained the worker; returns its exit code."""
        signal.signal(signal.SIGTERM, self._drain)
        signal.signal(signal.SIGINT, self._drain)
        deaths = 0
        while not self._asked:
            started = time.monotonic()
            self._child = self._fork()
            if self._asked:  # the signal came while the process was being made
                os.kill(self._child, signal.SIGTERM)
            _, status = os.waitpid(self._child, 0)
            code, self._child = os.waitstatus_to_exitcode(status), 0
            if self._asked:
                return max(code, 0)
            deaths = 0 if time.monotonic() - started > HEALTHY_S else deaths + 1
            click.echo(f"headgate: the worker process ended ({code}), starting it again", err=True)
            self._wait(min(2.0 ** (deaths - 2), LONGEST_WAIT_S) if deaths > 1 else 0.0)
        return 0

    def _fork(self) -> int:
        child = os.fork()
        if child:
            return child
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        code = 1
        try:
            code = self._work()
        finally:
            os._exit(code)

    def _wait(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not self._asked and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _drain(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True
        if self._child:
            os.kill(self._child, signal.SIGTERM)
