"""The store is lost under load and restored from a backup: `headgate recover` doubles nothing."""

from __future__ import annotations

import json
from collections import Counter

from orchestration.views.invariants import check_ledger
from tests.support.faults.checks import check_all
from tests.support.faults.restored import (
    FEW,
    JOBS,
    calls_of,
    everything,
    lost_and_restored,
    named,
    nobody_alive,
    recover,
)
from tests.support.fleet import until
from workers.ledger.transaction import FINAL


def test_after_recover_a_restored_store_doubles_and_loses_nothing_under_any_guard() -> None:
    with lost_and_restored() as (fleet, lost):
        forgotten = lost.forgotten()
        still_open = [it for it in lost.copied.values() if not it or it.state not in FINAL]
        # The provider knows more than the copy, of each guard, and of pages that open later there.
        assert min(len(rows) for rows in forgotten.values()) >= FEW
        assert all(any(lost.copied[it] is None for it in rows) for rows in forgotten.values())
        until(lambda: nobody_alive(fleet), what="the workers of the copy to be held for dead")
        copy = everything(fleet)

        dry = json.loads(recover(fleet, lost.since_us, "--dry-run"))

        assert everything(fleet) == copy
        (it,) = json.loads(recover(fleet, lost.since_us))["clients"]
        assert [it] == dry["clients"]
        treated = [it[word] for word in ("sent_again", "looked_up", "unknown", "leases")]
        assert sum(treated) == sum(tx is not None for tx in still_open)
        assert min(treated) >= FEW
        assert it["pages"] >= 1
        assert [line for lines in check_ledger(fleet.client).values() for line in lines] == []

        sent = len(fleet.requests())
        fleet.start_worker("w3")
        counts = sum((Counter(fleet.wait(job)) for job in JOBS), Counter[str]())

        states = {row: tx.state for job in JOBS for row, tx in fleet.transactions(job).items()}
        assert states == {row: lost.must_end(row) for row in lost.guards}
        assert counts == Counter(states.values())
        assert {states[row] for row in forgotten["none"]} == {"unknown"}
        kinds = Counter((named(it)[1], it["kind"]) for it in calls_of(fleet.requests()[sent:]))
        # What had no guard was sent no more; the rest was known under its key, there, or found.
        assert {kind for guard, kind in kinds if guard == "none"} == set()
        assert (
            min(kinds["key", "replay"], kinds["upsert", "repeat"], kinds["lookup", "read"]) >= FEW
        )
        check_all(fleet, *JOBS, healthy=False)


def test_without_recover_a_restored_store_doubles_what_is_guarded_by_lookups_or_not_at_all() -> (
    None
):
    with lost_and_restored() as (fleet, lost):
        fleet.start_worker("w3")
        for job in JOBS:
            fleet.wait(job)

        counts = Counter((it["path"], it["business_id"]) for it in fleet.effects())
        twice = {named({"path": path})[:2] for (path, _), count in counts.items() if count > 1}
        assert {guard for _, guard in twice} == {"lookup", "none"}
        forgotten = lost.forgotten()
        assert all(row in forgotten[guard] for row, guard in twice)
