"""`make bench`: the figures, each a ratio against a bound that is measured in the same run.

python -m tests.bench                  prints them
python -m tests.bench --write FILE     writes them to FILE as a page as well
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import handover, limits, media, memory, namespaces, scale, storm, windows
from tests.bench.cpu import cpu_beside_plain_celery, events, most_calls
from tests.bench.measure import SHOWN, page_of, run, show
from tests.conftest import start_server
from tests.support.stored import a_job
from tests.support.tls import make_certificate, slow_front
from workers.answer.outcome import Outcome
from workers.answer.verdict import Advance
from workers.governor import flows
from workers.governor.governor import Governor
from workers.governor.grants import Asker
from workers.ledger.ledger import Ledger, NewTransaction, PageCounts
from workers.settings.client import ClientSettings
from workers.settings.limits import LimitSettings
from workers.settings.load import WorkerSettings
from workers.store.connection import connect
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workers.store.connection import Store

BUCKET = {"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}
DONE = Advance(outcome=Outcome.EXECUTED, status=201, provider_id="id-1")


def median_us(act: Callable[[int], object], numbers: Iterable[int]) -> float:
    """The median duration of `act(number)`."""
    taken = []
    for number in numbers:
        began = time.perf_counter()
        act(number)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


def scripts() -> dict[str, Any]:
    """The scripts on an idle connection to a store on appendfsync everysec, beside PING."""
    with tempfile.TemporaryDirectory(prefix="hg-") as folder:
        server, url = start_server(Path(folder))
        try:
            return _scripts(url)
        finally:
            server.terminate()
            server.wait()


def _scripts(url: str) -> dict[str, Any]:
    store, keys, clock_us = connect(url), ClientKeys("headgate", "acme"), [10**15]
    limit = LimitSettings(name="app", count=100_000)
    client = ClientSettings(name="acme", base_url="http://127.0.0.1:1", limits=(limit,))
    governor = Governor(store, keys, client, WorkerSettings(), lambda: clock_us[0])
    ledger = Ledger(store, keys, lambda: clock_us[0])
    job, flow = "c-0123456789ab", flows.flow(client, 1, "-", "POST /x")
    ledger.begin(a_job(job))

    def page(number: int, its: list[flows.Flow], rows: int = 250) -> None:
        ledger.accept(job, number, [{}], PageCounts(calls=1))
        opened = [
            NewTransaction(str(uuid.uuid4()), its[n % len(its)].id, "k", 1, n) for n in range(rows)
        ]
        known = {it.id: it.definition(client) for it in its}
        ledger.open(job, number, known, opened, [])

    page(0, [flow])
    before = store.info("memory")["used_memory"]
    for number in range(1, 41):
        page(number, [flow])
    bytes_each = (store.info("memory")["used_memory"] - before) / (40 * 250)

    governor.ring("w", 1)
    bells: list[Any] = []
    while len(bells) < 1000:
        clock_us[0] += 25_000
        bells += governor.ring("w", 100_000).bells
    grants: list[Any] = []
    # The machine's speed drifts: each round has its own PING, and their median counts.
    rounds: list[tuple[float, float, float]] = []
    for start in range(0, 1000, 200):
        ping = median_us(lambda _: store.ping(), range(400))
        of_round = range(start, start + 200)
        admit = median_us(
            lambda n: grants.append(governor.admit(bells[n].key, 1, Asker("calls"))), of_round
        )
        settle = median_us(lambda n: governor.settle(grants[n], DONE), of_round)
        rounds.append((ping, admit - ping, settle - ping))
    ping, admit, settle = (statistics.median(it) for it in zip(*rounds, strict=True))

    return {
        "PING p50, us": ping,
        "admit p50 beyond PING, us": admit,
        "settle p50 beyond PING, us": settle,
        "ring of 300 flows, server ms": ring_ms(store),
        "bytes of a released transaction": bytes_each,
    }


def ring_ms(store: Store) -> float:
    """Server time of a ring while 300 tenants have work and 200/s let four calls through."""
    keys, clock_us = ClientKeys("headgate", "many"), [10**15]
    limit = LimitSettings(name="app", count=200)
    client = ClientSettings(name="many", base_url="http://127.0.0.1:1", limits=(limit,))
    governor = Governor(store, keys, client, WorkerSettings(), lambda: clock_us[0])
    ledger = Ledger(store, keys, lambda: clock_us[0])
    ledger.begin(a_job("job"))
    ledger.accept("job", 0, [{}], PageCounts(calls=1))
    its = [flows.flow(client, 1, f"t{number}", "POST /x") for number in range(300)]
    opened = [NewTransaction(str(uuid.uuid4()), its[n % 300].id, "k", 1, n) for n in range(1200)]
    known = {it.id: it.definition(client) for it in its}
    ledger.open("job", 0, known, opened, [])
    for _ in range(2):  # the bucket was empty
        clock_us[0] += 25_000
        governor.ring("w", 100_000)
    store.config_resetstat()
    bells = 0
    for _ in range(30):
        clock_us[0] += 25_000
        bells += len(governor.ring("w", 100_000).bells)
    assert bells
    assert store.scard(keys.active) == 300
    return float(store.info("commandstats")["cmdstat_fcall"]["usec_per_call"]) / 1e3


def behind_tls(limit: dict[str, Any], count: int) -> dict[str, Any]:
    """A run through a TLS front that needs 200 ms for each handshake."""
    with tempfile.TemporaryDirectory(prefix="hg-") as folder:
        certificate = make_certificate(Path(folder, "it.pem"))
        return run(
            limit,
            count,
            front=lambda url: slow_front(url, certificate),
            client={"ca_file": str(certificate)},
        )


def main() -> None:
    """Run every part, one after the other, and write the page of the run where that is wanted."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--write", metavar="FILE", type=Path, help="the page to write")
    page = parser.parse_args().write
    run_all()
    if page:
        system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
        page.write_text(page_of(SHOWN, f"{system}, {os.cpu_count()} cores."), "utf-8")


def run_all() -> None:
    """Run every part."""
    show("scripts and memory", scripts())
    show("200/s bucket, 3,000 single calls, 2 workers", run(BUCKET, 3000))
    show("200/s bucket, 1,000 chains of three, 2 workers", run(BUCKET, 1000, steps=3))
    for shape in ("fixed_window", "sliding_window"):
        limit = {"name": "app", "count": 300, "window_s": 10, "shape": shape}
        show(f"300 per 10 s, {shape}, 1,200 calls", run(limit, 1200))
        show(f"300 per 10 s, {shape}, behind slow TLS", behind_tls(limit, 1200))
    show("calls per s where no limit binds, 64 threads a worker", most_calls())
    show("CPU per call, workers and enqueuer", cpu_beside_plain_celery())
    show("CPU per call at 180/s, with and without task events", events())
    limits.main()
    scale.main()
    namespaces.main()
    show("two tenants 3 : 1, a comes and goes", handover.handover())
    show("70 % of 429 without Retry-After, four processes", storm.storm().figures())
    windows.show_windows()
    media.main()
    memory.main()


if __name__ == "__main__":
    main()
