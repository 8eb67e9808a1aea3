"""A daily quota of one endpoint that nobody told us of: real workers, and a new day that comes."""

from __future__ import annotations

from typing import Any

from orchestration.views.status import status
from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, until
from tests.support.killing import later

APP = {"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}
DAILY = {"name": "daily", "window_s": 86_400, "shape": "fixed_window", "match": "* /daily"}
#: Retry-After of two hours, and the most jitter that comes on top.
HELD_S = 7200.0 + 0.1


def of_daily(fleet: Fleet) -> list[dict[str, Any]]:
    """The requests for the endpoint, in order."""
    return [it for it in fleet.requests() if it["path"] == "/daily"]


def test_rows_beyond_a_daily_quota_wait_alone_and_resume_by_themselves_under_their_keys() -> None:
    sandbox = {"limits": [APP, {**DAILY, "count": 40}], "retry_after": "hours"}
    with Fleet([APP], sandbox=sandbox) as fleet:
        daily = [
            {**row, "steps": [{**row["steps"][0], "path": "/daily"}]}
            for row in calls(60, prefix="d")
        ]
        rows = [{**row, "line": n} for n, row in enumerate(daily + calls(600), 1)]
        fleet.submit(rows)
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(640)
        until(lambda: status(fleet.client).in_flight == 0, what="the last answers")
        evening = of_daily(fleet)
        refused = [it for it in evening if it["status"] == 429]
        (hold,) = status(fleet.client).holds

        assert fleet.ended() == 640
        assert 1 <= len(refused) <= 32  # those in flight
        assert len(evening) == 40 + len(refused)
        assert hold.scope == "POST /daily"
        assert 7100 < hold.left_s < 7201
        # The other rows went on meanwhile.
        assert max(it["t_us"] for it in fleet.effects()) - refused[-1]["t_us"] > 1_000_000

        fleet.sandbox.post("config", {"limits": [APP, {**DAILY, "count": 1000}]})
        later(fleet, HELD_S)

        assert fleet.wait() == {"succeeded": 660}
        morning = of_daily(fleet)[len(evening) :]
        assert [it["status"] for it in morning] == [201] * 20
        assert {it["key"] for it in refused} <= {it["key"] for it in morning}
        assert {it.attempts for it in fleet.transactions().values()} == {0}
        check_all(fleet)
