"""kill -9 of a worker at every named failpoint: nothing lost, nothing doubled, nothing stuck."""

from __future__ import annotations

import signal

import pytest

from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, until
from tests.support.stored import transaction_hash
from workers import failpoints

#: Failpoints of a worker; those of commands, campaigns and batches have their own tests.
OF_A_WORKER = [
    name
    for name in failpoints.NAMES
    if name not in ("accepted", "released", "replayed", "recovered", "split", "half_sent")
]
#: Some calls fail at first, so that the retry's failpoint is reached too.
FAULTS = [{"match": "POST *", "when": {"every": 7}, "times": 4, "kind": "5xx_before"}]


def killed_at(fleet: Fleet, failpoint: str, nth: int = 3) -> dict[str, int]:
    """Run with one worker that dies once at the failpoint; returns rows by state."""
    once = fleet.folder / "died"
    env = {"HEADGATE_FAILPOINT": f"{failpoint}:kill:{nth}", "HEADGATE_FAILPOINT_ONCE": str(once)}
    if failpoint == "taken_over":
        env["HEADGATE_FAILPOINT"] = "taken_over:kill:1"
        dies = {"HEADGATE_FAILPOINT": "admitted", "HEADGATE_FAILPOINT_ONCE": f"{once}0"}
        fleet.start_worker("w0", env=dies)
        until((fleet.folder / "died0").exists, what="the death of w0")
        fleet.stop_worker("w0", signal.SIGKILL)  # what it held is for the next one to take over
    fleet.start_worker("w1", env=env)
    states = fleet.wait()
    assert once.exists(), f"nobody came to {failpoint}"
    return states


@pytest.mark.parametrize("failpoint", OF_A_WORKER)
def test_a_worker_killed_at_any_failpoint_loses_and_doubles_nothing(failpoint: str) -> None:
    with Fleet(sandbox={"faults": FAULTS}) as fleet:
        fleet.submit(calls(24, steps=3))

        states = killed_at(fleet, failpoint, nth=1 if failpoint == "page_opened" else 3)

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
