"""kill -9 of a worker at every named failpoint: nothing lost, nothing doubled, nothing stuck."""

from __future__ import annotations

import pytest

from tests.support.faults.checks import check_all
from tests.support.faults.guards import SELDOM
from tests.support.fleet import Fleet, calls
from tests.support.killing import FAULTS, OF_A_WORKER, killed_at
from tests.support.stored import transaction_hash


@pytest.mark.parametrize("failpoint", OF_A_WORKER)
def test_a_worker_killed_at_any_failpoint_loses_and_doubles_nothing(failpoint: str) -> None:
    with Fleet(sandbox={"faults": FAULTS}) as fleet:
        fleet.submit(calls(24, steps=3))

        states = killed_at(fleet, failpoint, nth=1 if failpoint in SELDOM else 3)

        assert states == {"succeeded": 24}
        check_all(fleet)


@pytest.mark.parametrize("failpoint", ["admitted", "first_byte", "answer_read", "settled"])
def test_without_a_guard_only_what_was_sent_and_not_answered_is_unknown(failpoint: str) -> None:
    with Fleet(sandbox={"idempotency": "off"}) as fleet:
        fleet.submit(calls(60, guard="none"))

        states = killed_at(fleet, failpoint, nth=10)

        unknown = [it for it in fleet.transactions().values() if it.state == "unknown"]
        assert len(unknown) <= 16  # the threads of the one that died
        assert all("worker died" in it.error for it in unknown)
        assert all("st" not in transaction_hash(fleet.client, it.key) for it in unknown)
        assert failpoint == "settled" or unknown
        assert states.get("succeeded", 0) + len(unknown) == 60
        check_all(fleet, healthy=False)
