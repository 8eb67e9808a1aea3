"""Two configurations under load: while both live, no window holds more than the smaller limit."""

from __future__ import annotations

import signal
import time
from bisect import bisect_left

import pytest

from tests.support import journal
from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, until
from workers.governor.registry import LIVES_S, Registry
from workers.ledger import audit
from workers.settings.limits import bucket_of

LOW, HIGH = 100, 300
#: A call that was granted before a limit changed may arrive so much later, seconds.
ON_ITS_WAY_S = 0.5


def a_fleet() -> Fleet:
    """The provider allows the higher limit; what the lower one bears is read from its journal."""
    limit = {"name": "app", "count": HIGH, "window_s": 1, "shape": "sliding_window"}
    return Fleet(limits=[limit], sandbox={"latency_ms": 20})


def start(fleet: Fleet, name: str, count: int) -> None:
    """A worker whose file has this count; returns when it lives."""
    path = fleet.folder / f"limit-{count}.toml"
    path.write_text(fleet.config.read_text().replace(f"count = {HIGH}", f"count = {count}"))
    fleet.start_worker(name, env={"HEADGATE_CONFIG": str(path)})
    until(lambda: name in lives(fleet), 60, f"the heartbeat of {name}", fleet)


def lives(fleet: Fleet) -> list[str]:
    """The names of the live processes."""
    registry = Registry(fleet.client.store, fleet.clients.settings.store.namespace)
    return [process.name for process in registry.look().live.values()]


def holds(fleet: Fleet, count: int) -> bool:
    """Whether the limit that holds is the one of this count."""
    (limit,) = fleet.client.look()[1].limits
    kept = bucket_of(limit).rate or 0.0
    return abs(kept - count) < 0.1 * count


def fullest_second(fleet: Fleet, from_s: float, to_s: float) -> int:
    """The most calls in any second between two moments."""
    moments = sorted(
        each["t_us"]
        for each in fleet.requests()
        if each["kind"] != "token" and from_s * 1e6 <= each["t_us"] <= to_s * 1e6
    )
    ends = [bisect_left(moments, moment + 1_000_000) for moment in moments]
    return max((end - first for first, end in enumerate(ends)), default=0)


@pytest.mark.parametrize(
    "counts", [(LOW, HIGH), (HIGH, LOW)], ids=["yesterdays_file_last", "lower_limit_last"]
)
@pytest.mark.parametrize("killed", ["w1", "w2"])
def test_the_smaller_limit_holds_under_load_while_one_is_killed(
    counts: tuple[int, int], killed: str
) -> None:
    with a_fleet() as fleet:
        fleet.submit(calls(2500))
        start(fleet, "w1", counts[0])
        fleet.wait_for(200, timeout_s=60)
        start(fleet, "w2", counts[1])
        until(lambda: holds(fleet, LOW), 30, "the smaller limit", fleet)
        both_s = time.time()
        fleet.wait_for(fleet.ended() + 200, timeout_s=60)
        fleet.kill_worker(killed)
        fleet.wait_for(fleet.ended() + 400, timeout_s=60)
        assert holds(fleet, LOW)
        ended_s = time.time()

        low = "w1" if counts[0] == LOW else "w2"
        fleet.stop_worker(low, signal.SIGKILL)  # with its supervisor: it says no goodbye
        dead_s = time.time()
        until(lambda: holds(fleet, HIGH), 60, "the higher limit alone", fleet)
        assert time.time() - dead_s > LIVES_S / 2

        assert fleet.wait(timeout_s=180) == {"succeeded": 2500}
        assert 0 < fullest_second(fleet, both_s + ON_ITS_WAY_S, ended_s) <= LOW
        assert journal.nothing_refused(fleet.report()) == []
        entries = audit.read(fleet.client.store, fleet.client.keys)
        changes = [entry.action for entry in entries].count("limits agreed")
        assert changes == (1 if low == "w1" else 2)  # the higher file alone; before, the lower one
        check_all(fleet)
