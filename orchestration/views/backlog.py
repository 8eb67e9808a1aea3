"""Who waits, and for what: the lines by lane and tenant, and the limit that binds. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.governor import flows
from workers.governor.flows import LANES
from workers.governor.state import number, tokens_left

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.settings.client import ClientSettings
    from workers.settings.limits import Bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How many transactions of a tenant wait in one lane."""

    lane: str
    tenant: str  #: "-" = rows that name none
    waiting: int


def by_tenant(lengths: Mapping[str, int]) -> list[Line]:
    """The lines from their lengths by flow: lane by lane, the longest first; empty ones left out.

    Args:
        lengths: Flow ("1:emea:0f6f4f2c") → transactions in its line, those of a due time included.
    """
    counts: dict[tuple[int, str], int] = defaultdict(int)
    for flow, length in lengths.items():
        lane, _, rest = flow.partition(":")
        counts[int(lane), rest.rpartition(":")[0]] += length
    found = sorted(counts.items(), key=lambda it: (it[0][0], -it[1], it[0][1]))
    return [
        Line(lane=LANES[lane], tenant=tenant, waiting=waiting)
        for (lane, tenant), waiting in found
        if waiting
    ]


def by_lane(lines: Iterable[Line]) -> dict[str, int]:
    """Transactions that wait, by lane."""
    counts = dict.fromkeys(LANES, 0)
    for it in lines:
        counts[it.lane] += it.waiting
    return counts


def binding(
    definitions: Iterable[str], client: ClientSettings, gov: Mapping[str, str], now_us: int
) -> str | None:
    """The limit that has the fewest tokens for what waits, of equal ones the slowest.

    Args:
        definitions: Of the flows in which something waits.
        client: Whose limits they are charged to.
        gov: The governor's hash.
        now_us: The store's time.

    Returns:
        Its name; None: nothing waits, no worker rings, or every limit has half of its burst left.
    """
    waiting = [flows.read(it) for it in definitions]
    free = {
        (left, bucket.rate or 0, bucket.name): left < max(2, bucket.burst / 2)
        for it in waiting
        for bucket in it.charged(client)
        if (left := _free(bucket, it.lane, gov, now_us)) is not None
    }
    least = min(free, default=None)
    return least[2] if least and free[least] else None


def _free(it: Bucket, lane: int, gov: Mapping[str, str], now_us: int) -> int | None:
    """What no bell has spoken for; the reserve is for the first lane."""
    tokens = tokens_left(it, gov, now_us)
    if tokens is None:
        return None
    return max(0, tokens - number(gov, f"b:{it.name}") - (it.reserve if lane else 0))
