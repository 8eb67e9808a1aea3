"""What more worker processes, and more clients, leave of the rate: nothing of it may be lost.

    python -m tests.bench.scale

The quota is the client's: one process, two and four must come to the same rate. Several clients
share the processes, and each must come to its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.bench.measure import ordinary_fleet, show, steady_rate
from tests.support.faults.checks import assert_nothing_left, check_all
from tests.support.fleet import calls, until
from workers.settings.limits import LimitSettings, bucket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.fleet import Fleet

APP: dict[str, Any] = {"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}
#: Calibration tight, so that what is held against 25/s is all of it.
SMALL: dict[str, Any] = {
    "name": "app", "count": 25, "window_s": 1, "shape": "bucket", "calibration": "tight",
}  # fmt: skip


def processes(numbers: Iterable[int] = (1, 2, 4), count: int = 2000) -> dict[str, Any]:
    """The same backlog of one client, through so many worker processes of 32 threads each."""
    governed = bucket(LimitSettings(**APP)).rate or 0.0
    rates, refused = dict[int, float](), 0
    for number in numbers:
        with ordinary_fleet([APP]) as fleet:
            _start(fleet, number)
            fleet.submit(calls(count))
            until(lambda fleet=fleet: fleet.ended() == count, 60, "the end", fleet)
            check_all(fleet)
            rates[number] = steady_rate(fleet, count) / governed
            refused += fleet.report()["refused_429"]
    return {
        **{f"of the governed rate, {number}": rate for number, rate in rates.items()},
        "between the least and the most": max(rates.values()) / min(rates.values()) - 1,
        "429s": refused,
    }


def clients(number: int = 8, seconds: float = 20, workers: int = 2) -> dict[str, Any]:
    """Clients of 25/s each with full backlogs, all at once on the same worker processes."""
    names = [f"c{n}-" for n in range(number)]
    count = round(SMALL["count"] * seconds)
    with ordinary_fleet([SMALL], names=names) as fleet:
        _start(fleet, workers)
        each = [fleet.of(name) for name in names]
        for it in each:
            it.submit(calls(count, prefix=it.client.name))
        for it in each:
            assert it.wait() == {"succeeded": count}
            assert_nothing_left(it)
        report = fleet.report()
        rates = sorted(steady_rate(fleet, count, name) / SMALL["count"] for name in names)
        return {
            "each, of its limit": " ".join(f"{rate:.3f}" for rate in rates),
            "429s": report["refused_429"],
            "doubled": report["duplicates"],
            "lost": count * number - report["effects"],
        }


def _start(fleet: Fleet, workers: int) -> None:
    for number in range(workers):
        fleet.start_worker(f"w{number}", 32)
    time.sleep(4)


def main() -> None:
    """Run both parts, one after the other."""
    show("1, 2 and 4 worker processes, 200/s bucket", processes())
    show("8 clients of 25/s each, 2 workers", clients())


if __name__ == "__main__":
    main()
