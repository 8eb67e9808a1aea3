"""What the governor's hash says, for those who only look. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.settings.limits import Bucket

#: When nobody has rung for so long, buckets start empty at the next ring.
SILENT_US = 500_000
#: A cell with a lead is charged so far ahead of its tokens; that is no hold.
AHEAD_US = 150_000


def number(gov: Mapping[str, str], field: str) -> int:
    """A whole number of the hash; 0 when it is not there."""
    return int(float(gov.get(field, 0)))


def held_until(gov: Mapping[str, str], name: str, span_us: int, now_us: int) -> int | None:
    """The moment, in us, until which a cell gives no token whatever comes back; None: it does.

    Args:
        gov: The hash.
        name: Of the cell.
        span_us: How long the cell takes to fill.
        now_us: The store's time.
    """
    until_us = number(gov, f"c:{name}") - span_us
    return until_us if until_us > now_us + AHEAD_US else None


def tokens_left(it: Bucket, gov: Mapping[str, str], now_us: int) -> int | None:
    """Tokens in a limit's bucket, or its free places; None: not in use, it will start empty."""
    if it.rate is None:
        return it.burst - number(gov, f"l:{it.name}")
    if f"c:{it.name}" not in gov or now_us - number(gov, "beat") > SILENT_US:
        return None
    short_us = max(0, number(gov, f"c:{it.name}") - now_us)
    return max(0, (it.interval_us * it.burst - short_us) // it.interval_us)


def live_threads(gov: Mapping[str, str], now_us: int, pool: str = "calls") -> dict[str, int]:
    """The threads of each worker of a pool that rang of late, by its name."""
    live, kind = {}, "m:" if pool == "media" else "w:"
    for field, value in gov.items():
        if field.startswith(kind):
            threads, _, till_us = value.partition(" ")
            if int(till_us) > now_us:
                live[field.removeprefix(kind)] = int(threads)
    return live


def out_of_pool(gov: Mapping[str, str], pool: str) -> tuple[int, int]:
    """Steps without a call that threads of this pool do: bells out, and those under way."""
    return number(gov, f"b:pool:{pool}"), number(gov, f"l:pool:{pool}")
