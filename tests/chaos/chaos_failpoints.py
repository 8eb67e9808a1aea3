"""Every failpoint, chains of 1 and 3 steps, every guard: the whole matrix, each with kill -9."""

from __future__ import annotations

import pytest

from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, contacts
from tests.support.killing import FAULTS, LOOKS, OF_A_WORKER, SLOW, killed_at, lost


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("failpoint", OF_A_WORKER)
def test_guard_key(failpoint: str, steps: int) -> None:
    if failpoint == "next_published" and steps == 1:
        pytest.skip("a single step has no next one")
    with Fleet(sandbox={"faults": FAULTS}) as fleet:
        fleet.submit(calls(60, steps=steps))
        states = killed_at(fleet, failpoint, nth=1 if failpoint == "page_opened" else 3)
        assert states == {"succeeded": 60}
        check_all(fleet)


@pytest.mark.parametrize("failpoint", [it for it in OF_A_WORKER if it != "next_published"])
def test_guard_upsert(failpoint: str) -> None:
    with Fleet(sandbox={"faults": FAULTS, "idempotency": "off"}) as fleet:
        fleet.submit(contacts(60), kind="contacts")
        states = killed_at(fleet, failpoint, nth=1 if failpoint == "page_opened" else 3)
        assert states == {"succeeded": 60}
        check_all(fleet)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("failpoint", OF_A_WORKER)
def test_guard_lookup(failpoint: str, steps: int) -> None:
    if failpoint == "next_published" and steps == 1:
        pytest.skip("a single step has no next one")
    faults = [*FAULTS, lost("5xx_after", 3), lost("drop_after", 5)]
    with Fleet(sandbox={**SLOW, "faults": faults}, client=LOOKS) as fleet:
        fleet.submit(calls(60, steps=steps, guard="lookup"))
        states = killed_at(fleet, failpoint, nth=1 if failpoint == "page_opened" else 10)
        assert states == {"succeeded": 60}
        check_all(fleet)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("failpoint", OF_A_WORKER)
def test_guard_none(failpoint: str, steps: int) -> None:
    if failpoint in {"retry_published", "next_published"}:
        pytest.skip("without a guard nothing is retried; next_published is covered by guard key")
    with Fleet(sandbox={"idempotency": "off"}) as fleet:
        fleet.submit(calls(60, steps=steps, guard="none"))
        states = killed_at(fleet, failpoint, nth=1 if failpoint == "page_opened" else 3)
        unknown = [it for it in fleet.transactions().values() if it.state == "unknown"]
        assert states.get("succeeded", 0) + len(unknown) == 60
        assert all("worker died" in it.error for it in unknown)
        check_all(fleet, healthy=False)
