"""One limit counted for one scope, in each shape and in the plainest way; the time is passed in.

They are written apart from the product's own cell on purpose: this is the other side's view.
All times are integer microseconds and never run backwards.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from orchestration.sandbox.config.config import Limit

#: What a refused call is told to wait for a place: nobody knows when the next one comes free.
PLACE_WAIT_US = 1_000_000


class Meter(Protocol):
    """One limit counted for one scope."""

    def wait_us(self, now_us: int) -> int:
        """Shortest wait until a call would be accepted; 0: now. Changes nothing."""

    def charge(self, now_us: int) -> None:
        """Count one call."""

    def remaining(self, now_us: int) -> int:
        """Calls that would be accepted now."""

    def reset_us(self, now_us: int) -> int:
        """Time until `remaining` is complete, or grows next in a sliding window."""


class Bucket:
    """Starts full with `capacity` tokens; `count` tokens come back every `window_us`, evenly.

    One token is `window_us` units and every microsecond brings `count` of them, so all is exact.
    """

    def __init__(self, count: int, window_us: int, capacity: int) -> None:
        self._count, self._window_us = count, window_us
        self._full = self._units = capacity * window_us
        self._at_us = 0

    def _level(self, now_us: int) -> int:
        return min(self._full, self._units + (now_us - self._at_us) * self._count)

    def wait_us(self, now_us: int) -> int:
        """See `Meter`."""
        return max(0, -((self._level(now_us) - self._window_us) // self._count))

    def charge(self, now_us: int) -> None:
        """See `Meter`."""
        self._units, self._at_us = max(0, self._level(now_us) - self._window_us), now_us

    def remaining(self, now_us: int) -> int:
        """See `Meter`."""
        return self._level(now_us) // self._window_us

    def reset_us(self, now_us: int) -> int:
        """See `Meter`."""
        return -((self._level(now_us) - self._full) // self._count)


class FixedWindow:
    """At most `count` calls in each window; where windows begin is `Limit.align`."""

    def __init__(self, count: int, window_us: int, align: str) -> None:
        self._count, self._window_us, self._align = count, window_us, align
        self._start_us: int | None = 0 if align == "epoch" else None
        self._used = 0

    def _window_at(self, now_us: int) -> int:
        """Return the start of the window that holds `now_us`."""
        if self._start_us is None:
            return now_us
        passed_us = now_us - self._start_us
        if passed_us < self._window_us:
            return self._start_us
        return now_us if self._align == "call" else now_us - passed_us % self._window_us

    def _used_at(self, now_us: int) -> int:
        return self._used if self._window_at(now_us) == self._start_us else 0

    def wait_us(self, now_us: int) -> int:
        """See `Meter`."""
        return self.reset_us(now_us) if self._used_at(now_us) >= self._count else 0

    def charge(self, now_us: int) -> None:
        """See `Meter`."""
        self._used = self._used_at(now_us) + 1
        self._start_us = self._window_at(now_us)

    def remaining(self, now_us: int) -> int:
        """See `Meter`."""
        return max(0, self._count - self._used_at(now_us))

    def reset_us(self, now_us: int) -> int:
        """See `Meter`."""
        return self._window_at(now_us) + self._window_us - now_us


class SlidingWindow:
    """At most `count` calls in any `window_us`: a log of the calls that were counted."""

    def __init__(self, count: int, window_us: int) -> None:
        self._count, self._window_us = count, window_us
        self._log: deque[int] = deque()

    def _forget(self, now_us: int) -> None:
        while self._log and self._log[0] + self._window_us <= now_us:
            self._log.popleft()

    def wait_us(self, now_us: int) -> int:
        """See `Meter`."""
        self._forget(now_us)
        if len(self._log) < self._count:
            return 0
        return self._log[-self._count] + self._window_us - now_us

    def charge(self, now_us: int) -> None:
        """See `Meter`."""
        self._log.append(now_us)

    def remaining(self, now_us: int) -> int:
        """See `Meter`."""
        self._forget(now_us)
        return max(0, self._count - len(self._log))

    def reset_us(self, now_us: int) -> int:
        """See `Meter`."""
        self._forget(now_us)
        return self._log[0] + self._window_us - now_us if self._log else 0


class Places:
    """At most `count` calls in work at once: each is charged at its arrival and freed at its end.

    It is no quota of calls over time, so the rate headers pass it over.
    """

    def __init__(self, count: int) -> None:
        self._count, self._taken = count, 0

    def wait_us(self, now_us: int) -> int:
        """See `Meter`."""
        return 0 if self.remaining(now_us) else PLACE_WAIT_US

    def charge(self, now_us: int) -> None:  # noqa: ARG002 - see `Meter`
        """See `Meter`; `free` undoes it."""
        self._taken += 1

    def free(self) -> None:
        """Give the place of one call back."""
        self._taken -= 1

    def remaining(self, now_us: int) -> int:  # noqa: ARG002 - see `Meter`
        """See `Meter`."""
        return self._count - self._taken

    def reset_us(self, now_us: int) -> int:
        """See `Meter`."""
        return self.wait_us(now_us)


class Shared:
    """A limit of which somebody else takes a part: one call every `every_us`, if it is accepted.

    The other's calls are made up for whenever somebody looks: about a microsecond for each.
    """

    def __init__(self, meter: Meter, every_us: float) -> None:
        self._meter, self._every_us = meter, every_us
        self._start_us: int | None = None
        self._tried = 0  # calls of the other, refused ones too
        self.others_us = array("Q")  #: arrivals of the other's accepted calls

    def _catch_up(self, now_us: int) -> None:
        if self._start_us is None:
            self._start_us = now_us
        while (due_us := self._start_us + round(self._tried * self._every_us)) <= now_us:
            self._tried += 1
            if self._meter.wait_us(due_us) == 0:
                self._meter.charge(due_us)
                self.others_us.append(due_us)

    def wait_us(self, now_us: int) -> int:
        """See `Meter`."""
        self._catch_up(now_us)
        return self._meter.wait_us(now_us)

    def charge(self, now_us: int) -> None:
        """See `Meter`."""
        self._catch_up(now_us)
        self._meter.charge(now_us)

    def remaining(self, now_us: int) -> int:
        """See `Meter`."""
        self._catch_up(now_us)
        return self._meter.remaining(now_us)

    def reset_us(self, now_us: int) -> int:
        """See `Meter`."""
        self._catch_up(now_us)
        return self._meter.reset_us(now_us)


def meter_of(limit: Limit) -> Meter:
    """Return a fresh meter of the limit's shape, shared if the limit is."""
    window_us = round(limit.window_s * 1e6)
    meter: Meter
    match limit.shape:
        case "bucket":
            meter = Bucket(limit.count, window_us, limit.capacity or limit.count)
        case "fixed_window":
            meter = FixedWindow(limit.count, window_us, limit.align)
        case "sliding_window":
            meter = SlidingWindow(limit.count, window_us)
        case "concurrent":
            return Places(limit.count)
    if limit.other_share:
        return Shared(meter, window_us / (limit.count * limit.other_share))
    return meter
