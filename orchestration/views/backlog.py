"""Who waits, and for what: the backlog by lane and tenant, and the limit that binds. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.governor import flows
from workers.governor.flows import LANES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.governor.state import GovernorState
    from workers.settings.client import ClientSettings
    from workers.settings.limits import Bucket


#: Lanes as the names of flows have them.
_LANES: Final = tuple(map(str, range(len(LANES))))


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantBacklog:
    """How many transactions of a tenant wait in one lane."""

    lane: str
    tenant: str  #: "-" = rows that name none
    waiting: int


def by_tenant(lengths: Mapping[str, int]) -> list[TenantBacklog]:
    """The backlog by lane, and within a lane by tenant, the longest first; nothing empty.

    Args:
        lengths: Flow ("1:emea:0f6f4f2c") → transactions that wait in it, with or without a due
            time.
    """
    counts: dict[tuple[int, str], int] = defaultdict(int)
    for flow, length in lengths.items():
        lane, _, rest = flow.partition(":")
        if lane not in _LANES:  # no flow has such a name
            continue
        counts[int(lane), rest.rpartition(":")[0]] += length
    ordered = sorted(counts.items(), key=lambda entry: (entry[0][0], -entry[1], entry[0][1]))
    return [
        TenantBacklog(lane=LANES[lane], tenant=tenant, waiting=waiting)
        for (lane, tenant), waiting in ordered
        if waiting
    ]


def by_lane(backlog: Iterable[TenantBacklog]) -> dict[str, int]:
    """Transactions that wait, by lane."""
    counts = dict.fromkeys(LANES, 0)
    for part in backlog:
        counts[part.lane] += part.waiting
    return counts


def binding(definitions: Iterable[str], client: ClientSettings, state: GovernorState) -> str | None:
    """The limit that has the fewest tokens for what waits; the slowest one of equals.

    Args:
        definitions: Of the flows in which something waits.
        client: Whose limits they are charged to.
        state: The governor's.

    Returns:
        Its name; None: nothing waits, no worker rings, or every limit has half of its burst left.
    """
    waiting = [flows.read(definition) for definition in definitions if flows.is_whole(definition)]
    short = {
        (left, bucket.rate or 0, bucket.name): left < max(2, bucket.burst / 2)
        for flow in waiting
        for bucket in flow.charged(client)
        if (left := _unclaimed(bucket, flow.lane, state)) is not None
    }
    least = min(short, default=None)
    return least[2] if least and short[least] else None


def _unclaimed(bucket: Bucket, lane: int, state: GovernorState) -> int | None:
    """The tokens that no bell has claimed; the reserve is for the first lane."""
    tokens = state.tokens_left(bucket)
    if tokens is None:
        return None
    return max(0, tokens - state.bells_out(bucket.name) - (bucket.reserve if lane else 0))
