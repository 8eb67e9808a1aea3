"""One limit counted for one scope: one meter for each shape, written in the plainest way.

The meters share no code with the product's own limiter on purpose: they are the provider's view.
The caller passes the time in; all times are integer microseconds and never run backwards.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from orchestration.sandbox.config import Limit

#: How long a refused call is asked to wait for a permit. Nobody knows when the next one is free.
PERMIT_WAIT_US = 1_000_000


class Meter(Protocol):
    """One limit counted for one scope; all arguments and results are microseconds or calls."""

    def wait_us(self, now_us: int, /) -> int:
        """Return the shortest wait until a call would be accepted, 0: now. Changes nothing."""

    def charge(self, now_us: int, /) -> None:
        """Count one call."""

    def remaining(self, now_us: int, /) -> int:
        """Return how many calls would be accepted now."""

    def reset_us(self, now_us: int, /) -> int:
        """Return the time until `remaining` is complete, or grows next in a sliding window."""


class BucketMeter:
    """Starts full with `capacity` tokens; `count` tokens come back every `window_us`, evenly.

    One token is `window_us` units and every microsecond brings `count` units, so that the
    arithmetic of integers is exact.
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


class FixedWindowMeter:
    """At most `count` calls in each window; `Limit.align` says where windows begin."""

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


class SlidingWindowMeter:
    """At most `count` calls in any `window_us`; it holds the times of the calls it counted."""

    def __init__(self, count: int, window_us: int) -> None:
        self._count, self._window_us = count, window_us
        self._times_us: deque[int] = deque()

    def _forget(self, now_us: int) -> None:
        while self._times_us and self._times_us[0] + self._window_us <= now_us:
            self._times_us.popleft()

    def wait_us(self, now_us: int) -> int:
        """See `Meter`."""
        self._forget(now_us)
        if len(self._times_us) < self._count:
            return 0
        return self._times_us[-self._count] + self._window_us - now_us

    def charge(self, now_us: int) -> None:
        """See `Meter`."""
        self._times_us.append(now_us)

    def remaining(self, now_us: int) -> int:
        """See `Meter`."""
        self._forget(now_us)
        return max(0, self._count - len(self._times_us))

    def reset_us(self, now_us: int) -> int:
        """See `Meter`."""
        self._forget(now_us)
        return self._times_us[0] + self._window_us - now_us if self._times_us else 0


class Semaphore:
    """At most `count` calls in work at once: each is charged at its arrival, released at its end.

    It is no quota of calls over time, so the rate headers leave it out.
    """

    def __init__(self, count: int) -> None:
        self._count, self._taken = count, 0

    def wait_us(self, now_us: int) -> int:
        """See `Meter`."""
        return 0 if self.remaining(now_us) else PERMIT_WAIT_US

    def charge(self, _now_us: int) -> None:
        """See `Meter`; `release` undoes it."""
        self._taken += 1

    def release(self) -> None:
        """Take one call off the count."""
        self._taken -= 1

    def remaining(self, _now_us: int) -> int:
        """See `Meter`."""
        return self._count - self._taken

    def reset_us(self, now_us: int) -> int:
        """See `Meter`."""
        return self.wait_us(now_us)


class SharedMeter:
    """A limit of which another sender takes a share: one call every `every_us`, if it is accepted.

    The meter counts the other's calls up to now at each question, which takes about a microsecond
    for each of them.
    """

    def __init__(self, meter: Meter, every_us: float) -> None:
        self._meter, self._every_us = meter, every_us
        self._start_us: int | None = None
        self._tried = 0  # calls of the other sender, with those that were refused
        self.others_us = array("Q")  #: arrivals of the accepted calls of the other sender

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


def build_meter(limit: Limit) -> Meter:
    """Return a fresh meter of the limit's shape, shared with another sender if the limit is."""
    window_us = round(limit.window_s * 1e6)
    meter: Meter
    match limit.shape:
        case "bucket":
            meter = BucketMeter(limit.count, window_us, limit.capacity or limit.count)
        case "fixed_window":
            meter = FixedWindowMeter(limit.count, window_us, limit.align)
        case "sliding_window":
            meter = SlidingWindowMeter(limit.count, window_us)
        case "concurrent":
            return Semaphore(limit.count)
    if limit.other_share:
        return SharedMeter(meter, window_us / (limit.count * limit.other_share))
    return meter
