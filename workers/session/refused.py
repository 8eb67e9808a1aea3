"""Calls from outside of jobs that were answered 429: each waits longer than what it holds."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from workers.answer.backoff import countdown_s

if TYPE_CHECKING:
    from collections.abc import Callable

#: Beyond so many, those that wait no longer are forgotten.
MOST_KEPT: Final = 1_000


class RefusedCalls:
    """How long this process waits before it sends again what was refused.

    It waits longer than the scope is held, so that others go first and show whose fault the 429 is
    (lua/includes/own_refusals.lua), and longer each time until it is answered well.

    Args:
        base_s: The first wait beyond the pause; each one doubles it.
        cap_s: The longest.
        clock: Microseconds.
    """

    def __init__(self, base_s: float, cap_s: float, clock: Callable[[], int]) -> None:
        self._base_s, self._cap_s, self._clock = base_s, cap_s, clock
        self._rng = random.Random()  # noqa: S311 -- jitter, not a secret
        #: A flow, or the fingerprint of a request → until when it waits, and how often it did.
        self._waits: dict[str, tuple[int, int]] = {}

    def left_s(self, *names: str) -> float:
        """How long a call waits that has these names; 0 = not at all."""
        if not self._waits:
            return 0.0
        ends = (self._waits.get(name, (0, 0))[0] for name in names)
        return max(0.0, (max(ends) - self._clock()) / 1e6)

    def refuse(self, pause_s: float, *names: str) -> None:
        """Calls of these names were refused, for so long at least."""
        now = self._clock()
        if len(self._waits) > MOST_KEPT:
            self._waits = {name: kept for name, kept in list(self._waits.items()) if kept[0] > now}
        for name in names:
            until, times = self._waits.get(name, (0, 0))
            if until > now:  # it was out already when the one before was refused
                times -= 1
            longer_s = countdown_s(max(0, times), self._base_s, self._cap_s, self._rng)
            ends = now + round((pause_s + longer_s) * 1e6)
            self._waits[name] = max(until, ends), max(0, times) + 1

    def forget(self, *names: str) -> None:
        """A call of these names was answered well."""
        for name in names if self._waits else ():
            self._waits.pop(name, None)
