"""What refusals suggest: from answers of 429 to one sentence for the operator. Pure.

| the evidence of one hour                     | the sentence                                   |
| -------------------------------------------- | ---------------------------------------------- |
| fewer than 3 refusals, or all under one hold | none                                           |
| nothing gets through between two holds       | the wait is too short, or somebody else ...    |
| a route is refused, the others are not       | add a limit for it, or lower the one it has    |
| all routes in use are refused                | lower the client's limit, or somebody else ... |
| the one route in use is refused              | either of the last two                         |

Refusals under other limits than those of today are history: whoever changed a limit is not told
again what led to it.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

from workers.governor.refusals import rules_of
from workers.settings.limits import bucket

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from workers.governor.refusals import Refusal
    from workers.settings.limits import LimitSettings

#: Fewer refusals than this say nothing; and so many of a route that is used like the refused ones
#: would have been expected among theirs before it counts as one that is not refused.
ENOUGH: Final = 3
#: Above so many calls per second a rate is told per second, else per minute.
PER_SECOND_FROM: Final = 10.0


def suggestions(refusals: Sequence[Refusal], limits: Sequence[LimitSettings]) -> list[str]:
    """What should be changed, one sentence each; the route that is refused most comes first.

    Args:
        refusals: Of one client and the last hour.
        limits: The client's limits as they are configured now.
    """
    rules = rules_of(limits)
    seen = [it for it in refusals if it.rules == rules]
    counts = {route: [it.route for it in seen].count(route) for route in {it.route for it in seen}}
    routes = sorted(counts, key=lambda it: (-counts[it], it))
    used = _used(seen)
    others = sum(calls for route, calls in used.items() if route not in counts)
    if others * len(seen) >= ENOUGH * sum(used.values()) > 0:
        found = [_of_route(route, seen, limits) for route in routes]
    elif len(routes) > 1:
        found = [_of_all(seen, counts, limits)]
    else:
        found = [_of_route(route, seen, limits, alone=True) for route in routes]
    return [it for it in found if it]


def _of_route(
    route: str, seen: Iterable[Refusal], limits: Sequence[LimitSettings], *, alone: bool = False
) -> str:
    own = [it for it in seen if it.route == route]
    rate = through_per_s(own, {route})
    if rate is None:
        return ""
    if not rate:
        return _in_vain(route)
    charged = {name for it in own for name in it.tokens}
    endpoint = [it for it in limits if it.name in charged and it.match != "* *" and _rated(it)]
    said = f"{route} is refused at about {about(rate)}"
    if endpoint:
        return f"{said}: lower the limit {_slowest(endpoint)}"
    whole = [it for it in limits if it.match == "* *" and _rated(it)]
    if alone and whole:
        return f"{said}: add a limit for it, or lower {_slowest(whole)} if all calls count together"
    return f"{said}: add a limit for it"


def _of_all(
    seen: Sequence[Refusal], routes: Collection[str], limits: Sequence[LimitSettings]
) -> str:
    rate = through_per_s(seen, routes)
    if rate is None:
        return ""
    if not rate:
        return _in_vain("every route")
    whole = [it for it in limits if it.match == "* *" and _rated(it)]
    do = f"lower the limit {_slowest(whole)}" if whole else "add a limit for all calls"
    return (
        f"every route is refused, at about {about(rate)} in all: {do}, "
        f"or find out who else uses the quota"
    )


def _in_vain(what: str) -> str:
    return (
        f"{what} is refused again as soon as its hold ends: the provider asks for too short a "
        f"wait, or somebody else takes what comes back"
    )


def through_per_s(refusals: Sequence[Refusal], routes: Collection[str]) -> float | None:
    """Calls per second of these routes that got through in the long run, their holds included.

    Counted is from one hold to a later one, so that a whole number of the provider's windows lies
    between, whatever they are. Each process knows its own calls; the fleet's are as many times
    more as there are workers.

    Returns:
        The median over all such spans; None when there are fewer than `ENOUGH` refusals or no span.
    """
    by_process: dict[str, list[Refusal]] = defaultdict(list)
    for it in _first_of_holds(refusals):
        by_process[it.process].append(it)
    rates = [
        sum(b.passed.get(it, 0) - a.passed.get(it, 0) for it in routes) / (b.at_s - a.at_s)
        for own in by_process.values()
        for a, b in pairwise(own)
        if b.at_s > a.at_s
    ]
    if len(refusals) < ENOUGH or not rates:
        return None
    return median(rates) * max(1, *(it.workers for it in refusals))


def _first_of_holds(refusals: Iterable[Refusal]) -> list[Refusal]:
    """The first refusal of each process under each hold; the others were under way together."""
    found: dict[tuple[int, str], Refusal] = {}
    holds, until_s = 0, 0.0
    for it in sorted(refusals, key=lambda it: it.at_s):
        holds += it.at_s >= until_s
        until_s = max(until_s, it.at_s + it.pause_s)
        found.setdefault((holds, it.process), it)
    return list(found.values())


def _used(refusals: Iterable[Refusal]) -> dict[str, int]:
    """Calls that got through between the first and the last refusal that a process saw."""
    first: dict[str, Refusal] = {}
    last: dict[str, Refusal] = {}
    for it in refusals:
        first.setdefault(it.process, it)
        last[it.process] = it
    used: dict[str, int] = defaultdict(int)
    for process, it in last.items():
        for route, calls in it.passed.items():
            used[route] += calls - first[process].passed.get(route, 0)
    return used


def about(rate_per_s: float) -> str:
    """A rate in two digits: "25 per second", "100 per minute", "30 per hour"."""
    for unit, seconds in (("second", 1), ("minute", 60), ("hour", 3600)):
        count = rate_per_s * seconds
        if count >= (PER_SECOND_FROM if unit == "second" else 1):
            return f"{float(f'{count:.2g}'):,.10g} per {unit}"
    return "one per hour"


def _slowest(limits: Iterable[LimitSettings]) -> str:
    return min(limits, key=lambda it: bucket(it).rate or 0).name


def _rated(limit: LimitSettings) -> bool:
    return limit.shape != "concurrent"
