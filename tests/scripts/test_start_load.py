"""The contacts of a campaign are released once, when they are whole, and learn their list by it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.support.stored import a_job, job_hash
from workers.errors import LedgerDamaged
from workers.ledger.ledger import Ledger, LoadProgress, PageCounts
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from workers.store.connection import Store

ROWS = [{"line": n + 2, "id": f"c{n}", "data": {}} for n in range(3)]


class Rig:
    """A job of contacts that waits, by a held clock."""

    def __init__(self, store: Store) -> None:
        self.store, self.keys = store, ClientKeys("release", uuid4().hex)
        self.us = 1_790_000_000_000_000
        self.ledger = Ledger(store, self.keys, lambda: self.us)
        self.ledger.begin(a_job("l-1", "contacts", parent=("c-1", "may")))

    def accept(self, rejected: int = 0) -> None:
        """All its rows, so many of them bad."""
        self.ledger.accept("l-1", 0, ROWS, PageCounts(rejected=rejected, calls=3 - rejected))

    @property
    def needs_page(self) -> bool:
        """Whether somebody will open its pages."""
        return bool(self.store.sismember(self.keys.prefix + "needs_page", "l-1"))


@pytest.fixture
def rig(store: Store) -> Rig:
    return Rig(store)


def told(**given: float) -> LoadProgress:
    counts = dict.fromkeys(("rows", "ended", "rejected", "succeeded", "failed", "unknown"), 0)
    finished = bool(given.pop("finished", False))
    return LoadProgress(**{**counts, "elapsed_s": 0.0, **given}, finished=finished)  # type: ignore[arg-type]


def test_released_it_is_closed_with_its_list_and_work_begins(rig: Rig) -> None:
    rig.accept()
    before = rig.ledger.job_params("l-1").contact_list

    it = rig.ledger.start_load("l-1", "list-7", 3)

    assert it == told(rows=3)
    assert (before, rig.ledger.job_params("l-1").contact_list) == ("", "list-7")
    assert job_hash(rig, "l-1")["started"] == "1"
    assert rig.needs_page


def test_released_again_it_only_tells_how_far_it_is(rig: Rig) -> None:
    rig.accept()
    rig.ledger.start_load("l-1", "list-7", 3)
    rig.store.srem(rig.keys.prefix + "needs_page", "l-1")
    rig.store.hset(rig.keys.job("l-1"), mapping={"ended": 2, "succeeded": 1, "failed": 1})
    rig.us += 1_500_000

    it = rig.ledger.start_load("l-1", "list-8", 3)

    assert it == told(rows=3, ended=2, succeeded=1, failed=1, elapsed_s=1.5)
    assert job_hash(rig, "l-1")["list"] == "list-7"
    assert not rig.needs_page


def test_one_that_is_not_whole_is_left_as_it_is(rig: Rig) -> None:
    for rows in (0, 3):
        before = job_hash(rig, "l-1")
        assert rig.ledger.start_load("l-1", "list-7", rows) is None
        assert job_hash(rig, "l-1") == before
    rig.accept()
    assert rig.ledger.start_load("l-1", "list-7", 4) is None
    assert rig.ledger.start_load("l-2", "list-7", 3) is None
    assert "started" not in job_hash(rig, "l-1")
    assert not job_hash(rig, "l-2")


def test_one_without_a_good_row_has_ended_at_once(rig: Rig) -> None:
    rig.accept(rejected=3)

    assert rig.ledger.start_load("l-1", "list-7", 3) == told(
        rows=3, ended=3, rejected=3, finished=True
    )
    assert "finished_us" in job_hash(rig, "l-1")


def test_a_name_of_a_wrong_type_stops_it_before_it_writes(rig: Rig) -> None:
    rig.accept()
    rig.store.set(rig.keys.prefix + "needs_page", "x")

    with pytest.raises(LedgerDamaged, match="is a string, not a set"):
        rig.ledger.start_load("l-1", "list-7", 3)

    assert "started" not in job_hash(rig, "l-1")
