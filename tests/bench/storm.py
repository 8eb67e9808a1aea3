"""A provider that answers 429 without Retry-After: when the breaker opens, what it lets through.

    python -m tests.bench.storm                   four processes, 70 % for 15 s
    python -m tests.bench.storm SECONDS BEFORE    other lengths; BEFORE rows end before the storm

Every such 429 pauses its route for a backoff. With that of the product's defaults, 1 s doubled by
each refusal, 15 s see about as many calls, and there is nothing left for a breaker to do; so here
the backoff is 0.1 to 1 s.

All figures are of the provider's journal, but for the rows'. The rule is told there by whole
seconds, as counters of seconds see it; beside it stands what it comes to by the microsecond.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.measure import ordinary_fleet, show
from tests.support.faults.breaker import (
    SILENT,
    Opening,
    Rule,
    calls_of,
    first_true_us,
    openings,
    silences,
)
from tests.support.faults.checks import check_all
from tests.support.fleet import calls, until
from workers.governor.registry import Registry

if TYPE_CHECKING:
    from tests.support.faults.breaker import Call

APP = {"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}
RULE = Rule()
BACKOFF = {"backoff_base_s": 0.1, "backoff_cap_s": 1.0}


@dataclass(frozen=True, slots=True)
class Storm:
    """What one run came to."""

    openings: list[Opening]  #: by the rule; no more than that may be seen
    holds: int  #: silences as long as the breaker's
    unasked: int  #: of these, while the rule was not true and no probe had been refused
    late_exact: int  #: late calls of the first opening, the rule taken by the microsecond
    calls: int  #: that arrived during the storm
    refused: int
    closed_after_s: float | None  #: from the end of the storm to the last closing
    rate_after: float  #: calls per second from a second after the last closing on
    states: dict[str, int]  #: of the rows
    attempts: int  #: of all rows

    def figures(self) -> dict[str, Any]:
        """As the bench prints them."""
        return {
            "calls in the storm, refused": f"{self.calls} {self.refused}",
            "openings by the rule": len(self.openings),
            "late calls": [it.late() for it in self.openings],
            "late calls, rule by the microsecond": self.late_exact,
            "last of them after the opening, ms": [
                it.after_us[-1] / 1e3 if it.after_us else None for it in self.openings
            ],
            "probes, refused": [(it.probes, it.refused_probes) for it in self.openings],
            "most at once while half open": [it.at_once for it in self.openings],
            "holds seen, not asked for": f"{self.holds} {self.unasked}",
            "closed, s after the storm": self.closed_after_s,
            "calls per s after it closed": self.rate_after,
            "rows": self.states,
            "attempts": self.attempts,
        }


def storm(
    seconds: float = 15, before: int = 400, after: int = 2600, workers: int = 4, share: float = 0.7
) -> Storm:
    """Run a full backlog through a storm.

    Args:
        seconds: How long the storm lasts.
        before: Rows that end before it; 0: it is there from the first call on.
        after: Rows beyond these, for what comes after the storm.
        workers: Processes, of 16 threads each.
        share: Of the calls, that is refused.
    """
    order = {"seconds": seconds, "share": share, "retry_after": None}
    with ordinary_fleet([APP], client=BACKOFF) as fleet:
        for number in range(workers):
            fleet.start_worker(f"w{number}", 16)
        registry = Registry(fleet.client.store, fleet.client.keys.namespace)
        until(lambda: registry.look().live, 60, "a worker", fleet)
        time.sleep(4)  # the others
        if not before:
            fleet.sandbox.post("storm", order)
            began_us = fleet.sandbox.get("health")["t_us"]
        fleet.submit(calls(before + after))
        if before:
            fleet.wait_for(before)
            fleet.sandbox.post("storm", order)
            began_us = fleet.sandbox.get("health")["t_us"]
        states = fleet.wait(timeout_s=seconds + 240)
        check_all(fleet)
        attempts = sum(it.attempts for it in fleet.transactions().values())
        found = calls_of(fleet.requests())
        return _seen(found, (began_us, began_us + round(seconds * 1e6)), states, attempts)


def _seen(found: list[Call], span: tuple[int, int], states: dict[str, int], attempts: int) -> Storm:
    began_us, ended_us = span
    within = [it for it in found if began_us <= it.began_us < ended_us]
    its = list(openings(found, RULE))
    holds = silences(found, SILENT * RULE.open_s)
    exact_us = first_true_us(found, Rule(seconds=False))
    closed_us = its[-1].closed_us if its else None
    tail_us = 1_000_000 + (ended_us if closed_us is None else max(closed_us, ended_us))
    tail = [it for it in found if it.began_us >= tail_us]
    return Storm(
        openings=its,
        holds=len(holds),
        unasked=sum(not _asked(its, hold) for hold in holds),
        late_exact=_late_exact(found, its, exact_us),
        calls=len(within),
        refused=sum(it.refused for it in within),
        closed_after_s=None if closed_us is None else (closed_us - ended_us) / 1e6,
        rate_after=len(tail) / max(1.0, (found[-1].began_us - tail_us) / 1e6),
        states=states,
        attempts=attempts,
    )


def _asked(its: list[Opening], hold: tuple[int, int]) -> bool:
    """Whether a silence lies between an opening and its closing."""
    return any(it.opened_us < hold[1] and hold[1] <= (it.closed_us or hold[1]) for it in its)


def _late_exact(found: list[Call], its: list[Opening], exact_us: int | None) -> int:
    if not its or exact_us is None:
        return 0
    till_us = its[0].first_probe_us or found[-1].began_us + 1
    return sum(exact_us + 200_000 < it.began_us < till_us for it in found)


if __name__ == "__main__":
    given = sys.argv[1:]
    it = storm(*(float(given[0]), int(given[1]))) if given else storm()
    show("70 % of 429 without Retry-After, four processes", it.figures())
