"""What clients cost: cost follows the calls, not the clients.

    python -m tests.bench.growth

The same calls a second come from one client, or from a hundred among two hundred. Idle clients
cost next to nothing. Beside a client whose calls all hang another one keeps its rate.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.cpu import WARM_UP_S, cpu_s
from tests.bench.measure import ordinary_fleet, show, steady_rate
from tests.support.faults.checks import assert_nothing_left
from tests.support.fleet import calls, until
from workers.settings.limits import LimitSettings, bucket_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.fleet import Fleet

#: Seconds for which idle clients are watched, and for which busy ones work.
IDLE_S, BUSY_S = 20.0, 15.0
#: Calls a second of all busy clients together.
ALL_PER_S = 200


#: No call of this client is ever answered.
HANGS = {"kind": "hang_before", "hang_s": 3600, "when": {"clients": ["hangs-"]}}


@dataclass(frozen=True)
class Cost:
    """CPU, in seconds, of worker and store."""

    worker_s: float
    store_s: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.worker_s - other.worker_s, self.store_s - other.store_s)


def cost_of(fleet: Fleet) -> Cost:
    """What the workers and the store of a fleet have spent so far."""
    worker_s = sum(cpu_s(fleet.worker_pid(name)) for name in fleet.workers)
    return Cost(worker_s, cpu_s(fleet.store_server.pid))


def limit_of(per_s: float) -> dict[str, Any]:
    """A limit of so many calls a second, which the governor may use whole."""
    return {"name": "app", "count": round(10 * per_s), "window_s": 10, "shape": "bucket"}


def idle(number: int) -> dict[str, Any]:
    """So many configured clients without any work, and one worker."""
    names = [f"c{n}-" for n in range(number)]
    with ordinary_fleet([limit_of(2)], names=names, fsync="everysec") as fleet:
        fleet.start_worker("w0", 32)
        time.sleep(WARM_UP_S + number / 100)
        before = cost_of(fleet)
        time.sleep(IDLE_S)
        spent = cost_of(fleet) - before
        return {
            f"{number} idle: worker, % of a core": spent.worker_s / IDLE_S * 100,
            f"{number} idle: store, % of a core": spent.store_s / IDLE_S * 100,
        }


def busy(number: int, configured: int) -> tuple[float, float, list[float], int]:
    """So many of the configured clients make `ALL_PER_S` calls together.

    Returns:
        CPU in ms a call of the worker and of the store, the rate of each client as a part of its
        limit, and how many calls were refused.
    """
    names = [f"c{n}-" for n in range(configured)]
    limit = limit_of(ALL_PER_S / number)
    with ordinary_fleet([limit], names=names, fsync="everysec") as fleet:
        fleet.start_worker("w0", 64)
        time.sleep(WARM_UP_S + configured / 100)
        each = round(bucket_of(LimitSettings(**limit)).rate * BUSY_S)
        busy_ones = [fleet.of(name) for name in names[:number]]
        before = cost_of(fleet)
        for one in busy_ones:
            one.submit(calls(each, prefix=one.client.name))
        for one in busy_ones:
            until(lambda one=one: one.ended() == each, 120, "the end", one)
        spent = cost_of(fleet) - before
        for one in busy_ones:
            assert_nothing_left(one)
        governed = bucket_of(LimitSettings(**limit)).rate
        rates = [steady_rate(fleet, each, one.client.name) / governed for one in busy_ones]
        made = each * number
        refused = fleet.report()["refused_429"]
        return spent.worker_s / made * 1e3, spent.store_s / made * 1e3, sorted(rates), refused


def clients(repeats: int = 3) -> dict[str, Any]:
    """One client beside a hundred of two hundred, in interleaved pairs."""
    runs = [(busy(1, 1), busy(100, 200)) for _ in range(repeats)]

    def listed(index: int, part: int) -> str:
        return " ".join(f"{run[index][part]:.2f}" for run in runs)

    return {
        "1 client at 200/s: worker, ms a call": listed(0, 0),
        "100 of 200 at 2/s: worker, ms a call": listed(1, 0),
        "ratio, median": statistics.median(many[0] / one[0] for one, many in runs),
        "1 client at 200/s: store, ms a call": listed(0, 1),
        "100 of 200 at 2/s: store, ms a call": listed(1, 1),
        "ratio of the store, median": statistics.median(many[1] / one[1] for one, many in runs),
        "least rate of the 100, of its own": min(many[2][0] for _, many in runs),
        "429s": sum(one[3] + many[3] for one, many in runs),
    }


def many_workers(numbers: Sequence[int] = (1, 8)) -> dict[str, Any]:
    """One client of 200/s on so many workers of 8 threads: rings a second, and the rate."""
    limit = limit_of(ALL_PER_S)
    governed = bucket_of(LimitSettings(**limit)).rate
    figures: dict[str, Any] = {}
    for number in numbers:
        with ordinary_fleet([limit], fsync="everysec") as fleet:
            for one in range(number):
                fleet.start_worker(f"w{one}", 64 // number)
            time.sleep(WARM_UP_S + 2 * number)
            count = round(governed * BUSY_S)
            fleet.client.store.config_resetstat()
            began_s = time.monotonic()
            fleet.submit(calls(count))
            fleet.wait(timeout_s=120)
            took_s = time.monotonic() - began_s
            stats = fleet.client.store.info("commandstats")
            figures[f"{number} workers: of the governed rate"] = (
                steady_rate(fleet, count) / governed
            )
            figures[f"{number} workers: 429s"] = fleet.report()["refused_429"]
            figures[f"{number} workers: FCALLs a second"] = stats["cmdstat_fcall"]["calls"] / took_s
    return figures


def beside_one_that_hangs() -> dict[str, Any]:
    """Two clients on one worker: the calls of one are never answered, those of the other are."""
    limit = limit_of(30)
    governed = bucket_of(LimitSettings(**limit)).rate
    with ordinary_fleet(
        [limit],
        names=["hangs-", "works-"],
        fsync="everysec",
        sandbox={"faults": [HANGS]},
    ) as fleet:
        fleet.start_worker("w0", 32)
        time.sleep(WARM_UP_S)
        count = round(governed * BUSY_S)
        hangs, works = fleet.of("hangs-"), fleet.of("works-")
        hangs.submit(calls(count, prefix="hangs-"))
        works.submit(calls(count, prefix="works-"))
        until(lambda: works.ended() == count, 120, "the end", works)
        rate = steady_rate(fleet, count, "works-")
        return {"rate of the one that works, of its own": rate / governed}


def main() -> None:
    """Run all parts, one after the other."""
    show("idle clients", {**idle(1), **idle(100), **idle(1000)})
    show("the same calls of one client and of many", clients())
    show("one client on 1 and on 8 workers", many_workers())
    show("beside a client whose calls hang", beside_one_that_hangs())


if __name__ == "__main__":
    main()
