"""A fleet whose store has an address of its own, behind which servers change under load."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from tests.conftest import free_port, start_server
from tests.support.endpoint import an_endpoint
from tests.support.faults.checks import check_all
from tests.support.fleet import ROOT, Fleet, calls, until
from workers.clients import Clients
from workers.settings.load import load
from workers.store.connection import connect

if TYPE_CHECKING:
    from collections.abc import Callable

#: Guards of the rows, and how many rows there are of each.
GUARDS = ("key", "lookup", "none")
ROWS = 160
#: A second without a call is a stop; calls are made every few milliseconds.
QUIET_S = 1.5


class MovingFleet(Fleet):
    """A fleet with a primary, a replica, and one address for whichever serves."""

    def __init__(self, *, broker: bool = True) -> None:
        super().__init__(broker=broker, sandbox={"idempotency_match": "POST /things/*"})

    def _start(self) -> None:
        self.replica_port = free_port()
        super()._start()

    def _server(self, name: str, port: int) -> subprocess.Popen[bytes]:
        server = super()._server(name, port)
        if name == "store":
            self.primary_port = port
            folder = self.folder / "replica"
            folder.mkdir(exist_ok=True)
            replica, url = start_server(
                folder, "--replicaof", f"127.0.0.1 {port}", "--repl-diskless-sync-delay", "0",
                port=self.replica_port,
            )  # fmt: skip
            self._stack.callback(replica.wait, 10)
            self._stack.callback(replica.terminate)
            self.primary, self.replica = connect(f"redis://127.0.0.1:{port}/0"), connect(url)
            until(self.is_copied, what="a replica that follows")
            self.endpoint = self._stack.enter_context(an_endpoint(port))
            self.store_port = self.endpoint.port
        return server

    def is_copied(self) -> bool:
        """Whether the replica follows the primary."""
        return self.replica.info("replication").get("master_link_status") == "up"

    def submit_all(self) -> list[str]:
        """A job of each guard; returns their names."""
        return [self.submit(calls(ROWS, 2, it, prefix=it), it) for it in GUARDS]

    def start(self) -> Self:
        """Two workers at work."""
        for name in ("w1", "w2"):
            self.start_worker(name)
        self.wait_for(30, GUARDS[0])
        return self

    def fail_over(self, lag_s: float, *, demoted: bool) -> None:
        """Let the copy take over whose replication ended `lag_s` before.

        Args:
            lag_s: So long the primary goes on alone.
            demoted: The old primary lives on as a replica, and keeps its connections; else they
                break.
        """
        self.replica.execute_command("REPLICAOF", "NO", "ONE")
        time.sleep(lag_s)
        self.endpoint.target = self.replica_port
        if demoted:
            self.primary.execute_command("REPLICAOF", "127.0.0.1", "1")
        else:
            self.endpoint.cut()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`headgate WORDS` on this machine."""
        return subprocess.run(
            [sys.executable, "-m", "orchestration.cli", *words],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def logs(self) -> str:
        """What all workers printed."""
        return "".join(self.log(name) for name in self.workers)


def run_failover(lag_s: float, *, demoted: bool, broker: bool = True) -> dict[str, Any]:
    """Fail over to a copy that lags, under load: every row ends, none has two effects."""
    with MovingFleet(broker=broker) as fleet:
        jobs = fleet.submit_all()
        fleet.start()
        fleet.fail_over(lag_s, demoted=demoted)
        until(lambda: fleet.ended(jobs[0]) >= 0, what="the new primary")
        counts = {job: fleet.wait(job, timeout_s=90) for job in jobs}
        check_all(fleet, *jobs)
        return {"counts": counts, "log": fleet.logs()}


def run_loss(lose: Callable[[MovingFleet], None]) -> None:
    """Lose the store under load: all stop in one sentence, and nothing is sent any more."""
    with MovingFleet() as fleet:
        fleet.submit_all()
        fleet.start()
        lose(fleet)
        until(lambda: fleet.logs().count("emptied or replaced") >= 2, what="the sentence of both")
        until(lambda: not fleet.sandbox.get("health")["in_flight"], what="the last effects")
        sent = len(fleet.requests())
        time.sleep(QUIET_S)
        assert len(fleet.requests()) == sent
        effects = [it["business_id"] for it in fleet.effects()]
        assert len(effects) == len(set(effects))
        assert not [it for it in effects if it.startswith("foreign")]
        for words in (("status",), ("doctor",)):
            told = fleet.command(*words)
            assert told.returncode == 1
            assert "emptied or replaced" in told.stdout + told.stderr


def wipe(fleet: MovingFleet) -> None:
    """FLUSHALL."""
    fleet.primary.flushall()


def swap(fleet: MovingFleet) -> None:
    """Another installation's store at the same address, in which the same client has work."""
    folder = fleet.folder / "other"
    folder.mkdir()
    port = free_port()
    other, _ = start_server(folder, "--appendfsync", "always", port=port)
    fleet._stack.callback(other.wait, 10)
    fleet._stack.callback(other.terminate)
    text = fleet.config.read_text().replace(f":{fleet.store_port}/0", f":{port}/0")
    config = folder / "headgate.toml"
    config.write_text(text)
    foreign = fleet.of("acme")
    foreign.client = Clients(load(config))["acme"]
    foreign.submit(calls(100, prefix="foreign"), "foreign")
    fleet.endpoint.target = port
    fleet.endpoint.cut()
