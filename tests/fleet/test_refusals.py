"""Calls of real workers that the sandbox refuses: what is recorded and what it suggests."""

from __future__ import annotations

from orchestration.operate import limits as operate_limits
from orchestration.views.status import status
from tests.support.fleet import Fleet, until
from workers.governor import refusals
from workers.governor.refusals import rules_of


def test_refusals_after_a_live_change_are_recorded_under_the_limits_of_now() -> None:
    hidden = {"name": "h", "count": 1, "window_s": 1, "shape": "fixed_window"}
    rows = [
        {"line": n, "id": f"r{n}", "steps": [{"name": "s", "method": "POST", "path": "/a"}]}
        for n in range(100)
    ]
    with Fleet(limits=[{"name": "app", "count": 100}], sandbox={"limits": [hidden]}) as fleet:

        def seen(rules: str) -> bool:
            found = refusals.read(fleet.client.store, fleet.client.keys, 0)
            return any(it.rules == rules for it in found)

        fleet.submit(rows)  # one page: nothing else makes the worker look at the limits again
        fleet.start_worker("w1")
        before = rules_of(fleet.client.look()[1].limits)
        until(lambda: seen(before), what="a refusal", fleet=fleet)

        operate_limits.set_limit(fleet.client, "app", {"count": 90}, by="maria", reason="less")

        after = rules_of(fleet.client.look()[1].limits)
        assert after != before
        until(lambda: seen(after), what="a refusal under the new limits", fleet=fleet)


def test_a_limit_that_the_provider_has_and_we_do_not_know_is_suggested() -> None:
    app = {"name": "app", "count": 100}
    hidden = {"name": "h", "count": 5, "window_s": 1, "shape": "fixed_window", "match": "*/prompts"}
    there = [{"window_s": 1, "shape": "bucket", **app}, hidden]
    paths = ("/prompts", "/recordings", "/recordings", "/recordings")
    rows = [
        {
            "line": n + 1,
            "id": f"r{n}",
            "steps": [{"name": "s", "method": "POST", "path": path}],
        }
        for n, path in enumerate(paths * 100)
    ]
    with Fleet(limits=[app], sandbox={"limits": there}) as fleet:
        fleet.submit(rows)
        fleet.start_worker("w1")
        until(lambda: status(fleet.client).suggestions, what="a suggestion", fleet=fleet)
        it = status(fleet.client)

    (said,) = it.suggestions
    assert said.startswith("POST /prompts is refused at about ")
    assert "add a limit for it" in said
    assert [one.route for one in it.refused] == ["POST /prompts"]
