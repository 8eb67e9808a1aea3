"""Two clocks: the real one for limits and the journal, a movable one for lifetimes."""

from __future__ import annotations

import time


class Clock:
    """Wall-clock microseconds since the Unix epoch that never run backwards."""

    def __init__(self) -> None:
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self.advanced_us = 0  #: how far `lifetime_us` is ahead of `real_us`

    def real_us(self) -> int:
        """Now, as arrivals and limits see it; nobody can move it."""
        return (self._epoch_ns + time.monotonic_ns()) // 1000

    def lifetime_us(self) -> int:
        """Now, as tokens, keys, signed URLs, the read lag and whatever takes time see it."""
        return self.real_us() + self.advanced_us

    def advance(self, seconds: float) -> None:
        """Move the lifetimes' clock ahead; `seconds` is >= 0."""
        if seconds < 0:
            raise ValueError(f"the clock only moves ahead: advance_s must be >= 0, got {seconds}")
        self.advanced_us += round(seconds * 1e6)
