"""What one run of real workers came to, in ratios."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.faults.checks import check_all
from tests.support.fleet import ROOT, Fleet, calls
from workers.governor.grants import Denied, Grant
from workers.settings.limits import LimitSettings, bucket_of
from workers.store.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROBE = Path(__file__).parent / "probe"
#: Timeouts as users have them: the short leases of the fault tests would disturb a figure.
ORDINARY = {
    "total_timeout_s": 60.0, "connect_timeout_s": 5.0, "read_timeout_s": 30.0,
    "backoff_base_s": 1.0,
}  # fmt: skip


def ordinary_fleet(limits: Iterable[Mapping[str, Any]], **more: Any) -> Fleet:
    """A fleet with the product's own defaults, its broker apart so that bells can be counted."""
    client = {**ORDINARY, **more.pop("client", {})}
    sandbox = {"latency_ms": 80, **more.pop("sandbox", {})}
    worker = {"bell_grace_s": 3.0, "lease_margin_s": 5.0, **more.pop("worker", {})}
    return Fleet(limits, sandbox, client, worker, broker=True, **more)


def start_probed(fleet: Fleet, workers: int, concurrency: int) -> None:
    """Workers that write down what they do."""
    folder = fleet.folder / "probe"
    folder.mkdir()
    env = {"HEADGATE_PROBE": str(folder), "PYTHONPATH": f"{PROBE}{os.pathsep}{ROOT}"}
    for number in range(workers):
        fleet.start_worker(f"w{number}", concurrency, env)


def probed(fleet: Fleet) -> Counter[str]:
    """The sums of all workers."""
    time.sleep(0.7)  # the last half second is written too
    total: Counter[str] = Counter()
    for file in (fleet.folder / "probe").glob("*.json"):
        total.update(json.loads(file.read_text()))
    return total


#: What was shown so far: each block's title and figures.
SHOWN: list[tuple[str, dict[str, Any]]] = []


def show(title: str, figures: dict[str, Any]) -> None:
    """Print one block, and keep it for the page of the run."""
    SHOWN.append((title, figures))
    print(f"\n{title}")
    for name, value in figures.items():
        print(f"  {name:34} {_plain(value)}")


def page_of(blocks: Iterable[tuple[str, dict[str, Any]]], machine: str) -> str:
    """A run as a page of the docs: a table for each block.

    Args:
        blocks: Title and figures of each.
        machine: On what it ran, one line.
    """
    lines = ["# Figures", "", "Written by `python -m tests.bench --write`: one whole run."]
    lines += ["Ratios hold on other machines, times do not.", "", machine]
    for title, figures in blocks:
        lines += ["", f"## {title}", "", "| figure | value |", "| --- | --- |"]
        lines += [f"| {name} | {_plain(value)} |" for name, value in figures.items()]
    return "\n".join([*lines, ""])


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def steady_rate(fleet: Fleet, made: int, prefix: str = "") -> float:
    """Executions a second between 15 % and 95 % of all, or of those on names with this prefix."""
    moments = sorted(it["t_us"] for it in fleet.effects() if it["business_id"].startswith(prefix))
    low, high = int(made * 0.15), int(made * 0.95)
    return (high - low) / ((moments[high] - moments[low]) / 1e6)


def run(
    limit: Mapping[str, Any],
    count: int,
    steps: int = 1,
    workers: int = 2,
    concurrency: int = 32,
    timeout_s: float = 300,
    **more: Any,
) -> dict[str, Any]:
    """Send `count` transactions of `steps` calls and say how well it went."""
    with ordinary_fleet([limit], **more) as fleet:
        start_probed(fleet, workers, concurrency)
        time.sleep(4)  # the workers are up, so that their start is no part of the CPU per call
        before = probed(fleet)
        broker = connect(f"redis://127.0.0.1:{fleet.broker_port}/1")
        broker.execute_command("CONFIG", "RESETSTAT")
        fleet.submit(calls(count, steps))
        most_waiting = 0
        while fleet.ended() < count:
            most_waiting = max(most_waiting, int(broker.llen("headgate.calls")))  # type: ignore[arg-type]
            time.sleep(0.1)
            timeout_s -= 0.1
            if timeout_s < 0:
                raise AssertionError(f"not done: {fleet.job().ended} of {fleet.job().rows} rows")
        sums = probed(fleet)
        sums.subtract(before)
        report, made = fleet.report(), count * steps
        messages = broker.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0)
        check_all(fleet)
        moments = sorted(it["t_us"] for it in fleet.effects())
        rate = steady_rate(fleet, made)
        settings = LimitSettings(**limit)
        return {
            "calls": made,
            "rate": rate,
            "of the governed rate": rate / bucket_of(settings).rate,
            "of the limit": rate / (settings.count / settings.window_s),
            "429s": report["refused_429"],
            "doubled": report["duplicates"],
            "lost": made - report["effects"],
            "bells per call": messages / made,
            "requests beyond grants": report["requests"] - sums[f"admit_{Grant.__name__}"],
            "admits that had to wait": sums[f"admit_{Denied.__name__}"],
            "admit+settle per call": (sums["script_admit"] + sums["script_settle"]) / made,
            "rings per s": sums["script_ring"] / ((moments[-1] - moments[0]) / 1e6),
            "threads busy / HTTP": sums["step_s"] / sums["http_s"],
            "worker CPU ms per call": sums["cpu_s"] / made * 1e3,
            "most messages at the broker": most_waiting,
        }
