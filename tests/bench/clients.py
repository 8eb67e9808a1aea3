"""What configured clients cost that have no work: the start of a worker, its memory, its idle time.

    python -m tests.bench.clients

A worker is ready when Celery says so and it has agreed with the others on the limits of every
client. The seconds of processor time are those of the supervisor and of its worker until then.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.bench.measure import ordinary_fleet, show
from tests.bench.memory import memory_mb
from tests.support.fleet import until
from workers.governor.overrides import VERSION
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from collections.abc import Iterable
    from subprocess import Popen

    from tests.support.fleet import Fleet

LIMIT: Final = {"name": "app", "count": 100}
NUMBERS: Final = (1, 100, 1000)
#: Seconds after the start in which an idle worker is looked at, behind those in which it settles.
SETTLES_S: Final = 3.0
IDLE_S: Final = 5.0


def start(number: int, others: int = 0) -> dict[str, Any]:
    """The start of a worker with so many idle clients, beside others of the same configuration."""
    names = [f"c{n}" for n in range(number)]
    with ordinary_fleet([LIMIT], names=names) as fleet:
        for other in range(others):
            _start_worker(fleet, f"o{other}")
            _await_ready(fleet, f"o{other}", names)
        before, began_s = _writes(fleet), time.monotonic()
        worker = _start_worker(fleet, "w0")
        _await_ready(fleet, "w0", names)
        start_s, pid = time.monotonic() - began_s, fleet.worker_pid("w0")
        start_cpu_s = _cpu_s(pid) + _cpu_s(worker.pid)
        writes = _writes(fleet) - before
        time.sleep(SETTLES_S)
        worker_s, store_s = _cpu_s(pid), _cpu_s(fleet.store_server.pid)
        time.sleep(IDLE_S)
        return {
            "until it is ready, s": start_s,
            "CPU until then, s": start_cpu_s,
            "resident, MB": memory_mb(pid, "VmRSS"),
            "threads": _threads(pid),
            "open files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
            "clients written": writes,
            "idle, of a core, worker": (_cpu_s(pid) - worker_s) / IDLE_S,
            "idle, of a core, store": (_cpu_s(fleet.store_server.pid) - store_s) / IDLE_S,
        }


def _start_worker(fleet: Fleet, name: str) -> Popen[bytes]:
    return fleet.start_worker(name, 32, options=["--loglevel", "INFO"])


def _await_ready(fleet: Fleet, worker: str, names: Iterable[str]) -> None:
    """Wait until the worker takes bells, and every client has limits that were agreed on."""
    until(lambda: " ready." in fleet.log(worker), 120, f"worker {worker}")
    every = [*names]
    until(lambda: _agreed(fleet, every), 120, "the agreement")


def _agreed(fleet: Fleet, names: Iterable[str]) -> bool:
    pipe = fleet.client.store.pipeline(transaction=False)
    for name in names:
        pipe.hlen(_keys(fleet, name).overrides)
    return all(pipe.execute())


def _writes(fleet: Fleet) -> int:
    """How often the limits of clients were written, of all clients together."""
    pipe = fleet.client.store.pipeline(transaction=False)
    for name in fleet.names:
        pipe.hget(_keys(fleet, name).overrides, VERSION)
    return sum(int(version or 0) for version in pipe.execute())


def _keys(fleet: Fleet, name: str) -> ClientKeys:
    return ClientKeys(fleet.clients.settings.store.namespace, name)


def _cpu_s(pid: int) -> float:
    with suppress(FileNotFoundError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def main() -> None:
    """Measure each number of clients, and show it."""
    for number in NUMBERS:
        show(f"a worker with {number:,} idle clients", start(number))
    show(f"a second worker beside it, {NUMBERS[-1]:,} idle clients", start(NUMBERS[-1], 1))


if __name__ == "__main__":
    main()
