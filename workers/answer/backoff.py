"""How long to wait before the same call may leave again. Pure: time and chance are arguments."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

#: Longest wait that a Retry-After may order, seconds.
RETRY_AFTER_CAP_S: Final = 86_400.0
#: From here on base * 2^attempt is beyond any cap; further doubling would only overflow.
_MAX_DOUBLINGS: Final = 1_000
_SECONDS = re.compile(r"[0-9]+", re.ASCII)
#: The three forms of an HTTP date (RFC 9110, section 5.6.7); what the numbers mean is left to the
#: library, which by itself would take much more for a date.
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_DATE = re.compile(
    rf"[A-Z][a-z]{{2}}, [0-9]{{2}} [A-Z][a-z]{{2}} [0-9]{{4}} {_CLOCK} GMT"
    rf"|[A-Z][a-z]{{5,8}}, [0-9]{{2}}-[A-Z][a-z]{{2}}-[0-9]{{2}} {_CLOCK} GMT"
    rf"|[A-Z][a-z]{{2}} [A-Z][a-z]{{2}} [ 0-9][0-9] {_CLOCK} [0-9]{{4}}",
    re.ASCII,
)


def countdown_s(attempt: int, base_s: float, cap_s: float, rng: Random) -> float:
    """Compute the seconds until a failed call may be tried again, when the provider named no wait.

    Args:
        attempt: Failed attempts before this one, from 0; absurd numbers are fine.
        base_s: The first wait, doubled by each attempt, and the width of the jitter.
        cap_s: No wait is longer.
        rng: Source of the jitter; a seeded one makes a test exact.

    Returns:
        min(base_s * 2^attempt + U(0, base_s), cap_s).
    """
    doubled_s = base_s * 2.0 ** min(attempt, _MAX_DOUBLINGS)
    return min(doubled_s + rng.uniform(0.0, base_s), cap_s)


def parse_retry_after(
    value: str | None, now: datetime, cap_s: float = RETRY_AFTER_CAP_S
) -> float | None:
    """Read the wait that a Retry-After header orders, seconds in 0..cap_s.

    Args:
        value: The header as it came; None when there was none.
        now: The moment of the answer, aware; best the provider's own (`http_date` of its Date
            header), since a date in Retry-After comes from the same clock.
        cap_s: The longest wait that is believed.

    Returns:
        Digits as seconds, an HTTP date as the time until then (0 when it has passed), and None for
        everything else, for a wait that cannot be read is no order.
    """
    if value is None:
        return None
    value = value.strip(" \t")
    if _SECONDS.fullmatch(value):
        return min(float(value), cap_s)  # a thousand digits are infinity, which int() would refuse
    date = http_date(value)
    if date is None:
        return None
    return min(max((date - now).total_seconds(), 0.0), cap_s)


def pause_s(retry_after_s: float, base_s: float, rng: Random) -> float:
    """Add jitter to an ordered wait: a value in retry_after_s .. retry_after_s + base_s.

    Those who were given the same moment come back spread out, and none comes back early.
    """
    return retry_after_s + rng.uniform(0.0, base_s)


def http_date(value: str | None) -> datetime | None:
    """Read the moment that an HTTP date names, aware; None when it is none."""
    if value is None or not _DATE.fullmatch(value):
        return None
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
