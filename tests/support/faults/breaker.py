"""What a provider's journal says of a breaker: when it had to open, and what left all the same.

The journal knows no breaker. It is replayed against the rule, and between two openings the
breaker is seen by its silence: nothing arrives while it is open.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Part of the hold that must be silent before a call counts as the first probe.
SILENT = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a breaker opens, and how it closes."""

    window_s: int = 10
    least: int = 20  #: calls in the window
    refused: float = 0.6  #: more than this part of them
    open_s: float = 2.0  #: from the opening to the first probe; after a refused one it is longer
    good: int = 2  #: probes in a row that close it
    #: The window holds the second that runs and the whole ones before it, as counters of seconds
    #: do; False: it begins exactly `window_s` ago.
    seconds: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """One request of the journal."""

    began_us: int
    ended_us: int
    refused: bool


@dataclass(frozen=True, slots=True)
class Opening:
    """From the moment at which the rule came true to the last good probe."""

    opened_us: int
    after_us: tuple[int, ...]  #: how long after it each call arrived that came before the probes
    first_probe_us: int | None  #: None: no silence was seen
    probes: int
    refused_probes: int
    at_once: int  #: most calls in work at one moment, from the first probe to the closing
    closed_us: int | None

    def late(self, reaction_s: float = 0.2) -> int:
        """Calls that arrived later than what was in flight can."""
        return sum(us > reaction_s * 1e6 for us in self.after_us)


def calls_of(requests: Iterable[dict[str, Any]]) -> list[Call]:
    """The governed calls of a journal, by their arrival."""
    found = [
        Call(it["t_us"], it["t_us"] + it.get("work_us", 0), it["status"] == 429)
        for it in requests
        if it["kind"] != "token"
    ]
    return sorted(found, key=lambda it: it.began_us)


def openings(calls: Sequence[Call], rule: Rule) -> Iterator[Opening]:
    """Every opening that the rule asks for; at each closing what came before is forgotten."""
    since_us = 0
    while (opened_us := first_true_us(calls, rule, since_us)) is not None:
        opening = _opening(calls, rule, opened_us)
        yield opening
        if opening.closed_us is None:
            return
        since_us = opening.closed_us


def first_true_us(calls: Sequence[Call], rule: Rule, since_us: int = 0) -> int | None:
    """The first refusal at which the rule is true for the calls that arrived from `since_us` on."""
    window: deque[Call] = deque()
    for it in calls:
        if it.began_us < since_us:
            continue
        window.append(it)
        first_us = it.ended_us - rule.window_s * 1_000_000
        if rule.seconds:
            first_us = (it.ended_us // 1_000_000 - rule.window_s + 1) * 1_000_000
        while window[0].began_us < first_us:
            window.popleft()
        refused = sum(one.refused for one in window)
        if it.refused and len(window) >= rule.least and refused > rule.refused * len(window):
            return it.ended_us
    return None


def silences(calls: Sequence[Call], least_s: float) -> list[tuple[int, int]]:
    """The gaps of at least `least_s` between one arrival and the next, us since the epoch."""
    moments = [it.began_us for it in calls]
    return [(a, b) for a, b in pairwise(moments) if b - a >= least_s * 1e6]


def _opening(calls: Sequence[Call], rule: Rule, opened_us: int) -> Opening:
    later = [it for it in calls if it.began_us > opened_us]
    before_us, first = opened_us, len(later)
    for number, it in enumerate(later):
        if it.began_us - before_us >= SILENT * rule.open_s * 1e6:
            first = number
            break
        before_us = it.began_us
    probes = later[first:]
    closed_us = _closed_us(probes, rule.good)
    if closed_us is not None:
        probes = [it for it in probes if it.began_us <= closed_us]
    return Opening(
        opened_us=opened_us,
        after_us=tuple(it.began_us - opened_us for it in later[:first]),
        first_probe_us=probes[0].began_us if probes else None,
        probes=len(probes),
        refused_probes=sum(it.refused for it in probes),
        at_once=_most_at_once(probes),
        closed_us=closed_us,
    )


def _closed_us(probes: Iterable[Call], good: int) -> int | None:
    """When so many in a row had been answered well."""
    in_row = 0
    for it in sorted(probes, key=lambda it: it.ended_us):
        in_row = 0 if it.refused else in_row + 1
        if in_row == good:
            return it.ended_us
    return None


def _most_at_once(calls: Iterable[Call]) -> int:
    # An end goes before a beginning of the same microsecond.
    steps = [(it.began_us, 1) for it in calls] + [(it.ended_us, -1) for it in calls]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most
