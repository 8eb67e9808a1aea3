"""Keeps one Celery worker process alive: starts it again when it dies, drains it when asked.

The process is forked, so that a new one works at once: all modules are loaded, and nothing is open
yet. The supervisor has no threads and no connections of its own. A worker drains when its
supervisor is gone, and a supervisor drains when the process that `HEADGATE_PARENT` names is gone.
"""

from __future__ import annotations

import logging
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

from orchestration.dispatch.restarts import describe_end, explain, restarts, shorten
from workers.app import app
from workers.broker.names import queue_of
from workers.clients import clients
from workers.errors import HeadgateError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Report = Callable[[str], None]

#: A process that lived longer than this is started again at once, others after a growing wait.
HEALTHY_S: Final = 5.0
#: A worker of which a process lived longer than this has worked: what keeps it from starting now,
#: such as a configuration that is half-written, may pass.
WORKED_S: Final = 60.0
#: The longest wait before a process is started again, seconds.
LONGEST_WAIT_S: Final = 10.0
#: So many short lives in a row are a worker that cannot work.
FAILING: Final = 2
#: Seconds between two looks of a supervisor at its worker, and of a worker at its supervisor, and
#: between two reports that the worker cannot work.
CHILD_CHECK_S: Final = 0.1
SUPERVISOR_CHECK_S: Final = 1.0
REPORT_S: Final = 2.0
#: Bytes that a process may leave of why it ends; a pipe takes so many at once.
WORDS_BYTES: Final = 2000
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
    logging.getLogger("celery.worker").addFilter(shorten)
    worker.start()
    return int(worker.exitcode or 0)


class Supervisor:
    """One child process, watched until it ends because somebody asked for it.

    Args:
        work: What the child process does; returns its exit code.
        report: Told, while the worker cannot work, why: every few seconds.
    """

    def __init__(self, work: Callable[[], int], report: Report = lambda _: None) -> None:
        self._work = work
        self._report = report
        self._child = 0
        self._words = -1  #: the pipe in which the child process leaves why it ends
        self._deaths = 0  #: short lives in a row
        self._has_worked = False
        self._asked = False
        self._parent = os.environ.get(PARENT_VARIABLE)

    def run(self) -> int:
        """Watch until the worker has drained, or cannot work as it is configured from the start.

        The worker drains on SIGTERM and SIGINT, and when the process named by `HEADGATE_PARENT` is
        gone.

        Returns:
            The worker's exit code.
        """
        for number in DRAIN_SIGNALS:
            signal.signal(number, self._drain)
        while not self._asked:
            started = time.monotonic()
            try:
                self._fork()
            except OSError as error:
                code, end = 1, f"cannot be made ({str(error.strerror).lower()})"
            else:
                if self._asked:  # the signal came before the process was made
                    os.kill(self._child, signal.SIGTERM)
                code, end = self._watch()
            if self._asked:
                return max(code, 0)
            lived_s = time.monotonic() - started
            self._has_worked = self._has_worked or lived_s > WORKED_S
            if code == UsageError.exit_code and not self._has_worked:
                self._report(f"it cannot start: {end}")  # again would change nothing
                return code
            self._deaths = 0 if lived_s > HEALTHY_S else self._deaths + 1
            self._start_again_after(end)
        return 0

    def _start_again_after(self, end: str) -> None:
        """Say how the process ended, and wait the longer the more often it ended early."""
        restarts.note(end)
        click.echo(f"headgate: the worker process {end}; starting it again", err=True)
        wait_s = min(2.0 ** (self._deaths - 2), LONGEST_WAIT_S) if self._deaths > 1 else 0.0
        failing = f"its process {end}, soon after each start" if self._deaths >= FAILING else ""
        self._wait(wait_s, failing)

    def _fork(self) -> None:
        supervisor = os.getpid()
        self._words, words = os.pipe()
        # The new process must not meet a signal with our handlers: it would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, DRAIN_SIGNALS)
        try:
            self._child = os.fork()
        except OSError:
            self._forked(words)
            os.close(self._words)
            raise
        if self._child:
            self._forked(words)
            return
        for number in DRAIN_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, DRAIN_SIGNALS)
        threading.Thread(target=_drain_without_supervisor, args=[supervisor], daemon=True).start()
        code, why = 1, ""
        try:
            code = self._work()
            why = restarts.last_words
        except HeadgateError as error:
            click.echo(f"headgate: {error}", err=True)
            code, why = error.exit_code, str(error)
        except BaseException as error:  # noqa: BLE001 -- nothing of the supervisor's may run in this process
            why = explain(error)
            if not self._deaths:  # once is enough: it is started again, and may end so each time
                traceback.print_exc()
        finally:
            os.write(words, why.encode(errors="replace")[:WORDS_BYTES])
            os._exit(code)

    def _forked(self, words: int) -> None:
        """Leave to the new process what is its own."""
        os.close(words)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, DRAIN_SIGNALS)

    def _watch(self) -> tuple[int, str]:
        """Wait for the end of the worker; returns its exit code, and how and why it ended."""
        while True:
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                break
            self._drain_without_parent()
            time.sleep(CHILD_CHECK_S)
        self._child, why = 0, ""
        os.set_blocking(self._words, False)  # nobody writes any more
        with suppress(BlockingIOError):
            why = os.read(self._words, WORDS_BYTES).decode(errors="replace")
        os.close(self._words)
        code = os.waitstatus_to_exitcode(status)
        end = f"{ended} {describe_end(code)}"
        return code, f"{end} ({why})" if why else end

    def _wait(self, seconds: float, failing: str) -> None:
        """Wait before the worker is started again; `failing` says why it cannot work, "" = it may.

        That is reported at least once.
        """
        now_s = report_s = time.monotonic()
        ends_s = now_s + seconds
        while not self._asked:
            if failing and now_s >= report_s:
                self._report(failing)
                report_s = now_s + REPORT_S
            now_s = time.monotonic()
            if now_s >= ends_s:
                return
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
