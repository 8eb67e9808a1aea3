"""The one clock of this process for ages and deadlines."""

from __future__ import annotations

import time
from typing import Final

#: It goes on while the machine is suspended, where the system has such a clock: a grant that
#: slept through a suspend is old.
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ns() -> int:
    """Nanoseconds since some moment in the past; never goes back."""
    return time.clock_gettime_ns(_CLOCK)
