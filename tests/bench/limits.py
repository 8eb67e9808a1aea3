"""Many limits on real workers: each is kept at the provider, and what is free is used.

Every figure is a ratio against the limit or the governed rate of the same run.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from orchestration.views.status import status
from tests.bench.measure import ordinary_fleet, show, steady_rate
from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, until
from workers.session.session import governed_session
from workers.settings.limits import LimitSettings, bucket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from requests import Response

APP = {"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}
TIGHT = {"name": "app", "count": 300, "window_s": 10, "shape": "fixed_window"}


#: What the sandbox takes for each answer.
LATENCY_S = 0.08


def mixed(routes: Mapping[str, int]) -> list[dict[str, Any]]:
    """So many single calls of each path, spread evenly among each other."""
    total = sum(routes.values())
    rows = []
    for path, count in routes.items():
        for number, row in enumerate(calls(count, prefix=path.strip("/"))):
            row["steps"][0]["path"] = path
            rows.append((number * total / count, row))
    return [{**row, "line": n + 1} for n, (_, row) in enumerate(sorted(rows, key=lambda it: it[0]))]


def three_limits(count: int = 3000) -> dict[str, Any]:
    """200/s for all, 30 per 10 s on one endpoint, two at once on another, under a mixed backlog."""
    limits = [
        APP,
        {"name": "slow", "count": 30, "window_s": 10, "shape": "fixed_window", "match": "* /slow"},
        {"name": "few", "count": 2, "shape": "concurrent", "match": "* /few"},
    ]
    with ordinary_fleet(limits) as fleet:
        _start(fleet)
        fleet.submit(mixed({"/things/1": count, "/slow": count // 60, "/few": count // 15}))
        until(lambda: fleet.ended() == fleet.job().rows, 300, "the end", fleet)
        check_all(fleet)
        report = fleet.report()
        free = sorted(it["t_us"] for it in fleet.effects() if it["path"] == "/things/1")
        first, last = free[int(count * 0.15)], free[int(count * 0.95)]
        within = sum(first <= it["t_us"] < last for it in fleet.effects())
        rate = within / ((last - first) / 1e6)
        windows = {it["name"]: f"{it['max_arrived']} of {it['count']}" for it in report["windows"]}
        return {
            "client limit used, of the governed rate": rate / _rate(APP),
            "429s": report["refused_429"],
            **{f"most in a window of {name}": most for name, most in windows.items()},
        }


def one_limit(
    limit: Mapping[str, Any], count: int, workers: int = 2, **sandbox: Any
) -> dict[str, Any]:
    """A single limit and a full backlog."""
    with ordinary_fleet([limit], sandbox=sandbox) as fleet:
        _start(fleet, workers)
        fleet.submit(calls(count))
        until(lambda: fleet.ended() == count, 600, "the end", fleet)
        check_all(fleet)
        settings = LimitSettings(**limit)
        return {
            "of the limit": steady_rate(fleet, count) * settings.window_s / settings.count,
            "429s": fleet.report()["refused_429"],
        }


def shares(weights: Mapping[str, int], count: int = 2500) -> dict[str, Any]:
    """Tenants with equal backlogs: their parts of the calls over 10 s."""
    tenants = {name: {"weight": weight} for name, weight in weights.items()}
    with ordinary_fleet([APP], client={"tenants": tenants}) as fleet:
        _start(fleet)
        for name in weights:
            rows = [{**row, "tenant": name} for row in calls(count, prefix=name)]
            fleet.submit(rows, job=name)
        until(lambda: sum(map(fleet.ended, weights)) >= 300, 60, "the steady part", fleet)
        began_us = time.time_ns() // 1000
        time.sleep(10)
        ended_us = time.time_ns() // 1000
        counts = Counter(
            it["business_id"].rstrip("0123456789.")
            for it in fleet.effects()
            if began_us <= it["t_us"] < ended_us
        )
        total, weight = sum(counts.values()), sum(weights.values())
        parts = {name: counts[name] / total for name in weights}
        ideal = {name: weights[name] / weight for name in weights}
        even = [parts[name] / ideal[name] for name in weights]
        return {
            "parts": " ".join(f"{part:.4f}" for part in parts.values()),
            "furthest from its part": max(abs(parts[it] - ideal[it]) for it in weights),
            "Jain index": sum(even) ** 2 / (len(even) * sum(it * it for it in even)),
        }


def urgent(limit: Mapping[str, Any], calls_s: float, bulk: int, times: int = 60) -> dict[str, Any]:
    """Single urgent calls, one a second, beside a full bulk backlog: from acceptance to arrival.

    They begin when the backlog has been worked on for five seconds: the burst that an idle fleet
    has saved leaves as fast as its processors can send, and whoever comes then waits for these.
    """
    with ordinary_fleet([limit]) as fleet:
        _start(fleet)
        idle = _urgent_ms(fleet, "idle", times // 3)
        fleet.submit(calls(bulk), job="bulk", lane=2)
        until(lambda: fleet.ended("bulk") >= 5 * calls_s, 60, "the steady part", fleet)
        before, began = fleet.report()["effects"], time.monotonic()
        busy = _urgent_ms(fleet, "busy", times)
        rate = (fleet.report()["effects"] - before) / (time.monotonic() - began)
        return {
            "idle, p50 and p99 ms": _p50_p99(idle),
            "beside bulk, p50 and p99 ms": _p50_p99(busy),
            "of the governed rate meanwhile": rate / _rate(limit),
            "429s": fleet.report()["refused_429"],
        }


def _urgent_ms(fleet: Fleet, prefix: str, times: int) -> list[float]:
    accepted = {}
    for number in range(times):
        name = f"{prefix}{number}"
        fleet.submit(calls(1, prefix=name), job=name, lane=0)
        accepted[f"{name}0.1"] = time.time_ns() // 1000
        time.sleep(1)
    until(lambda: all(fleet.ended(f"{prefix}{n}") == 1 for n in range(times)), 30, "all", fleet)
    arrived = {it["business_id"]: it["t_us"] for it in fleet.effects()}
    return [(arrived[name] - at) / 1e3 for name, at in accepted.items()]


def _p50_p99(values: Iterable[float]) -> str:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return f"{cuts[49]:.0f} {cuts[98]:.0f}"


def _rate(limit: Mapping[str, Any]) -> float:
    return bucket(LimitSettings(**limit)).rate or 0.0


def _start(fleet: Fleet, workers: int = 2) -> None:
    for number in range(workers):
        fleet.start_worker(f"w{number}", 32)
    time.sleep(4)


def shared(window: str = "fixed_window", count: int = 1500) -> dict[str, Any]:
    """Another consumer takes half of 300 per 10 s; the provider's headers tell what is left."""
    limit = {**TIGHT, "shape": window}
    sandbox = {"limits": [{**limit, "other_share": 0.5}], "rate_headers": "x-ratelimit"}
    with ordinary_fleet([limit], sandbox=sandbox) as fleet:
        _start(fleet)
        fleet.submit(calls(count))
        until(lambda: fleet.ended() == count, 300, "the end", fleet)
        report = fleet.report()
        inner = report["windows"][0]["left"][1:-1]
        return {
            "of what is left": sum(it[2] for it in inner) / sum(it[1] for it in inner),
            "429s, of all requests": report["refused_429"] / report["requests"],
        }


