"""`make bench`: the figures, each a ratio against a bound that is measured in the same run."""

from __future__ import annotations

import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.cpu import cpu_beside_plain_celery, most_calls
from tests.bench.measure import run
from tests.conftest import start_server
from tests.tls import make_certificate, slow_front
from workers import flows
from workers.governor import Governor
from workers.keys import ClientKeys
from workers.ledger import Ledger, Opened
from workers.outcome import Outcome
from workers.settings import ClientSettings, LimitSettings, WorkerSettings
from workers.store import connect
from workers.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.store import Store

BUCKET = {"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}
DONE = Verdict(kind="NEXT", outcome=Outcome.EXECUTED, status=201, provider_id="id-1")


def show(title: str, figures: dict[str, Any]) -> None:
    """Print one block."""
    print(f"\n{title}")
    for name, value in figures.items():
        print(f"  {name:34} {value:.4g}" if isinstance(value, float) else f"  {name:34} {value}")


def median_us(act: Callable[[int], object], times: int) -> float:
    """The median duration of `act(0)`, `act(1)`, …"""
    taken = []
    for number in range(times):
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
    ledger.begin(job, {"kind": "calls", "about": "{}", "low": 500})

    def page(number: int, its: list[flows.Flow], rows: int = 250) -> None:
        ledger.accept(job, number, [{}], rejected=0, calls=1)
        opened = [Opened(str(uuid.uuid4()), its[n % len(its)].id, "k", 1, n) for n in range(rows)]
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
    ping = median_us(lambda _: store.ping(), 2000)
    admit = median_us(lambda n: grants.append(governor.admit(bells[n].key, 1)), 1000)
    settle = median_us(lambda n: governor.settle(grants[n], DONE), 1000)

    return {
        "PING p50, us": ping,
        "admit p50 beyond PING, us": admit - ping,
        "settle p50 beyond PING, us": settle - ping,
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
    ledger.begin("job", {"kind": "calls", "about": "{}", "low": 500})
    ledger.accept("job", 0, [{}], rejected=0, calls=1)
    its = [flows.flow(client, 1, f"t{number}", "POST /x") for number in range(300)]
    opened = [Opened(str(uuid.uuid4()), its[n % 300].id, "k", 1, n) for n in range(1200)]
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
    return float(store.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]) / 1e3


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
    """Run every part, one after the other."""
    show("scripts and memory", scripts())
    show("200/s bucket, 3,000 single calls, 2 workers", run(BUCKET, 3000))
    show("200/s bucket, 1,000 chains of three, 2 workers", run(BUCKET, 1000, steps=3))
    for shape in ("fixed_window", "sliding_window"):
        limit = {"name": "app", "count": 300, "window_s": 10, "shape": shape}
        show(f"300 per 10 s, {shape}, 1,200 calls", run(limit, 1200))
        show(f"300 per 10 s, {shape}, behind slow TLS", behind_tls(limit, 1200))
    show("calls per s where no limit binds, 64 threads a worker", most_calls())
    show("CPU per call, workers and enqueuer", cpu_beside_plain_celery())


if __name__ == "__main__":
    main()
