"""Fifty campaigns of 2,000 contacts, each fault on one call in ten; and the same without any."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from orchestration.views.status import status
from tests.support.campaigns import (
    KEYLESS,
    STRICT,
    at_provider,
    children,
    definition,
    queued,
    submit,
    write,
)
from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet
from tests.support.journal import only_known_operations
from tests.support.killing import later

if TYPE_CHECKING:
    from collections.abc import Iterable

CAMPAIGNS = 50
CONTACTS = int(os.environ.get("CHAOS_CONTACTS", "2000"))
SEED = 20261
#: Calls beside the least that it could be done with.
SPARE = 1.02
#: A hold of more seconds is not waited for: the clock is moved.
LONG_S = 5.0


def one_in_ten(kind: str, seed: int, **more: Any) -> dict[str, Any]:
    """A fault on a tenth of the writes, never twice on the same thing."""
    when = {"probability": 0.1}
    once = {"per_business_id_times": 1, "seed": seed}
    return {"match": "POST /api/*", "kind": kind, "when": when, **once, **more}


FAULTS = [
    one_in_ten("429", SEED, retry_after=1),
    one_in_ten("5xx_after", SEED + 1),
    one_in_ten("drop_after", SEED + 2),
    one_in_ten("drop_before", SEED + 3),
    one_in_ten("401", SEED + 4),
    # Of an hour each, and not so many that keys grow old: those are the soak's.
    {**one_in_ten("429", SEED + 5, retry_after=3600), "times": 18},
]


def wait_through_holds(fleet: Fleet, job: str, timeout_s: float = 1800) -> None:
    """Wait until the job has ended; nobody waits for hours, or for half a minute after a 401."""
    deadline, rows = time.monotonic() + timeout_s, fleet.job(job).rows
    while fleet.ended(job) < rows and time.monotonic() < deadline:
        time.sleep(0.5)
        now = status(fleet.client)
        left_s = max((it.left_s for it in now.holds), default=0.0)
        if left_s > LONG_S and not now.in_flight:
            later(fleet, left_s)


def run(faults: Iterable[dict[str, Any]], **sandbox: Any) -> dict[str, Any]:
    """Run all campaigns to their end; what must hold after each run, and the journal's totals."""
    rows = [definition(f"c{n}") for n in range(CAMPAIGNS)]
    with Fleet(sandbox={**STRICT, "faults": list(faults), **sandbox}, client=KEYLESS) as fleet:
        answer = submit(fleet, write(fleet, rows, CONTACTS))
        fleet.start_worker("w1")
        fleet.start_worker("w2")

        wait_through_holds(fleet, answer["job"])

        assert fleet.wait(answer["job"]) == {"succeeded": CAMPAIGNS}

        made = Counter(it["business_id"] for it in at_provider(fleet, "campaigns"))
        assert len(made) == 2 * CAMPAIGNS  # made by their names, started by their ids
        assert set(made.values()) == {1}
        assert len(queued(fleet)) == len(set(queued(fleet))) == CAMPAIGNS * CONTACTS
        assert only_known_operations(fleet.requests()) == []
        its = children(fleet, answer["job"])
        assert {fleet.job(it).succeeded for it in its.values()} == {CONTACTS}
        check_all(fleet, answer["job"], *its.values())
        return {**fleet.report(), "least": answer["calls"]}


def test_under_faults_nothing_is_made_or_queued_twice_and_every_row_is_in_its_state() -> None:
    report = run(FAULTS, read_lag_s=0.5)

    assert report["duplicates"] == report["queued_again"] == 0
    assert min(report["by_fault"].get(it["kind"], 0) for it in FAULTS) > 0
    print(report["by_fault"], report["requests"], "calls")


def test_without_faults_hardly_a_call_is_made_beside_those_that_are_needed() -> None:
    report = run([])

    assert report["refused_429"] == 0
    assert report["requests"] <= SPARE * report["least"]
