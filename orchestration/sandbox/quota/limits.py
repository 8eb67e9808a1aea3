"""What all limits together say about a call: every one of them is charged, or none."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestration.sandbox.quota.meters import Meter, Places, Shared, meter_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.sandbox.config.config import Limit

#: Name of the limit, OAuth client, and "METHOD route" where endpoints are counted apart, else "".
Scope = tuple[str, str, str]


def matcher(pattern: str) -> re.Pattern[str]:
    """Compile a glob over "METHOD /path"; `*` also matches slashes."""
    return re.compile(fnmatch.translate(pattern))


def scope_of(limit: Limit, client: str, method: str, route: str) -> Scope:
    """Return what the limit counts together with a call of this client and route."""
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
            if not isinstance(meter, Places)
        ]

    def places(self) -> list[Places]:
        """Return what an accepted call must free at its end."""
        if self.refused_by is not None:
            return []
        return [meter for _, meter in self.matching if isinstance(meter, Places)]


class Limiter:
    """All limits of a configuration, with one meter for each limit and scope."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = [(limit, matcher(limit.match)) for limit in limits]
        self._meters: dict[Scope, Meter] = {}

    def decide(self, now_us: int, method: str, path: str, client: str, route: str) -> Decision:
        """Charge every limit that matches the call, or none of them if one refuses."""
        matching: list[tuple[Limit, Meter]] = []
        for limit, pattern in self._limits:
            if pattern.match(f"{method} {path}"):
                scope = scope_of(limit, client, method, route)
                if scope not in self._meters:
                    self._meters[scope] = meter_of(limit)
                matching.append((limit, self._meters[scope]))
        wait_us, refused_by = 0, None
        for limit, meter in matching:
            if (needed_us := meter.wait_us(now_us)) > wait_us:
                wait_us, refused_by = needed_us, limit
        for limit, meter in matching:
            if refused_by is None or limit.count_refused:
                meter.charge(now_us)
        return Decision(wait_us, refused_by, matching)

    def others(self) -> dict[Scope, list[int]]:
        """Return when the other sender's calls were accepted, us, for each limit that it shares."""
        meters = list(self._meters.items())  # a copy in one step: a report runs in a thread
        return {
            scope: meter.others_us.tolist() for scope, meter in meters if isinstance(meter, Shared)
        }