def daily(count: int = 2500) -> dict[str, Any]:
    """One route is refused with a Retry-After of two hours; the others go on as if it were not."""
    with ordinary_fleet([APP]) as fleet:
        _start(fleet)
        fleet.sandbox.post("storm", {"seconds": 3600, "match": "* /daily", "retry_after": 7200})
        fleet.submit(mixed({"/things/1": count, "/daily": count // 10}))
        until(lambda: fleet.ended() >= count, 120, "the others", fleet)
        report = fleet.report()
        return {
            "others, of the governed rate": steady_rate(fleet, count) / _rate(APP),
            "429s": report["refused_429"],
            "held": [f"{it.scope} {it.left_s:.0f} s" for it in status(fleet.client).holds],
        }


def outside(seconds: float = 12, wait_s: float = 2) -> dict[str, Any]:
    """Two workers with a full backlog, and four threads of a script that is no job."""
    with ordinary_fleet([APP]) as fleet:
        _start(fleet)
        fleet.submit(calls(round(_rate(APP) * (seconds + 6))))
        until(lambda: fleet.ended() >= _rate(APP), 60, "the steady part", fleet)
        session = governed_session("acme", wait_s=wait_s, config=str(fleet.config))
        before, began = fleet.report()["effects"], time.monotonic()

        def send(thread: int) -> list[float]:
            waits = []
            while (asked := time.monotonic()) < began + seconds:
                body = {"business_id": f"guest.{thread}.{len(waits)}"}
                waits.append(_waited(session.post("/things/1", json=body), asked))
            return waits

        with ThreadPoolExecutor(4) as pool:
            waits = [it for part in pool.map(send, range(4)) for it in part]
        rate = (fleet.report()["effects"] - before) / (time.monotonic() - began)
        assert set(fleet.wait()) == {"succeeded"}
        assert fleet.report()["duplicates"] == 0
        return {
            "together, of the governed rate": rate / _rate(APP),
            "429s": fleet.report()["refused_429"],
            "calls of the script": len(waits),
            "its longest wait, s": max(waits),
            "it would have waited, s": wait_s,
        }


def _waited(answer: Response, asked: float) -> float:
    """Seconds from the question to the send."""
    assert answer.ok, answer.status_code
    return time.monotonic() - asked - LATENCY_S


def main() -> None:
    """Run every part, one after the other."""
    tight, fixed = {**APP, "calibration": "tight"}, {**APP, "shape": "fixed_window"}
    four = dict.fromkeys("abcd", 1)
    show("three limits, mixed backlog", three_limits())
    show("strict bucket of 200/s, calibration tight", one_limit(tight, 3000))
    show("200 per fixed second", one_limit(fixed, 3000))
    show("two tenants, 3 : 1", shares({"a": 3, "b": 1}))
    show("four tenants of one weight", shares(four))
    show("urgent calls beside bulk, 200/s bucket", urgent(APP, 180, 14_000))
    prompt = {**TIGHT, "reserve": 1}  # without one a call waits for the next of 30 tokens a second
    show("urgent calls beside bulk, 300 per 10 s, reserve 1", urgent(prompt, 30, 2400))
    show("300 per 10 s, half of it taken by somebody else", shared())
    show("one route refused for two hours", daily())
    show("two workers and a script that is no job", outside())


if __name__ == "__main__":
    main()
