"""CPU per completed call, Headgate beside a plain Celery task, in interleaved pairs.

Counted is all that the client side spends: user and system time of the worker processes from the
first row on, and of the process that enqueues. The machine's speed drifts within minutes, so only
the ratio of two runs side by side says anything, and only their median is reported.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import requests

from orchestration import intake
from orchestration.kinds import find_kind
from tests.bench.measure import ordinary_fleet, steady_rate
from tests.support.fleet import ROOT, SECRET, Fleet, calls, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: Paced as the governor paces the other side: 180/s against a bucket of 200/s.
PACED = {"name": "app", "count": 200}
#: Never binds: as fast as the processes go.
FREE = {"name": "app", "count": 2000}
#: Workers are up after this, so that their start is no part of the CPU per call.
WARM_UP_S = 5.0


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@dataclass
class Spent:
    """What a run of `count` calls cost its client side."""

    count: int
    workers_s: float
    enqueuer_s: float
    per_s: float  #: calls a second in the steady part

    @property
    def ms(self) -> float:
        """CPU per call."""
        return (self.workers_s + self.enqueuer_s) / self.count * 1e3


def headgate(
    limit: Mapping[str, Any],
    count: int,
    workers: int = 2,
    threads: int = 32,
    *,
    events: bool = False,
) -> Spent:
    """A run of ours, from a file on disk."""
    with ordinary_fleet([limit], fsync="everysec", worker={"events": events}) as fleet:
        for number in range(workers):
            fleet.start_worker(f"w{number}", threads)
        pids = [fleet.worker_pid(f"w{number}") for number in range(workers)]
        time.sleep(WARM_UP_S)
        file = fleet.folder / "rows.jsonl"
        rows = [{"id": it["id"], "steps": it["steps"]} for it in calls(count)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        before = sum(map(cpu_s, pids))
        began = time.process_time()
        submission = intake.Submission(
            client=fleet.client, path=file, lane=1, options=intake.Options()
        )
        kind = find_kind("calls")
        with intake.check(kind, submission) as checked:
            job = intake.accept(kind, submission, checked).job
        enqueuer_s = time.process_time() - began
        until(lambda: fleet.ended(job) == count, 300, "the end of the rows", fleet)
        spent_s = sum(map(cpu_s, pids)) - before
        return Spent(count, spent_s, enqueuer_s, steady_rate(fleet, count))


def plain(
    limit: Mapping[str, Any], count: int, workers: int = 2, threads: int = 32, pace: float = 0.0
) -> Spent:
    """A run of the plain task; `pace` calls a second are enqueued, 0 = as fast as it goes."""
    with ordinary_fleet([limit], fsync="everysec") as fleet, ExitStack() as stack:
        environment = _plain_environment(fleet)
        pids = [
            stack.enter_context(_plain_worker(number, threads, environment))
            for number in range(workers)
        ]
        time.sleep(WARM_UP_S)
        before = sum(map(cpu_s, pids))
        enqueuer_s = _enqueue(environment, count, pace)
        last = f"effects?after={count - 1}&limit=1"
        until(lambda: fleet.sandbox.get(last), 300, "the end of the calls")
        time.sleep(0.2)
        spent_s = sum(map(cpu_s, pids)) - before
        return Spent(count, spent_s, enqueuer_s, steady_rate(fleet, count))


def _plain_environment(fleet: Fleet) -> dict[str, str]:
    answer = requests.post(
        f"{fleet.sandbox.url}/oauth/token",
        data={"grant_type": "client_credentials"},
        auth=("acme", SECRET),
        timeout=10,
    )
    return {
        **fleet.environment,
        "PLAIN_BROKER": f"redis://127.0.0.1:{fleet.broker_port}/1",
        "PLAIN_STORE": f"redis://127.0.0.1:{fleet.store_port}/0",
        "PLAIN_URL": fleet.sandbox.url,
        "PLAIN_TOKEN": answer.json()["access_token"],
    }


@contextmanager
def _plain_worker(number: int, threads: int, environment: Mapping[str, str]) -> Iterator[int]:
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "tests.bench.plain", "worker"]
    command += ["--pool", "threads", "--concurrency", str(threads), "--hostname", f"p{number}@%h"]
    command += ["--without-gossip", "--without-mingle", "--loglevel", "ERROR"]
    worker = subprocess.Popen(command, env=environment, cwd=ROOT)
    try:
        yield worker.pid
    finally:
        worker.terminate()
        worker.wait(timeout=30)


def _enqueue(environment: Mapping[str, str], count: int, pace: float) -> float:
    """Enqueue in a process of its own, where Celery's transport is the stock one."""
    command = [sys.executable, "-m", "tests.bench.plain", str(count), str(pace)]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return float(done.stdout)


def pairs(title: str, ours: Callable[[], Spent], theirs: Callable[[], Spent]) -> dict[str, Any]:
    """Three interleaved pairs; the median of their ratios."""
    runs = [(ours(), theirs()) for _ in range(3)]
    ratios = [one.ms / other.ms for one, other in runs]
    return {
        f"{title}: Headgate, ms": " ".join(f"{one.ms:.2f}" for one, _ in runs),
        f"{title}: plain Celery, ms": " ".join(f"{other.ms:.2f}" for _, other in runs),
        f"{title}: ratio, median": statistics.median(ratios),
        f"{title}: calls per s": " ".join(f"{a.per_s:.0f}:{b.per_s:.0f}" for a, b in runs),
    }


def cpu_beside_plain_celery() -> dict[str, Any]:
    """At 180/s, where both wait most of the time, and as fast as two processes go."""
    return {
        **pairs(
            "180/s",
            lambda: headgate(PACED, 2000),
            lambda: plain(PACED, 2000, pace=180),
        ),
        **pairs("no limit binds", lambda: headgate(FREE, 5000), lambda: plain(FREE, 5000)),
    }


def events() -> dict[str, Any]:
    """What the task events of Flower cost, whether or not anybody listens."""
    with_them = partial(headgate, PACED, 2000, events=True)
    without = partial(headgate, PACED, 2000)
    runs = [(with_them(), without()) for _ in range(3)]
    return {
        "with events, ms": " ".join(f"{one.ms:.2f}" for one, _ in runs),
        "without, ms": " ".join(f"{other.ms:.2f}" for _, other in runs),
        "ratio, median": statistics.median(one.ms / other.ms for one, other in runs),
    }


def most_calls() -> dict[str, Any]:
    """What one and two worker processes reach beside a provider that would take 2000/s."""
    return {
        "one worker": headgate(FREE, 4000, workers=1, threads=64).per_s,
        "two workers": headgate(FREE, 6000, workers=2, threads=64).per_s,
    }
