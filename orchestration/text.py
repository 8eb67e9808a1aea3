"""Formats values for people: counts, durations, moments, and texts that came from elsewhere."""

from __future__ import annotations

import re
from typing import Final

from workers.clock import to_moment

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def format_count(number: int, thing: str) -> str:
    """The number with its thing in the singular or the plural.

    Example:
        >>> format_count(1, "row"), format_count(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def format_duration(seconds: float | None) -> str:
    """A duration as a clock shows it; "?" when it is not known.

    Example:
        >>> format_duration(7), format_duration(11045), format_duration(None)
        ('0:07', '3:04:05', '?')
    """
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_moment(moment_us: float) -> str:
    """A moment in local time, to the second.

    Args:
        moment_us: Microseconds since the Unix epoch.
    """
    return f"{to_moment(moment_us).astimezone():%Y-%m-%d %H:%M:%S}"


def escape_controls(text: str) -> str:
    r"""The text on one line, with nothing in it that a terminal obeys.

    Example:
        >>> escape_controls("one" + chr(10) + "two")
        'one\\x0atwo'
    """
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
