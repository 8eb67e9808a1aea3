"""With real workers: what was sent once under a key leaves again as it was, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fleet import Fleet, calls, until
from workers.ledger.packing import pack

KEPT = {"backoff_base_s": 5.0, "backoff_cap_s": 5.0}  # time enough to change what is sent


def writes(fleet: Fleet) -> list[dict[str, Any]]:
    return [it for it in fleet.requests() if it["path"].startswith("/things")]


@pytest.mark.parametrize("changed", [False, True])
def test_another_process_that_would_send_another_body_sends_nothing(changed: bool) -> None:  # noqa: FBT001 -- a case of the test
    with Fleet(client=KEPT) as fleet:
        fleet.sandbox.post("faults", [{"kind": "drop_after", "times": 1}])
        job = fleet.submit(calls(1, guard="key"))
        fleet.start_worker("w1")
        until(lambda: [it for it in fleet.transactions().values() if it and it.attempts], 60)
        fleet.stop_worker("w1")
        if changed:
            rows = calls(1, guard="key")
            rows[0]["steps"][0]["body"]["business_id"] = "another"
            fleet.client.store.set(fleet.client.keys.page(job, 0), pack(rows))

        fleet.start_worker("w2")
        counts = fleet.wait(timeout_s=90)

        assert counts == ({"unknown": 1} if changed else {"succeeded": 1})
        assert len(writes(fleet)) == (1 if changed else 2)
        assert [it["business_id"] for it in fleet.effects()] == ["r0.1"]
