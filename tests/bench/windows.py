"""Window limits in every shape, length and number of worker processes, strict at the provider.

    python -m tests.bench.windows           all combinations, about 11 minutes
    python -m tests.bench.windows --short   a glance: 300 per 10 s, one and two processes

Each combination begins with a store that knows nothing and a provider whose window begins with the
first call. The provider takes 80 ms at the median, log-normal with sigma 0.6. The rates are low, so
several fleets run beside each other; the sandbox's longest lag tells whether that was too much.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.measure import ordinary_fleet
from tests.support.faults.checks import check_all
from tests.support.fleet import calls, until
from workers.governor.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COUNT = 300
SHAPES = ("fixed_window", "sliding_window")
#: How many windows are measured after the first one.
STEADY = {10: 4, 60: 2}
#: What runs at the same time: the window's length and the numbers of processes, for both shapes.
BATCHES = ((10, (1, 2)), (10, (4,)), (10, (8,)), (60, (1, 2, 4)), (60, (8,)))
SHORT = ((10, (1, 2)),)


@dataclass(frozen=True, slots=True)
class Combination:
    """One run."""

    window_s: int
    shape: str
    workers: int

    @property
    def threads(self) -> int:
        """Of each worker process; a few, as where many processes share a small quota."""
        return 4 if self.workers == 8 else 8


@dataclass(frozen=True, slots=True)
class Seen:
    """What the sandbox saw of it."""

    refused: int  #: answers of 429, the cold start included
    most: int  #: calls that arrived in any stretch of one window
    first: float  #: of the limit, in the window that began with the first call
    steady: float  #: of the limit, in the windows after it
    worst: float  #: of the limit, in the weakest of these
    lag_ms: float  #: longest time that the sandbox kept an arrival waiting


def measure(it: Combination) -> Seen:
    """Run a full backlog through the first window and the steady ones."""
    limit = {"name": "app", "count": COUNT, "window_s": it.window_s, "shape": it.shape}
    rows = COUNT * (1 + STEADY[it.window_s])  # more than may leave: the backlog outlasts them all
    with ordinary_fleet([limit], sandbox={"latency_sigma": 0.6}) as fleet:
        for number in range(it.workers):
            fleet.start_worker(f"w{number}", it.threads)
        until(lambda: count_workers(fleet) == it.workers, 120, "all workers", fleet)
        fleet.submit(calls(rows))
        time.sleep(rows / COUNT * it.window_s)  # it cannot end earlier, and looking costs CPU
        until(lambda: fleet.ended() == rows, 60 + it.window_s, "the end of all rows", fleet)
        check_all(fleet)
        report, health = fleet.report(), fleet.sandbox.get("health")
        moments_us = [entry["t_us"] for entry in fleet.requests() if entry["kind"] != "token"]
        first, *steady = by_window(moments_us, it.window_s, 1 + STEADY[it.window_s])
        return Seen(
            refused=report["refused_429"],
            most=report["windows"][0]["max_arrived"],
            first=first / COUNT,
            steady=sum(steady) / len(steady) / COUNT,
            worst=min(steady) / COUNT,
            lag_ms=health["max_lag_us"] / 1e3,
        )


def count_workers(fleet: Any) -> int:
    """How many workers live."""
    return len(Registry(fleet.client.store, fleet.client.keys.namespace).look().live)


def by_window(moments_us: Iterable[int], window_s: float, windows: int) -> list[int]:
    """How many moments each of the first windows holds; the first one begins with the first."""
    moments = sorted(moments_us)
    counts = [0] * windows
    for moment_us in moments:
        window = int((moment_us - moments[0]) / (window_s * 1e6))
        if window < windows:
            counts[window] += 1
    return counts


def show_windows(batches: Sequence[tuple[int, Sequence[int]]] = BATCHES) -> None:
    """Run the batches one after the other; one line a combination."""
    print("\nwindows, of the limit: cold start (first window), steady state, its weakest window")
    for window_s, numbers in batches:
        its = [Combination(window_s, shape, number) for number in numbers for shape in SHAPES]
        with ThreadPoolExecutor(len(its)) as pool:
            for it, seen in zip(its, pool.map(measure, its), strict=True):
                print(
                    f"  {COUNT} per {it.window_s} s {it.shape:14} {it.workers} processes"
                    f" x {it.threads} threads: {seen.first:.3f} {seen.steady:.3f} {seen.worst:.3f},"
                    f" {seen.refused} x 429, at most {seen.most} in any {it.window_s} s,"
                    f" lag {seen.lag_ms:.0f} ms",
                    flush=True,
                )


if __name__ == "__main__":
    show_windows(SHORT if "--short" in sys.argv[1:] else BATCHES)
