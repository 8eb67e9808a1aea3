"""How long what this worker cannot do waits for another one, or for a person: longer each time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that a job's rows wait first, and at most; each time in vain doubles them.
FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0
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
