"""A whole Headgate on this machine: store, broker, sandbox and worker processes of its own.

The cases of the fault tests are written against this one small class: start, submit, kill, wait,
and look at what the ledger and the sandbox's journal say. `tests.support.any_fleet` has what of it
the cluster's cases use, which run on containers as well.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from orchestration.intake.accept import low_water
from orchestration.sandbox.process import SandboxControl, SandboxProcess
from tests.conftest import free_port, start_server
from tests.support.stored import a_job
from workers.clients import Clients
from workers.errors import StoreAway
from workers.ledger.ledger import PageCounts
from workers.settings.load import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from workers.clients import Client
    from workers.ledger.job import Job
    from workers.ledger.transaction import Transaction

ROOT = Path(__file__).parents[2]
#: Short leases, so that a fault is over within seconds; what is tested does not depend on them.
SHORT = {
    "total_timeout_s": 1.5,
    "connect_timeout_s": 0.5,
    "read_timeout_s": 1.0,
    "backoff_base_s": 0.1,
}
SHORT_WORKER = {"bell_grace_s": 0.5, "lease_margin_s": 0.5}
SECRET = "canary-client-secret"


class Fleet:
    """One client named `acme`, or several, and everything around it.

    Args:
        limits: The limits of the client and of the sandbox, as in the configuration.
        sandbox: Further configuration of the sandbox.
        client: Further configuration of the client.
        worker: Further configuration of the workers.
        broker: Whether the bells have a server of their own.
        fsync: How store and broker write to disk.
        front: Given the sandbox's URL, what stands before it for the length of a `with`.
        names: The clients, each with the same configuration and limits, and a quota of its own.
    """

    def __init__(
        self,
        limits: Iterable[Mapping[str, Any]] = ({"name": "app", "count": 200},),
        sandbox: Mapping[str, Any] | None = None,
        client: Mapping[str, Any] | None = None,
        worker: Mapping[str, Any] | None = None,
        *,
        broker: bool = False,
        fsync: str = "always",
        front: Callable[[str], AbstractContextManager[str]] | None = None,
        names: Iterable[str] = ("acme",),
    ) -> None:
        self._stack = ExitStack()
        self.names = list(names)
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="hg-")))
        self.limits = [dict(limit) for limit in limits]
        self.sandbox_config = {
            "latency_ms": 20,
            "limits": [{"window_s": 1, "shape": "bucket", **stated(it)} for it in self.limits],
            "clients": dict.fromkeys(self.names, SECRET),
            **(sandbox or {}),
        }
        self._client_config = {"idempotency": "key", **SHORT, **(client or {})}
        self._worker_config = {**SHORT_WORKER, **(worker or {})}
        self._separate_broker = broker
        self._fsync = fsync
        self._front = front
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.workers):
            self.stop_worker(name, signal.SIGKILL if sys.exc_info()[0] else signal.SIGTERM)
        self._stack.close()

    def _start(self) -> None:
        self.store_port = free_port()
        self.store_server = self._server("store", self.store_port)
        self.broker_port = free_port() if self._separate_broker else self.store_port
        if self._separate_broker:
            self.broker_server = self._server("broker", self.broker_port)
        self.sandbox: SandboxControl = self._stack.enter_context(
            SandboxProcess(self.sandbox_config, journal=self.folder / "journal.jsonl")
        )
        url = self.sandbox.url
        if self._front:
            url = self._stack.enter_context(self._front(url))
        self._configure(url, f"{self.sandbox.url}/oauth/token")

    def _configure(self, base_url: str, token_url: str) -> None:
        """Write the configuration, and open what it names."""
        config = {
            "store": {
                "url": f"redis://127.0.0.1:{self.store_port}/0",
                "broker_url": f"redis://127.0.0.1:{self.broker_port}/1",
            },
            "worker": self._worker_config,
            "clients": {
                name: {
                    "base_url": base_url,
                    "token_url": token_url,
                    "client_id": name,
                    "client_secret_env": "ACME_SECRET",
                    "limits": self.limits,
                    **self._client_config,
                }
                for name in self.names
            },
        }
        self.config = self.folder / "headgate.toml"
        self.config.write_text(toml(config))
        self.environment = {
            **os.environ,
            "HEADGATE_CONFIG": str(self.config),
            "ACME_SECRET": SECRET,
            "PYTHONPATH": str(ROOT),
        }
        os.environ["ACME_SECRET"] = SECRET
        self.clients = Clients(load(self.config))
        self.client: Client = self.clients[self.names[0]]

    def _server(self, name: str, port: int) -> subprocess.Popen[bytes]:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        server, _ = start_server(folder, "--appendfsync", self._fsync, port=port)
        self._stack.callback(_end, server)
        return server

    # Workers

    def start_worker(
        self,
        name: str,
        concurrency: int = 16,
        env: Mapping[str, str] | None = None,
        pool: str = "calls",
        options: Iterable[str] = (),
    ) -> subprocess.Popen[bytes]:
        """`headgate worker`, supervised; its output goes to <name>.log in the folder."""
        log = (self.folder / f"{name}.log").open("ab")
        command = [sys.executable, "-m", "orchestration.cli", "worker"]
        command += ["--name", name, "--concurrency", str(concurrency), "--for", pool]
        command += options
        environment = {**self.environment, **(env or {})}
        worker = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)
        log.close()
        self.workers[name] = worker
        return worker

    def worker_pid(self, name: str) -> int:
        """The Celery process below the supervisor; waits until there is one."""
        until(lambda: self._children(name), what=f"a process of {name}")
        return self._children(name)[0]

    def _children(self, name: str) -> list[int]:
        supervisor = self.workers[name].pid
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children")
        return [int(pid) for pid in children.read_text().split()]

    def kill_worker(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal the Celery process itself; its supervisor starts it again."""
        os.kill(self.worker_pid(name), number)

    def stop_worker(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        """End a worker and its supervisor; returns its exit code."""
        worker = self.workers[name]
        if number is signal.SIGKILL and worker.poll() is None:
            worker.send_signal(signal.SIGSTOP)  # so that it starts no other process
            for pid in self._children(name):
                os.kill(pid, signal.SIGKILL)
        worker.send_signal(number)
        del self.workers[name]
        try:
            return worker.wait(timeout=20)
        except subprocess.TimeoutExpired:
            worker.kill()
            return worker.wait()

    def log(self, name: str) -> str:
        """What a worker printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # Store and broker

    def kill_store(self) -> None:
        """kill -9 of the store's server."""
        _end(self.store_server, signal.SIGKILL)

    def start_store(self) -> None:
        """The store again, on its data."""
        self.store_server = self._server("store", self.store_port)

    def kill_broker(self) -> None:
        """kill -9 of the broker's server."""
        _end(self.broker_server, signal.SIGKILL)

    def start_broker(self) -> None:
        """The broker again."""
        self.broker_server = self._server("broker", self.broker_port)

    # Work

    def of(self, name: str) -> Self:
        """The same fleet, looked at with this client's jobs and ledger."""
        seen = copy(self)
        seen.client = self.clients[name]
        return seen

    def submit(
        self,
        rows: list[dict[str, Any]],
        job: str = "job",
        lane: int = 1,
        kind: str = "calls",
        page: int = 0,
    ) -> str:
        """Accept rows as a job; `page`: so many on one, and the next opens when fewer are open."""
        ledger = self.client.ledger
        low = page or low_water(self.client)
        ledger.begin(a_job(job, kind, low, lane=lane, contact_list="list-1"))
        size = page or 250
        for number, start in enumerate(range(0, len(rows), size)):
            part = rows[start : start + size]
            made = sum(len(row.get("steps", [1])) for row in part)
            ledger.accept(job, number, part, PageCounts(calls=made))
        ledger.start(job)
        return job

    def job(self, job: str = "job") -> Job:
        """The job as it stands now."""
        return self.client.ledger.job(job)

    def ended(self, job: str = "job") -> int:
        """Rows that have ended; -1 while the store is away."""
        try:
            stored = self.client.ledger.job(job)
        except StoreAway:
            return -1
        return stored.ended if stored else 0

    def wait(self, job: str = "job", timeout_s: float = 60) -> dict[str, int]:
        """Wait until every row has ended; returns the counts by state."""
        rows = self.job(job).rows
        until(lambda: self.ended(job) == rows, timeout_s, f"the end of {rows} rows", self)
        return {state: count for state, count in self.job(job).counts.items() if count}

    def wait_for(self, count: int, job: str = "job", timeout_s: float = 30) -> None:
        """Wait until at least so many rows have ended."""
        until(lambda: self.ended(job) >= count, timeout_s, f"{count} rows", self)

    def transactions(self, job: str = "job") -> dict[str, Transaction | None]:
        """Row → its transaction; None while its page is not opened."""
        keys = self.keys(job)
        return dict(zip(keys, self.client.ledger.transactions([*keys.values()]), strict=True))

    def keys(self, job: str = "job") -> dict[str, str]:
        """Row → the key of its transaction."""
        rows = [row["id"] for row in self.client.ledger.rows(job) if "error" not in row]
        return {row: self.client.key(job, row) for row in rows}

    def report(self) -> dict[str, Any]:
        """The sandbox's journal in numbers."""
        report: dict[str, Any] = self.sandbox.get("report")
        return report

    def effects(self) -> list[dict[str, Any]]:
        """Every effect at the sandbox."""
        return self._listed("effects")

    def requests(self) -> list[dict[str, Any]]:
        """Every request at the sandbox."""
        return self._listed("requests")

    def _listed(self, what: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            part = self.sandbox.get(f"{what}?after={len(found)}&limit=1000")
            if not part:
                return found
            found += part


def stated(limit: Mapping[str, Any]) -> dict[str, Any]:
    """A limit as its provider states it, without what is ours to choose."""
    ours = {"calibration", "rate", "burst", "reserve"}
    return {name: value for name, value in limit.items() if name not in ours}


def calls(
    count: int, steps: int = 1, guard: str | None = None, prefix: str = "r"
) -> list[dict[str, Any]]:
    """Rows of kind `calls`; each step is a write with a business id of its own.

    With guard `lookup` it is looked up by that.
    """
    return [
        {
            "line": n + 1,
            "id": f"{prefix}{n}",
            "steps": [
                {
                    "name": f"s{k}",
                    "method": "POST",
                    "path": f"/things/{k}",
                    "body": {"business_id": f"{prefix}{n}.{k}"},
                    **({"guard": guard} if guard else {}),
                    **(looked_up(k, f"{prefix}{n}.{k}") if guard == "lookup" else {}),
                }
                for k in range(1, steps + 1)
            ],
        }
        for n in range(count)
    ]


def looked_up(k: int, name: str) -> dict[str, Any]:
    """How a step is asked for what it made."""
    path = f"/things/{k}?business_id={name}"
    return {"lookup": {"method": "GET", "path": path, "found": {"at": "/entities/0"}}}


def contacts(count: int) -> list[dict[str, Any]]:
    """Rows of kind `contacts`, whose guard is `upsert`."""
    return [
        {"line": n + 2, "id": f"c{n}", "data": {"phone": f"+1555010{n:04}", "note": "Köln"}}
        for n in range(count)
    ]


def until(
    done: Callable[[], Any],
    timeout_s: float = 20,
    what: str = "it",
    fleet: Fleet | None = None,
) -> None:
    """Wait until `done()` is true; a test that waits in vain says for what."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}\n{_picture(fleet)}")
        time.sleep(0.02)


def _picture(fleet: Fleet | None) -> str:
    if fleet is None:
        return ""
    logs = "\n".join(f"--- {name}\n{fleet.log(name)[-3000:]}" for name in fleet.workers)
    try:
        gov = fleet.client.store.hgetall(fleet.client.keys.governor)
        return f"{fleet.client.ledger.job('job')}\n{gov}\n{logs}"
    except StoreAway:
        return logs


def _end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(number)
    process.wait(timeout=10)


def toml(value: Any, name: str = "") -> str:
    """A nested dict as TOML; enough for a configuration of tests."""
    plain, tables = [], []
    for key, it in value.items():
        if isinstance(it, dict):
            tables.append(f"[{name}{key}]\n{toml(it, f'{name}{key}.')}")
        elif isinstance(it, list) and it and isinstance(it[0], dict):
            tables += [f"[[{name}{key}]]\n{toml(one, f'{name}{key}.')}" for one in it]
        else:
            plain.append(f"{key} = {json.dumps(it)}\n")
    return "".join(plain + tables)


def port_of(url: str) -> int:
    """The port of a URL."""
    return urlsplit(url).port or 80
