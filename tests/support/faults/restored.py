"""A fleet whose store is lost, and comes back from a backup that was made while calls were out.

The provider honours keys at the steps of guard `key` alone, so that every other guard stands by
itself.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestration.views.progress import iso
from tests.support.faults.guards import LOOKS, SANDBOX
from tests.support.faults.mixed import GUARDS, step
from tests.support.fleet import ROOT, Fleet, until
from workers.governor.state import GovernorState
from workers.ledger.transaction import FINAL, TransactionState
from workers.store.connection import store_now_us

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.support.journal import Record
    from workers.ledger.transaction import Transaction

#: The guards of a row's steps: alone, alike, and in chains with each other.
CHAINS: Final = (
    *((it,) for it in GUARDS),
    *((it, it) for it in GUARDS),
    ("key", "none"),
    ("none", "key"),
    ("read", "lookup", "key"),
    ("lookup", "upsert", "none"),
    ("upsert", "none", "lookup"),
)
#: A job that is open as a whole, and one whose pages open one after the other.
JOBS: Final = ("whole", "paged")
PAGE: Final = 15
#: Rows that make a proof.
FEW: Final = 3
#: Answers that are lost before the backup as well as after it.
FAULTS: Final = [
    {"match": "POST *", "kind": kind, "when": {"every": every}, "per_business_id_times": 1}
    for kind, every in (("drop_after", 7), ("5xx_after", 8))
]


@dataclass(frozen=True, slots=True)
class Lost:
    """What the copy says, and what the provider knows."""

    since_us: int  #: the moment of the backup, by the store's clock
    guards: dict[str, tuple[str, ...]]  #: row → those of its steps
    copied: dict[str, Transaction | None]  #: row → its transaction in the copy, if its page is open
    before: list[Record]  #: requests until the store was lost

    def must_end(self, row: str) -> str:
        """The state that the docs ask for: each step that is still to come may have been sent."""
        it = self.copied[row]
        if it and it.state in FINAL:
            return it.state
        return "unknown" if "none" in self.guards[row][it.step - 1 if it else 0 :] else "succeeded"

    def forgotten(self) -> dict[str, set[str]]:
        """Guard → rows with a step that the provider had, and that is still to come in the copy."""
        found: dict[str, set[str]] = {it: set() for it in GUARDS}
        for it in calls_of(self.before):
            row, guard, number = named(it)
            copy = self.copied[row]
            if copy is None or (copy.state not in FINAL and number >= copy.step):
                found[guard].add(row)
        return found


def calls_of(requests: Iterable[Record]) -> list[Record]:
    """Those that are no requests for a token."""
    return [it for it in requests if it["kind"] != "token"]


def named(request: Record) -> tuple[str, str, int]:
    """The row, guard and number of the step that a request was for."""
    name = request["path"].removesuffix("/contacts").rpartition("/")[2]
    row, _, rest = name.partition("-")
    guard, _, number = rest.partition(".")
    return row, guard, int(number)


def rows(prefix: str, times: int) -> tuple[list[dict[str, Any]], dict[str, tuple[str, ...]]]:
    """Rows of each chain so many times, by turns; and row → the guards of its steps."""
    guards = {f"{prefix}{n}": chain for n, chain in enumerate(CHAINS * times)}
    found = [
        {
            "line": n,
            "id": row,
            "steps": [step(guard, f"{row}-{guard}", k) for k, guard in enumerate(chain, 1)],
        }
        for n, (row, chain) in enumerate(guards.items(), 1)
    ]
    return found, guards


@contextmanager
def lost_and_restored() -> Iterator[tuple[Fleet, Lost]]:
    """A fleet without workers, on the copy of a store that was lost a while after it was made."""
    sandbox = {"idempotency_match": "POST /things/*-key.*", "latency_ms": 150, "faults": FAULTS}
    with Fleet(sandbox={**SANDBOX, **sandbox}, client=LOOKS) as fleet:
        paged, guards = rows("p", 6)
        whole, further = rows("w", 6)
        fleet.submit(paged, "paged", page=PAGE)
        fleet.submit(whole, "whole")
        for name in ("w1", "w2"):
            fleet.start_worker(name)
        fleet.wait_for(10, "whole")
        copy = fleet.folder / "copy"
        since_us = backup(fleet, copy)
        late = {it["id"] for it in paged[fleet.job("paged").next_page * PAGE :]}
        until(lambda: all(late & it for it in seen(fleet).values()), what="calls of later pages")
        for name in list(fleet.workers):
            fleet.stop_worker(name, signal.SIGKILL)
        fleet.kill_store()
        until(lambda: not fleet.sandbox.get("health")["in_flight"], what="the last effects")
        fleet.sandbox.post("config", {"latency_ms": 20})  # nothing need be out any more
        shutil.rmtree(fleet.folder / "store")
        copy.rename(fleet.folder / "store")
        fleet.start_store()
        copied = {row: it for job in JOBS for row, it in fleet.transactions(job).items()}
        yield fleet, Lost(since_us, guards | further, copied, fleet.requests())


def backup(fleet: Fleet, to: Path) -> int:
    """Copy the store's files while all goes on, calls are out in the copy; the moment before."""
    moments = list[int]()

    def copied() -> bool:
        before = out(fleet)
        moments.append(store_us(fleet))
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(fleet.folder / "store", to)
        return len(before & out(fleet)) >= FEW

    until(copied, what="a copy with calls out", fleet=fleet)
    return moments[-1]


def out(fleet: Fleet) -> set[str]:
    """The grants of the calls that are out."""
    found = (it for job in JOBS for it in fleet.transactions(job).values())
    return {it.fence for it in found if it and it.state is TransactionState.SENT}


def seen(fleet: Fleet) -> dict[str, set[str]]:
    """Guard → rows of which the provider had a call with it."""
    found: dict[str, set[str]] = {it: set() for it in GUARDS}
    for it in calls_of(fleet.requests()):
        row, guard, _ = named(it)
        found[guard].add(row)
    return found


def store_us(fleet: Fleet) -> int:
    """The store's clock."""
    return store_now_us(fleet.client.store)


def nobody_alive(fleet: Fleet) -> bool:
    """Whether the store holds no worker for alive; those of the copy are until 5 s after it."""
    return not GovernorState.read(fleet.client.store, fleet.client.keys).live_threads()


def recover(fleet: Fleet, since_us: int, *options: str) -> str:
    """`headgate recover`, as a process; what it says."""
    command = [sys.executable, "-m", "orchestration.cli", "recover", "--since", iso(since_us)]
    command += ["--reason", "the disk was lost", "--json", *options]
    result = subprocess.run(
        command, env=fleet.environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def everything(fleet: Fleet) -> dict[str, bytes]:
    """All that the store holds, as the server itself would hand it on."""
    store = fleet.client.store
    return {
        name: store.execute_command("DUMP", name, NEVER_DECODE=True)
        for name in sorted(store.scan_iter(count=1000))
    }
