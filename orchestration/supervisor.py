"""Keeps one Celery worker process alive: starts it again when it dies, drains it when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import click

from workers.app import QUEUE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

#: A worker that lived longer than this is started again at once, others after a growing wait.
HEALTHY_S = 5.0
#: The longest wait before a worker is started again.
LONGEST_WAIT_S = 10.0


def command(name: str, concurrency: int, more: Sequence[str] = ()) -> list[str]:
    """The Celery worker that is supervised."""
    return [
        sys.executable, "-m", "celery", "-A", "workers.app", "worker",
        "--queues", QUEUE, "--hostname", f"{name}@%h", "--concurrency", str(concurrency), *more,
    ]  # fmt: skip


class Supervisor:
    """One child process, watched until it ends because somebody asked for it."""

    def __init__(self, arguments: Sequence[str], concurrency: int) -> None:
        self._arguments = list(arguments)
        self._environment = {**os.environ, "HEADGATE_WORKER__CONCURRENCY": str(concurrency)}
        self._child: subprocess.Popen[bytes] | None = None
        self._asked = threading.Event()

    def run(self) -> int:
        """Watch until a SIGTERM or SIGINT has drained the worker; returns its exit code."""
        signal.signal(signal.SIGTERM, self._drain)
        signal.signal(signal.SIGINT, self._drain)
        deaths = 0
        while True:
            started = time.monotonic()
            self._child = subprocess.Popen(self._arguments, env=self._environment)  # noqa: S603
            if self._asked.is_set():  # the signal came while the process was being made
                self._child.terminate()
            code = self._child.wait()
            if self._asked.is_set():
                return max(code, 0)
            deaths = 0 if time.monotonic() - started > HEALTHY_S else deaths + 1
            wait_s = min(2.0 ** (deaths - 1), LONGEST_WAIT_S) if deaths else 0.0
            click.echo(f"headgate: the worker process ended ({code}), starting it again", err=True)
            if self._asked.wait(wait_s):
                return 0

    def _drain(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked.set()
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
