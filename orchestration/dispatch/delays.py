"""What this worker cannot do waits: for another worker, or for a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

#: Seconds that a job's rows wait first, and at most; each time in vain doubles them. At last they
#: wait for longer than a row may that is to be a probe (SOON in lua/includes/guarded.lua): else
#: rows that nobody can do would keep all others from it.
FIRST_S: Final = 1.0
LONGEST_S: Final = 300.0
#: Seconds until a warning is repeated.
REPEAT_S: Final = 10.0
#: Jobs that are remembered; beyond them all are forgotten, and begin anew.
MOST_JOBS: Final = 1000


class Delays:
    """The delays of the jobs that this worker cannot do.

    Args:
        clock: Seconds, for tests that hold the clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_job: dict[str, tuple[float, float]] = {}  #: how long, and until when that counts

    def next_s(self, job: str) -> float:
        """Seconds that a row of the job waits; rows that come together wait equally long."""
        now_s = self._clock()
        wait_s, until_s = self._by_job.get(job, (0.0, 0.0))
        if now_s >= until_s:
            wait_s = min(2 * wait_s, LONGEST_S) or FIRST_S
            if len(self._by_job) >= MOST_JOBS:
                self._by_job.clear()
            self._by_job[job] = wait_s, now_s + wait_s
        return wait_s


class Rests:
    """Jobs and clients that are left alone for a while.

    Args:
        clock: Seconds, for tests that hold the clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s: dict[str, float] = {}

    def rest(self, name: str, for_s: float) -> None:
        """Leave it alone for so long; of too many the oldest is forgotten."""
        self._until_s.pop(name, None)
        if len(self._until_s) >= MOST_JOBS:
            del self._until_s[next(iter(self._until_s))]
        self._until_s[name] = self._clock() + for_s

    def rests(self, name: str) -> bool:
        """Whether it is to be left alone now."""
        return self._clock() < self._until_s.get(name, 0.0)


class Warnings:
    """Logs what is wrong with a job or client, and repeats that only after a while.

    Args:
        logger: Where to.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._resting = Rests()

    def warn(self, subject: str, text: str) -> None:
        """Log this of a subject, unless something was logged of it just now."""
        if not self._resting.rests(subject):
            self._resting.rest(subject, REPEAT_S)
            self._logger.warning("%s", text)
