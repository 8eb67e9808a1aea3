"""Strict limiters in three shapes, told in the plainest way; the time is always passed in.

They are written apart from the product's own cell on purpose: this is the other side's view.
All times are integer microseconds and never run backwards.
"""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.sandbox.config import Limit


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


def meter_of(limit: Limit) -> Meter:
    """Return a fresh meter of the limit's shape."""
    window_us = round(limit.window_s * 1e6)
    match limit.shape:
        case "bucket":
            return Bucket(limit.count, window_us, limit.capacity or limit.count)
        case "fixed_window":
            return FixedWindow(limit.count, window_us, limit.align)
        case "sliding_window":
            return SlidingWindow(limit.count, window_us)


def matcher(pattern: str) -> re.Pattern[str]:
    """Compile a glob over "METHOD /path"; `*` also matches slashes."""
    return re.compile(fnmatch.translate(pattern))


@dataclass(frozen=True, slots=True)
class Decision:
    """What all limits together say about one call; `refused_by` is None when it is accepted."""

    wait_us: int
    refused_by: Limit | None
    charged: list[tuple[Limit, Meter]]

    def tightest(self, now_us: int) -> tuple[Limit, int, int] | None:
        """Return the matching limit with the fewest calls left, these calls, and its reset."""
        if not self.charged:
            return None
        limit, meter = min(self.charged, key=lambda pair: pair[1].remaining(now_us))
        return limit, meter.remaining(now_us), meter.reset_us(now_us)


class Limiter:
    """All limits of a configuration, with one meter for each limit and scope."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = [(limit, matcher(limit.match)) for limit in limits]
        self._meters: dict[tuple[str, str, str], Meter] = {}

    def decide(self, now_us: int, method: str, path: str, client: str, route: str) -> Decision:
        """Charge every limit that matches the call, or none of them if one refuses."""
        matching: list[tuple[Limit, Meter]] = []
        for limit, pattern in self._limits:
            if pattern.match(f"{method} {path}"):
                scope = limit.name, client, f"{method} {route}" if limit.per == "endpoint" else ""
                if scope not in self._meters:
                    self._meters[scope] = meter_of(limit)
                matching.append((limit, self._meters[scope]))
        wait_us, refused_by = 0, None
        for limit, meter in matching:
            if (needed_us := meter.wait_us(now_us)) > wait_us:
                wait_us, refused_by = needed_us, limit
        for limit, meter in matching:
            if refused_by is None or limit.count_refused:
                meter.charge(now_us)
        return Decision(wait_us, refused_by, matching)
