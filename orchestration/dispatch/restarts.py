"""What a supervisor and its worker know of the ends of the worker's earlier processes.

The supervisor notes each end. A process that it forks afterwards knows them too, and says so in its
heartbeats.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestration.text import format_count

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

#: Seconds in which so many ends are no accident any more, and a person should look.
WINDOW_S: Final = 600.0
MANY: Final = 3
#: Ends that are remembered.
REMEMBERED: Final = 100


def describe_end(code: int) -> str:
    """How a process ended, by its exit code; below 0 it is the number of a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    cause = ", maybe for lack of memory" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{cause}"


def explain(error: BaseException) -> str:
    """What a process ended with that nobody foresaw: no text of it, which may hold data."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


class Restarts:
    """The newest ends of a worker's processes.

    Args:
        clock: Seconds, for tests that hold the clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.last_words = ""  #: why this process ends, one sentence; "" = nobody said
        self._clock = clock
        self._ends: deque[tuple[float, str]] = deque(maxlen=REMEMBERED)

    def note(self, end: str) -> None:
        """Note that a process has just ended, and how or why: "was killed by SIGKILL"."""
        self._ends.append((self._clock(), end))

    @property
    def count(self) -> int:
        """How many ends are remembered."""
        return len(self._ends)

    @property
    def trouble(self) -> str:
        """What a person must know of it, one sentence; "" = nothing."""
        since_s = self._clock() - WINDOW_S
        ends = [end for at_s, end in self._ends if at_s >= since_s]
        if len(ends) < MANY:
            return ""
        return (
            f"its process ended {format_count(len(ends), 'time')} in {WINDOW_S / 60:.0f} minutes "
            f"and was started again: the last one {ends[-1]}; see its log"
        )


#: Those of this process, which its supervisor noted before it was forked.
restarts: Final = Restarts()


def shorten(record: logging.LogRecord) -> bool:
    """Filter of the log in which Celery says with a traceback what ends a worker.

    The traceback of a process that is started again, and ends again, is one sentence.
    """
    if record.exc_info and (error := record.exc_info[1]):
        restarts.last_words = explain(error)
        if restarts.count:
            record.msg, record.args = "the worker ends: %s", (restarts.last_words,)
            record.exc_info = record.exc_text = None
    return True
