"""Answers of 429 as an operator looks at them: by route, and what they suggest. Pure.

| the evidence of one hour                     | the sentence                                   |
| -------------------------------------------- | ---------------------------------------------- |
| fewer than 3 refusals, or all under one hold | none                                           |
| nothing gets through between two holds       | the wait is too short, or somebody else …      |
| a route is refused, the others are not       | add a limit for it, or lower the one it has    |
| all routes in use are refused                | lower the client's limit, or somebody else …   |
| the one route in use is refused              | either of the last two                         |

Refusals under other limits than those of today are history: whoever has changed a limit does not
read again what led to the change.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from statistics import median
from typing import TYPE_CHECKING, Final

from workers.governor.refusals import rules_of
from workers.settings.limits import bucket_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from workers.governor.refusals import Refusal
    from workers.settings.limits import LimitSettings

#: Fewer refusals than this say nothing. A route counts as not refused when at least so many
#: refusals would have been expected of it, by its share of the calls.
ENOUGH: Final = 3
#: From so many calls per second on a rate is given per second, else per minute or hour.
PER_SECOND_FROM: Final = 10.0


def suggestions(refusals: Sequence[Refusal], limits: Sequence[LimitSettings]) -> list[str]:
    """What should be changed, one sentence each; the route that is refused most comes first.

    Args:
        refusals: Of one client and the last hour.
        limits: The client's limits as they are configured now.
    """
    rules = rules_of(limits)
    seen = [refusal for refusal in refusals if refusal.rules == rules]
    counts = Counter(refusal.route for refusal in seen)
    routes = sorted(counts, key=lambda route: (-counts[route], route))
    used = _calls_by_route(seen)
    others = sum(calls for route, calls in used.items() if route not in counts)
    if others * len(seen) >= ENOUGH * sum(used.values()) > 0:
        sentences = [_suggest_for_route(route, seen, limits) for route in routes]
    elif len(routes) > 1:
        sentences = [_suggest_for_all(seen, counts, limits)]
    else:
        sentences = [_suggest_for_route(route, seen, limits, alone=True) for route in routes]
    return [sentence for sentence in sentences if sentence]


def _suggest_for_route(
    route: str, seen: Iterable[Refusal], limits: Sequence[LimitSettings], *, alone: bool = False
) -> str:
    own = [refusal for refusal in seen if refusal.route == route]
    rate = through_per_s(own, {route})
    if rate is None:
        return ""
    if not rate:
        return _suggest_patience(route)
    charged = {name for refusal in own for name in refusal.tokens}
    rated = [limit for limit in limits if _is_rated(limit)]
    endpoint = [limit for limit in rated if limit.name in charged and limit.match != "* *"]
    fact = f"{route} is refused at about {format_rate(rate)}"
    if endpoint:
        return f"{fact}: lower the limit {_slowest(endpoint)}"
    whole = [limit for limit in rated if limit.match == "* *"]
    if alone and whole:
        return f"{fact}: add a limit for it, or lower {_slowest(whole)} if all calls count together"
    return f"{fact}: add a limit for it"


def _suggest_for_all(
    seen: Sequence[Refusal], routes: Collection[str], limits: Sequence[LimitSettings]
) -> str:
    rate = through_per_s(seen, routes)
    if rate is None:
        return ""
    if not rate:
        return _suggest_patience("every route")
    whole = [limit for limit in limits if limit.match == "* *" and _is_rated(limit)]
    do = f"lower the limit {_slowest(whole)}" if whole else "add a limit for all calls"
    return (
        f"every route is refused, at about {format_rate(rate)} in all: {do}, "
        f"or find out who else uses the quota"
    )


def _suggest_patience(what: str) -> str:
    return (
        f"{what} is refused again as soon as its hold ends: the provider asks for too short a "
        f"wait, or somebody else takes what comes back"
    )


def through_per_s(refusals: Sequence[Refusal], routes: Collection[str]) -> float | None:
    """Calls per second of these routes that got through in the long run, their holds included.

    The calls are counted from one hold to a later one, so that a whole number of the provider's
    windows lies between, whatever they are. Each process knows its own calls alone; those of the
    fleet are as many times more as there are workers.

    Returns:
        The median over all such spans; None when there are fewer than `ENOUGH` refusals or no span.
    """
    by_process: dict[str, list[Refusal]] = defaultdict(list)
    for refusal in _first_of_holds(refusals):
        by_process[refusal.process].append(refusal)
    rates = [
        sum(late.passed.get(route, 0) - early.passed.get(route, 0) for route in routes)
        / (late.at_s - early.at_s)
        for own in by_process.values()
        for early, late in pairwise(own)
        if late.at_s > early.at_s
    ]
    if len(refusals) < ENOUGH or not rates:
        return None
    return median(rates) * max(1, *(refusal.workers for refusal in refusals))


def _first_of_holds(refusals: Iterable[Refusal]) -> list[Refusal]:
    """The first refusal of each process under each hold; the others were under way together."""
    first: dict[tuple[int, str], Refusal] = {}
    holds, until_s = 0, 0.0
    for refusal in sorted(refusals, key=attrgetter("at_s")):
        holds += refusal.at_s >= until_s
        until_s = max(until_s, refusal.at_s + refusal.pause_s)
        first.setdefault((holds, refusal.process), refusal)
    return list(first.values())


def _calls_by_route(refusals: Iterable[Refusal]) -> dict[str, int]:
    """Calls that got through between the first and the last refusal that a process saw."""
    first: dict[str, Refusal] = {}
    last: dict[str, Refusal] = {}
    for refusal in refusals:
        first.setdefault(refusal.process, refusal)
        last[refusal.process] = refusal
    used: dict[str, int] = defaultdict(int)
    for process, refusal in last.items():
        for route, calls in refusal.passed.items():
            used[route] += calls - first[process].passed.get(route, 0)
    return used


def format_rate(rate_per_s: float) -> str:
    """A rate in two digits: "25 per second", "100 per minute", "30 per hour"."""
    for unit, seconds in (("second", 1), ("minute", 60), ("hour", 3600)):
        count = rate_per_s * seconds
        if count >= (PER_SECOND_FROM if unit == "second" else 1):
            return f"{float(f'{count:.2g}'):,.10g} per {unit}"
    return "one per hour"


def _slowest(limits: Iterable[LimitSettings]) -> str:
    return min(limits, key=lambda limit: bucket_of(limit).rate or 0).name


def _is_rated(limit: LimitSettings) -> bool:
    return limit.shape != "concurrent"


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
