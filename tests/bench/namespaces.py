"""Two namespaces on one server, each at about 30 % of the machine, beside one of them alone.

    python -m tests.bench.namespaces

Each has a client, a worker and a quota of its own at the provider; store and broker are shared.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.bench.measure import ordinary_fleet, probed, show, start_probed, steady_rate
from tests.support.fleet import calls
from workers.clients import Clients
from workers.settings.load import load

if TYPE_CHECKING:
    from tests.support.fleet import Fleet

#: Worker, store and broker of one namespace spend about 30 % of two cores on this.
LIMIT = {"name": "app", "count": 300, "window_s": 1, "shape": "bucket"}
OTHER = "other"
#: How far from its rate alone a namespace may be.
NEAR = 0.03


def namespaces(count: int = 5000) -> dict[str, Any]:
    """Send `count` calls alone, then as many in each namespace at once."""
    with ordinary_fleet([LIMIT], names=("acme", "beta")) as fleet:
        start_probed(fleet, 1, 32)
        time.sleep(4)
        before, began = probed(fleet)["cpu_s"], time.monotonic()
        alone = _rate(fleet, "alone", count)
        spent = (probed(fleet)["cpu_s"] - before) / (time.monotonic() - began)

        folder = fleet.folder / "data.other"
        names = {"HEADGATE_STORE__NAMESPACE": OTHER, "HEADGATE_STORE__DATA_DIR": str(folder)}
        fleet.start_worker("other", 32, names)
        settings = load(fleet.config)
        store = settings.store.model_copy(update={"namespace": OTHER, "data_dir": folder})
        other = fleet.of("beta")
        other.client = Clients(settings.model_copy(update={"store": store}))["beta"]
        time.sleep(4)
        beside = _rate(fleet, "beside", count)
        with ThreadPoolExecutor(2) as threads:
            both = threads.map(_rate, (fleet, other), ("one", OTHER), (count, count))
            first, second = both
        fleet.stop_worker("other")
        again = _rate(fleet, "again", count)
        speed = (alone + again) / 2  # the machine's speed drifts
        return {
            "rate alone, calls/s": alone,
            "rate alone at the end, calls/s": again,
            "worker CPU alone, part of the machine": spent / (os.cpu_count() or 1),
            "beside an idle worker of another, of alone": beside / speed,
            "both at work, the first, of alone": first / speed,
            "both at work, the other, of alone": second / speed,
            "doubled": fleet.report()["duplicates"],
            "lost": 5 * count - fleet.report()["effects"],
            "each within 3 % of alone": min(beside, first, second) >= (1 - NEAR) * speed,
        }


def _rate(fleet: Fleet, name: str, count: int) -> float:
    """Send so many calls as a job of this name; returns how many a second arrived."""
    fleet.submit(calls(count, prefix=f"{name}-"), job=name)
    fleet.wait(name, timeout_s=300)
    return steady_rate(fleet, count, f"{name}-")


def main() -> int:
    """Print the figures; 1 = a namespace is farther from its rate alone than it may be."""
    figures = namespaces()
    show("two namespaces on one server", figures)
    return 0 if figures["each within 3 % of alone"] else 1


if __name__ == "__main__":
    sys.exit(main())
