"""Batches that are refused, on real workers; the journal is the oracle."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.intake import Submission, accept, check
from orchestration.intake.readers.contacts import ContactOptions
from orchestration.kinds import find_kind
from orchestration.views.report import report
from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestration.views.report import TransactionStatus

BAD = ("c7", "c113", "c114", "c299")


def refusing(kind: str = "400", *names: str, **more: Any) -> dict[str, Any]:
    """The provider refuses every call with one of these contacts."""
    return {"kind": kind, "match": "POST *", "when": {"business_ids": names or BAD}, **more}


def submitted(fleet: Fleet, count: int = 300, *more: str, batch: int = 100) -> str:
    """A file of contacts, accepted; returns the job."""
    path = fleet.folder / "contacts.csv"
    rows = [f"c{n},{n}" for n in range(count)]
    path.write_text("\n".join(["id,note", *rows, *more]) + "\n")
    submission = Submission(
        client=fleet.client, path=path, lane=1,
        options=ContactOptions(contact_list="list-1", id_column="id", batch_size=batch),
    )  # fmt: skip
    kind = find_kind("contacts")
    with check(kind, submission) as checked:
        return accept(kind, submission, checked).job


def told(fleet: Fleet, job: str) -> dict[int, TransactionStatus]:
    return {it.line: it for it in report(fleet.client, job)}


def queued(fleet: Fleet) -> tuple[int, int]:
    """How often contacts were put into the queue to be dialled, and how often once more."""
    report = fleet.report()
    return report["queued"], report["queued_again"]


@contextmanager
def running(*faults: dict[str, Any], **client: Any) -> Iterator[Fleet]:
    with Fleet(sandbox={"idempotency": "off", "faults": list(faults)}, client=client) as fleet:
        yield fleet


def test_only_the_rows_that_are_refused_fail_and_the_others_are_queued_once() -> None:
    with running(refusing()) as fleet:
        job = submitted(fleet)
        fleet.start_worker("w1")
        fleet.start_worker("w2")

        assert fleet.wait(job) == {"succeeded": 296, "failed": 4}

        lines = told(fleet, job)
        failed = {it.id for it in lines.values() if it.state == "failed"}
        assert failed == set(BAD)
        assert queued(fleet) == (296, 0)
        assert {it["business_id"] for it in fleet.effects()}.isdisjoint(BAD)
        assert "400" in (lines[9].error or "")
        calls = len([it for it in fleet.requests() if it["method"] == "POST"])
        assert calls - 1 <= 3 + 3 * 2 * 7  # a token; each bad row halves its batch 7 times
        check_all(fleet, job, healthy=False)


def test_repeated_rows_end_as_the_row_that_they_repeat_wherever_that_went() -> None:
    with running(refusing("400", "c5")) as fleet:
        repeats = [f"c{n},{n}" for n in (5, 5, 6, 30)]
        job = submitted(fleet, 40, *repeats, batch=20)
        fleet.start_worker("w1")

        assert fleet.wait(job) == {"succeeded": 41, "failed": 3}

        lines = told(fleet, job)
        assert [lines[n].state for n in (42, 43, 44, 45)] == [
            "failed", "failed", "succeeded", "succeeded",
        ]  # fmt: skip
        assert lines[42].key == lines[7].key
        check_all(fleet, job, healthy=False)


def test_a_body_that_is_too_large_is_split_until_it_fits() -> None:
    with Fleet(sandbox={"max_body_bytes": 2000}) as fleet:
        job = submitted(fleet, 200, batch=200)
        fleet.start_worker("w1")

        assert fleet.wait(job) == {"succeeded": 200}
        assert queued(fleet) == (200, 0)
        check_all(fleet, job, healthy=False)


@pytest.mark.parametrize("status", ["403", "404", "409"])
def test_what_is_no_fault_of_a_row_is_not_split(status: str) -> None:
    with running(refusing(status), max_retries=0, outage_patience_s=1) as fleet:
        job = submitted(fleet)
        fleet.start_worker("w1")

        assert fleet.wait(job) == {"failed": 300}
        assert fleet.job(job).released == 3


@pytest.mark.parametrize("lost", ["drop_before", "drop_after"])
def test_after_a_lost_answer_only_the_rows_that_are_refused_are_unknown(lost: str) -> None:
    # The first answer to each batch is lost. Then somebody takes two of the contacts amiss.
    faults = [
        {"kind": lost, "match": "POST /api*", "when": {"first": 3}},
        refusing("400", "c7", "c207"),
    ]
    with running(*faults) as fleet:
        job = submitted(fleet)
        fleet.start_worker("w1")

        assert fleet.wait(job) == {"unknown": 2, "succeeded": 298}
        assert queued(fleet) == ((298, 0) if lost == "drop_before" else (300, 0))
        if lost == "drop_before":  # else contacts were written under two keys: once more, not twice
            check_all(fleet, job, healthy=False)


@pytest.mark.parametrize("failpoint", ["split:kill:2", "popped:kill:5", "settled:kill:2"])
def test_a_worker_that_dies_at_a_split_changes_nothing(failpoint: str) -> None:
    with running(refusing()) as fleet:
        job = submitted(fleet)
        once = fleet.folder / "died"
        env = {"HEADGATE_FAILPOINT": failpoint, "HEADGATE_FAILPOINT_ONCE": str(once)}
        fleet.start_worker("w1", concurrency=1, env=env)  # none but one call is out at its death

        assert fleet.wait(job) == {"succeeded": 296, "failed": 4}
        assert once.exists()
        assert queued(fleet) == (296, 0)
        check_all(fleet, job, healthy=False)


def test_the_counters_and_the_report_agree_while_batches_are_being_split() -> None:
    with running(refusing()) as fleet:
        job = submitted(fleet)
        fleet.start_worker("w1")
        until(lambda: fleet.job(job).released > 5, what="a split")
        states = Counter(it.state for it in report(fleet.client, job))
        assert states.total() == 300
        fleet.wait(job)
        assert fleet.client.ledger.job_params(job).contact_list == "list-1"
