"""The invariants, after every fault test: the ledger and the sandbox's journal must agree."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from workers.ledger import FINAL

if TYPE_CHECKING:
    from tests.fleet import Fleet


def check_all(fleet: Fleet, job: str = "job") -> None:
    """Every invariant that holds after a run of `calls` rows made by `tests.fleet.calls`."""
    it = fleet.job(job)
    transactions = fleet.transactions(job)
    effects = Counter(effect["business_id"] for effect in fleet.effects())
    report = fleet.report()

    assert sum(it.get(state, 0) for state in FINAL) == it["rows"] == it["ended"]
    counted = Counter(tx["s"] for tx in transactions.values())
    assert dict(counted) == {s: it[s] for s in FINAL if it.get(s) and s != "rejected"}
    assert [name for name, times in effects.items() if times > 1] == []
    for row, tx in transactions.items():
        # A call's business id names row and step; a contact's is the contact itself.
        steps = range(1, int(tx["n"]) + 1)
        done = [effects[row] or effects[f"{row}.{step}"] for step in steps]
        assert done == sorted(done, reverse=True), f"{row}: a step ran before the one before it"
        if tx["s"] == "succeeded":
            assert all(done), f"{row}: succeeded without its effect"
        if tx["s"] == "failed":
            assert done[int(tx["k"]) - 1] == 0, f"{row}: failed, but its step had an effect"
    assert report["several_keys"] == 0
    for window in report["windows"]:
        limit = next(one for one in fleet.limits if one["name"] == window["name"])
        if limit.get("shape", "bucket") != "bucket":
            assert window["max_arrived"] <= limit["count"]
    assert_nothing_left(fleet)


def assert_nothing_left(fleet: Fleet) -> None:
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
