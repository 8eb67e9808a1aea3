"""The proof of the guards: rows of all of them in one job, under every fault, and killed.

python -m tests.support.faults.guards                 runs everything, prints the tables
python -m tests.support.faults.guards --seed N        as it was once
python -m tests.support.faults.guards --write         puts the tables into the page of the proof
"""

from __future__ import annotations

import argparse
import random
import signal
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.support.faults.checks import check_all
from tests.support.faults.mixed import DEFAULT, KEYLESS, MODES, mixed
from tests.support.faults.tables import DOCS, rendered, with_tables
from tests.support.faults.tally import Tally, rarely_met, tally
from tests.support.fleet import Fleet, until
from workers import failpoints
from workers.ledger.transaction import TransactionState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.faults.mixed import Mode

#: Each failpoint of a worker, and the ones at which others die before it.
#: (The others are those of commands, campaigns and batches.)
DEATHS: Final = [
    ("admitted", it) if it == "taken_over" else (it,)
    for it in failpoints.NAMES
    if it not in {"accepted", "released", "replayed", "recovered", "split", "half_sent"}
]
#: Failpoints that a backlog passes a few times only.
SELDOM: Final = {"page_opened", "next_published", "taken_over"}
#: The last of three looks comes 0.7 s after the send, what was written is seen after 0.4 s.
SANDBOX: Final = {"read_lag_s": 0.4}
LOOKS: Final = {"lookup_after_s": 0.3, "lookups": 3, "lookup_every_s": 0.2}
#: So often each fault hits the rows of each guard, else the run proves nothing.
FEW: Final = 3


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to."""

    mode: Mode
    deaths: int  #: failpoints at which a worker was killed
    tallies: dict[str, Tally]  #: by guard


#: When the last rows are those whose 5xx the provider has stored, nothing shows that it works.
PATIENCE_S = 15


def run(mode: Mode, seed: int, times: int = 4, deaths: Sequence[str] = ()) -> Run:
    """Run a mixed job to its end and hold it against the sandbox's journal.

    Args:
        mode: What the sandbox matches keys by.
        seed: Chooses rows and faults; it is printed.
        times: See `mixed`.
        deaths: Failpoints at which one worker after the other is killed; the last one is started
            again and ends the job. None: two workers that live.
    """
    print(f"guards: keys by {mode.name}, seed {seed}, killed at {', '.join(deaths) or 'nothing'}")
    job, rng = mixed(seed, mode.guards, times), random.Random(seed)
    sandbox = {**SANDBOX, "idempotency": mode.sandbox, "faults": job.faults}
    client = {**LOOKS, **mode.client, "outage_patience_s": PATIENCE_S}
    with Fleet(sandbox=sandbox, client=client) as fleet:
        fleet.submit(job.rows)
        out = set[str]()
        for n, failpoint in enumerate(deaths, 1):
            nth = 1 if failpoint in SELDOM else rng.randint(3, 30)
            out |= _killed(fleet, f"w{n}", failpoint, nth, again=n == len(deaths))
        for name in () if deaths else ("w1", "w2"):
            fleet.start_worker(name)
        fleet.wait()
        states = {row: it.state for row, it in fleet.transactions().items()}
        tallies, violations = tally(states, fleet.requests(), mode, out)
        # Who died with a call out never met the fault of the next one.
        violations += rarely_met(tallies, 1 if deaths else FEW)
        assert violations == [], "\n".join(violations)
        check_all(fleet, healthy=False)
    return Run(mode, len(deaths), tallies)


def _killed(fleet: Fleet, name: str, failpoint: str, nth: int, *, again: bool) -> set[str]:
    """Start a worker, alone, that is killed at the failpoint; the rows that it had sent.

    Args:
        fleet: Where.
        name: Of the worker.
        failpoint: Where it stops for good.
        nth: When it comes there the nth time.
        again: Its supervisor may start it again.
    """
    once = fleet.folder / f"died-{name}"
    env = {"HEADGATE_FAILPOINT": f"{failpoint}:stop:{nth}", "HEADGATE_FAILPOINT_ONCE": str(once)}
    fleet.start_worker(name, env=env)
    pid = fleet.worker_pid(name)
    until(once.exists, what=f"the death of {name} at {failpoint}", fleet=fleet)
    # Frozen first, killed then: so what it leaves can be read before anybody takes it over.
    until(lambda: "\nState:\tT" in Path(f"/proc/{pid}/status").read_text())
    sent = {
        row for row, it in fleet.transactions().items() if it and it.state is TransactionState.SENT
    }
    if again:
        fleet.kill_worker(name)
    else:
        fleet.stop_worker(name, signal.SIGKILL)
    return sent


def everything(seed: int, times: int) -> list[Run]:
    """One run for each mode, and one for each failpoint: where keys help, and where they do not."""
    return [
        *(run(mode, seed, times) for mode in MODES),
        *(_killed_everywhere(mode, seed, times) for mode in (DEFAULT, KEYLESS)),
    ]


def _killed_everywhere(mode: Mode, seed: int, times: int) -> Run:
    """The runs of all failpoints as one."""
    died = [run(mode, seed + n, times, at) for n, at in enumerate(DEATHS, 1)]
    together = {guard: reduce(add, (it.tallies[guard] for it in died)) for guard in mode.guards}
    assert all(it.out for it in together.values()), "no kill met a call of some guard"
    return Run(mode, len(DEATHS), together)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see above."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.faults.guards", description=__doc__
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--times", type=int, default=8, help="rows of each guard and fault")
    parser.add_argument("--write", action="store_true", help=f"write them into {DOCS.name}")
    given: Any = parser.parse_args(arguments)
    tables = rendered(everything(given.seed, given.times), given.seed)
    print(tables)
    if given.write:
        DOCS.write_text(with_tables(DOCS.read_text("utf-8"), tables), "utf-8")


if __name__ == "__main__":
    main()
