"""What a supervisor and its worker know of the ends of the worker's earlier processes.

The supervisor notes each end. A process that it forks afterwards knows them too, and says so in its
heartbeats.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from orchestration.text import format_count

if TYPE_CHECKING:
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
