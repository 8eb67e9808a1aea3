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
#: In the year 9999: also in other time zones a date can be made of it.
_LATEST_US: Final = 253_402_000_000 * 1_000_000


def now_ns() -> int:
    """Nanoseconds since some moment in the past; never goes back."""
    return time.clock_gettime_ns(_CLOCK)


def wait(seconds: float) -> None:
    """Block this thread for so long; a signal does not shorten it, and 0 or less is no wait."""
    _NEVER.wait(seconds)


def to_moment(moment_us: float) -> datetime:
    """A moment in UTC; one that no calendar has, such as infinity, is the nearest that it has.

    Args:
        moment_us: Microseconds since the Unix epoch.
    """
    return datetime.fromtimestamp(min(max(moment_us, 0), _LATEST_US) / 1e6, UTC)


def format_clock(moment_us: int, now_us: int) -> str:
    """A moment as a clock of this host shows it; with its date when it is not of today.

    Args:
        moment_us: Microseconds since the Unix epoch.
        now_us: The same, of now.
    """
    moment, now = (to_moment(each).astimezone() for each in (moment_us, now_us))
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"
