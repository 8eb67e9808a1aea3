"""From a quota rule to a cell: the arithmetic that makes limits safe.

Every rate shape is governed by one and the same cell (GCRA): a bucket of `burst` tokens that
refills by `rate` tokens a second, kept as one integer, the moment at which it is full again. Only
the calibration differs between the shapes, and it is computed here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING

from workers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.settings import LimitSettings

#: Part of the provider's burst that a bucket takes, and of its sustained rate (the guide's rule).
BUCKET_BURST, BUCKET_RATE = 0.8, 0.9
#: Longest time from grant to arrival that any limit allows.
MAX_SPREAD_S = 0.1
#: Less time than this between grant and first byte, and no call would ever leave.
MIN_SPREAD_S = 0.001
#: Time from the pacer's decision to the admission of the call, generously.
BELL_LATENCY_S = 0.05
#: How far ahead of its token a bell may ring where the burst is smaller than that latency.
LEAD_S = 0.05
#: The widest cell: beyond a day's worth of full bucket the integers of the store are not exact.
MAX_SPAN_US = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What the scripts need to know of one limit."""

    name: str
    interval_us: int  #: time for one token to come back
    burst: int  #: tokens of a full bucket
    lead_us: int  #: how early a bell may ring, 0 for most
    spread_us: int  #: longest time from grant to the first byte

    @property
    def rate(self) -> float:
        """Calls per second that the cell lets through in the long run."""
        return 1e6 / self.interval_us

    def row(self) -> list[str | int]:
        """The cell as the scripts read it."""
        return [self.name, self.interval_us, self.burst, self.lead_us, self.spread_us]


def cell(limit: LimitSettings) -> Cell:
    """The cell that keeps `limit`, whatever the moment at which its window starts.

    For a window of W seconds and `count` calls, let J be the spread between grant and arrival.
    In any W seconds at the provider arrive at most the calls granted in W + J seconds, and of
    those a cell grants at most burst + rate × (W + J). So `burst + rate × (W + J) <= count` is
    enough for fixed and for sliding windows, wherever they start. The burst is the smallest that
    still holds the rate: a token must wait in the bucket while its bell travels.

    A `bucket` follows the guide: 80 % of the burst, 90 % of the rate. Calls granted together may
    arrive together with those granted J later, so either burst + rate × J fits into the
    provider's bucket, or each token comes back so much later than there that J is made up for.

    Raises:
        ConfigError: the limit is too small or too wide to be kept.
    """
    sustained = limit.count / limit.window_s
    if limit.shape == "bucket":
        burst = limit.burst or max(1, int(BUCKET_BURST * limit.count))
        rate = limit.rate or BUCKET_RATE * sustained
        spread_s = min(MAX_SPREAD_S, max((limit.count - burst) / rate, 1 / rate - 1 / sustained))
    else:
        spread_s = min(MAX_SPREAD_S, limit.window_s / 20)
        burst = limit.burst or max(2, min(math.ceil(sustained * 0.1), limit.count // 100))
        burst = min(burst, max(1, limit.count - 1))
        # A window for one single call: the next token comes just after window and spread.
        room = limit.count - burst or 0.999
        rate = limit.rate or room / (limit.window_s + spread_s)
    interval_us = math.ceil(1e6 / rate)
    in_window = _most(limit, burst, interval_us, int(spread_s * 1e6))
    if (
        spread_s < MIN_SPREAD_S
        or rate > sustained
        or burst > limit.count
        or (limit.shape != "bucket" and in_window > limit.count)
    ):
        raise ConfigError(
            f"limit {limit.name}: burst {burst} at {rate:g} calls per second does not keep "
            f"{limit.count} calls per {limit.window_s:g} s; lower rate or burst"
        )
    if interval_us * burst > MAX_SPAN_US:
        raise ConfigError(f"limit {limit.name}: the window is too long for its count to be kept")
    return Cell(
        name=limit.name,
        interval_us=interval_us,
        burst=burst,
        lead_us=int(LEAD_S * 1e6) if burst < rate * BELL_LATENCY_S else 0,
        spread_us=int(spread_s * 1e6),
    )


def worst_case(limit: LimitSettings) -> int:
    """The most calls that can arrive at the provider in any window of `limit`."""
    it = cell(limit)
    return _most(limit, it.burst, it.interval_us, it.spread_us)


def _most(limit: LimitSettings, burst: int, interval_us: int, spread_us: int) -> int:
    return burst + (round(limit.window_s * 1e6) + spread_us) // interval_us


@lru_cache(maxsize=4096)
def _pattern(match: str) -> re.Pattern[str]:
    method, path = match.split()
    return re.compile(translate(f"{method.upper()} {path}"))


def matching(limits: Iterable[LimitSettings], route: str) -> list[LimitSettings]:
    """The limits that a call of this route ("POST /api/v2/…", its query left out) is charged to."""
    plain = route.partition("?")[0]
    return [limit for limit in limits if _pattern(limit.match).match(plain)]
