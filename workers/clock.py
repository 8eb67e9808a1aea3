"""The one clock of this process for ages and deadlines, the one way to wait, and clock times."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Final

#: It goes on while the machine is suspended, where the system has such a clock: a grant that
#: slept through a suspend is old.
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: Never set, so that no signal shortens a wait for it.
_NEVER: Final = threading.Event()


def now_ns() -> int:
    """Nanoseconds since some moment in the past; never goes back."""
    return time.clock_gettime_ns(_CLOCK)


def wait(seconds: float) -> None:
    """Block this thread for so long; a signal does not shorten it, and 0 or less is no wait."""
    _NEVER.wait(seconds)


def format_clock(moment_us: int, now_us: int) -> str:
    """A moment as a clock of this host shows it; with its date when it is not of today.

    Args:
        moment_us: Microseconds since the Unix epoch.
        now_us: The same, of now.
    """
    moment, now = (
        datetime.fromtimestamp(each / 1e6, UTC).astimezone() for each in (moment_us, now_us)
    )
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"
