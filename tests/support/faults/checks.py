"""The invariants, after every fault test: the ledger and the sandbox's journal must agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestration.views.invariants import check_ledger, everything_ended
from tests.support import journal
from workers.settings.limits import LimitSettings

if TYPE_CHECKING:
    from tests.support.any_fleet import AnyFleet


def check_all(fleet: AnyFleet, *jobs: str, healthy: bool = True) -> None:
    """Every invariant that holds after a run.

    Args:
        fleet: What ran.
        jobs: All of its jobs; none named: its only one.
        healthy: Whether most of its rows could be done.
    """
    jobs = jobs or ("job",)
    transactions = [it for job in jobs for it in journal.transactions(fleet.client, job)]
    effects = fleet.effects()
    limits = [LimitSettings(**limit) for limit in fleet.limits]
    found = [line for lines in check_ledger(fleet.client).values() for line in lines]
    found += [line for job in jobs for line in everything_ended(fleet.client, job)]
    found += journal.at_most_one_effect(effects)
    found += journal.effects_match_states(transactions, effects)
    found += journal.steps_in_order(transactions, effects)
    found += journal.one_key_per_transaction(transactions, fleet.requests())
    found += journal.within_limits(fleet.report(), limits)
    if healthy:
        found += journal.mostly_succeeded(transactions)
    assert found == [], "\n".join(found)
    assert_nothing_left(fleet)


def assert_nothing_left(fleet: AnyFleet) -> None:
    """When all has ended nothing is out, nothing waits, and no counter has drifted."""
    store, keys = fleet.client.store, fleet.client.keys
    gov = store.hgetall(keys.governor)
    assert store.zcard(keys.touch) == store.zcard(keys.retries) == store.zcard(keys.suspects) == 0
    drifted = {
        name: value
        for name, value in gov.items()
        if (name[:2] in {"b:", "q:"} and value != "0") or name == "suspect"
    }
    assert drifted == {}
