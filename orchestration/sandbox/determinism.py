"""What makes a run repeatable: a clock that tests move ahead, and chance that a seed repeats."""

from __future__ import annotations

import time
from random import Random


class Clock:
    """Wall-clock microseconds since the Unix epoch that never run backwards."""

    def __init__(self) -> None:
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self.advanced_us = 0  #: how far `lifetime_us` is ahead of `real_us`

    def real_us(self) -> int:
        """Return the time of arrivals, limits and the journal; no order moves it."""
        return (self._epoch_ns + time.monotonic_ns()) // 1000

    def lifetime_us(self) -> int:
        """Return the time of tokens, keys, signed URLs, the read lag, dialling and transcoding."""
        return self.real_us() + self.advanced_us

    def advance(self, seconds: float) -> None:
        """Move the lifetimes' clock ahead.

        Raises:
            ValueError: `seconds` is below 0.
        """
        if seconds < 0:
            raise ValueError(f"the clock only moves ahead: advance_s must be >= 0, got {seconds}")
        self.advanced_us += round(seconds * 1e6)


class SeededRandom(Random):
    """Chance that repeats with its seed: for faults and latencies, never for a secret."""
