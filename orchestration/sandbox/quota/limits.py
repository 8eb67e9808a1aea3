"""What all limits together say about a call: every one of them is charged, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from orchestration.sandbox.config import compile_glob
from orchestration.sandbox.quota.meters import Meter, Semaphore, SharedMeter, build_meter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.sandbox.config import Limit

#: Name of the limit, OAuth client, and "METHOD route" where endpoints are counted apart, else "".
LimitScope: TypeAlias = tuple[str, str, str]


def scope_of(limit: Limit, client: str, method: str, route: str) -> LimitScope:
    """Return the scope in which the limit counts a call of this client and route."""
    return limit.name, client, f"{method} {route}" if limit.per == "endpoint" else ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the matching limits say about one call; `refused_by` is None when it is accepted."""

    wait_us: int
    refused_by: Limit | None
    matching: list[tuple[Limit, Meter]]

    def rates(self, now_us: int) -> list[tuple[Limit, int, int]]:
        """Return each matching limit of a rate, with the calls left in it and its reset in us."""
        return [
            (limit, meter.remaining(now_us), meter.reset_us(now_us))
            for limit, meter in self.matching
            if not isinstance(meter, Semaphore)
        ]

    def permits(self) -> list[Semaphore]:
        """Return the semaphores that an accepted call must release at its end."""
        if self.refused_by is not None:
            return []
        return [meter for _, meter in self.matching if isinstance(meter, Semaphore)]


class QuotaEnforcer:
    """All limits of a configuration, with one meter for each limit and scope."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = [(limit, compile_glob(limit.match)) for limit in limits]
        self._meters: dict[LimitScope, Meter] = {}

    def decide(self, now_us: int, method: str, path: str, client: str, route: str) -> Decision:
        """Charge every limit that matches the call, or none of them if one refuses."""
        matching: list[tuple[Limit, Meter]] = []
        for limit, pattern in self._limits:
            if pattern.match(f"{method} {path}"):
                scope = scope_of(limit, client, method, route)
                if scope not in self._meters:
                    self._meters[scope] = build_meter(limit)
                matching.append((limit, self._meters[scope]))
        wait_us, refused_by = 0, None
        for limit, meter in matching:
            if (needed_us := meter.wait_us(now_us)) > wait_us:
                wait_us, refused_by = needed_us, limit
        for limit, meter in matching:
            if refused_by is None or limit.count_refused:
                meter.charge(now_us)
        return Decision(wait_us, refused_by, matching)

    def others_us(self) -> dict[LimitScope, list[int]]:
        """Return when the other sender's calls were accepted, us, for each limit that it shares."""
        meters = list(self._meters.items())  # a copy in one step: a report runs in a thread
        return {
            scope: meter.others_us.tolist()
            for scope, meter in meters
            if isinstance(meter, SharedMeter)
        }
