"""The refusals of a client by route, as an operator looks at them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.governor.refusals import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRoute:
    """The answers of 429 to one route, and what was known at the last of them."""

    route: str  #: method and path without ids
    count: int
    last_us: int
    ago_s: float
    tokens: Mapping[str, int | None]  #: left of each limit; None: held, or no dispatcher rang
    retry_after_s: float | None  #: None: the provider gave no order
    limit: int | None  #: calls of the quota by the provider's headers; None: they do not say


def by_route(refusals: Iterable[Refusal], now_us: int) -> list[RefusedRoute]:
    """One entry for each route, the one that is refused most first.

    Args:
        refusals: The oldest first.
        now_us: The store's time.
    """
    last: dict[str, Refusal] = {}
    counts: dict[str, int] = {}
    for refusal in refusals:
        last[refusal.route] = refusal
        counts[refusal.route] = counts.get(refusal.route, 0) + 1
    return [
        RefusedRoute(
            route=route,
            count=counts[route],
            last_us=round(refusal.at_s * 1e6),
            ago_s=max(0.0, now_us / 1e6 - refusal.at_s),
            tokens=refusal.tokens,
            retry_after_s=refusal.retry_after_s,
            limit=refusal.limit,
        )
        for route, refusal in sorted(last.items(), key=lambda pair: (-counts[pair[0]], pair[0]))
    ]
