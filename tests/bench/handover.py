"""Two tenants of 3 : 1, one of which has work only now and then: how fast its part changes hands.

    python -m tests.bench.handover

A moment is found in the sandbox's journal: the first one, in steps of 50 ms, from which on the
calls of the following second are what they must be. A delay of less than 70 ms does not show there.
"""

from __future__ import annotations

import sys
import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.measure import ordinary_fleet, show
from tests.support.faults.checks import assert_nothing_left
from tests.support.fleet import calls, until
from workers.settings.limits import LimitSettings, bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.fleet import Fleet

APP = {"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}
WEIGHTS = {"a": 3, "b": 1}
#: The part of the governed rate that a tenant alone must have.
ALONE = 0.97
#: The part of `a` while both have work, and how far from it counts as having it.
PART, NEAR = 0.75, 0.05
STEP_US, OVER_US = 50_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When each tenant's calls arrived, us since the epoch, in order."""

    a: Sequence[int]
    b: Sequence[int]

    def rate_of_b(self, from_us: int) -> float:
        """Calls of b a second, over the following second."""
        return _between(self.b, from_us) / (OVER_US / 1e6)

    def part_of_a(self, from_us: int) -> float:
        """Calls of a as part of all, over the following second."""
        a = _between(self.a, from_us)
        return a / max(1, a + _between(self.b, from_us))


def _between(moments: Sequence[int], from_us: int) -> int:
    return bisect_left(moments, from_us + OVER_US) - bisect_left(moments, from_us)


def first_ms(true_at: Callable[[int], bool], from_us: int, within_s: float = 10) -> float | None:
    """How long after `from_us` it is true for the first time; None: not in time."""
    for later_us in range(0, round(within_s * 1e6), STEP_US):
        if true_at(from_us + later_us):
            return later_us / 1e3
    return None


def handover(times: int = 5, turn_s: float = 4, workers: int = 2) -> dict[str, Any]:
    """Tenant b has work all the time, a comes and goes.

    Args:
        times: How often a comes; the first time counts only for its going.
        turn_s: How long its work lasts at its part of the rate, and how long it then stays away.
        workers: Processes, of 32 threads each.
    """
    rate = bucket(LimitSettings(**APP)).rate or 0.0
    rows, coming_us = round(PART * rate * turn_s), list[int]()
    tenants = {name: {"weight": weight} for name, weight in WEIGHTS.items()}
    with ordinary_fleet([APP], client={"tenants": tenants}) as fleet:
        for number in range(workers):
            fleet.start_worker(f"w{number}", 32)
        time.sleep(4)
        # All of the rate for two seconds, then a quarter of it in each turn of a, and all after it.
        backlog = round(rate * (4 + turn_s * times * 1.3))
        fleet.submit([{**row, "tenant": "b"} for row in calls(backlog, prefix="b")], job="b")
        until(lambda: fleet.ended("b") >= rate * 2, 60, "the steady part", fleet)
        for number in range(times):
            name = f"a{number}"
            work = [{**row, "tenant": "a"} for row in calls(rows, prefix=f"{name}-")]
            coming_us.append(_submit(fleet, name, work))
            fleet.wait(name)
            time.sleep(turn_s)
        assert fleet.ended("b") < backlog, "b had no work at the end, so that nothing is proven"
        until(lambda: fleet.ended("b") == backlog, 300, "the end of b's work", fleet)
        assert_nothing_left(fleet)
        return _figures(fleet, coming_us, rate)


def _submit(fleet: Fleet, name: str, work: list[dict[str, Any]]) -> int:
    """When the job was accepted by the store, us since the epoch."""
    fleet.submit(work, job=name)
    return fleet.client.ledger.job(name).started_us


def _figures(fleet: Fleet, coming_us: Sequence[int], rate: float) -> dict[str, Any]:
    moments: dict[str, list[int]] = {"a": [], "b": []}
    ends: dict[str, int] = {}
    for it in fleet.effects():
        name = it["business_id"]
        moments[name[0]].append(it["t_us"])
        if name[0] == "a":
            job = name.partition("-")[0]
            ends[job] = max(ends.get(job, 0), it["t_us"])
    seen = Arrivals(sorted(moments["a"]), sorted(moments["b"]))
    return {
        "b has all after a's last call, ms": [
            first_ms(lambda us: seen.rate_of_b(us) >= ALONE * rate, us) for us in ends.values()
        ],
        "a has its part after acceptance, ms": [
            first_ms(lambda us: abs(seen.part_of_a(us) - PART) <= NEAR, us) for us in coming_us
        ],
        "a's first call after acceptance, ms": [
            (seen.a[bisect_left(seen.a, us)] - us) / 1e3 for us in coming_us
        ],
        "429s": fleet.report()["refused_429"],
    }


if __name__ == "__main__":
    short = "--short" in sys.argv[1:]
    show("two tenants 3 : 1, a comes and goes", handover(times=2 if short else 5))
