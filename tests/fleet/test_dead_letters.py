"""Dead letters of real workers, replayed; the provider's journal is the oracle."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from orchestration.cli import main
from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls

if TYPE_CHECKING:
    from click.testing import Result

WHY = ("--reason", "the provider is mended", "--by", "maria")


def headgate(fleet: Fleet, *args: str) -> Result:
    """What `headgate ARGS` does beside the fleet."""
    return CliRunner(env=fleet.environment).invoke(main, [*args], catch_exceptions=False)


def reported(fleet: Fleet) -> list[dict[str, Any]]:
    text = headgate(fleet, "report", "job", "--format", "jsonl").stdout
    return [json.loads(line) for line in text.splitlines()]


def keys_of(fleet: Fleet, *rows: str) -> list[str]:
    keys = fleet.keys()
    return [keys[row] for row in rows or keys]


def sends(fleet: Fleet) -> Counter[str]:
    """How often each path was sent to."""
    return Counter(
        it["path"] for it in fleet.requests() if it["method"] == "POST" and it["kind"] != "token"
    )


def test_a_chain_refused_at_its_third_step_says_what_is_done_and_goes_on_there_when_replayed() -> (
    None
):
    refusal = {"match": "POST */things/3", "kind": "404", "per_business_id_times": 1}
    with Fleet(sandbox={"faults": [refusal]}) as fleet:
        fleet.submit(calls(12, steps=4))
        fleet.start_worker("w1")

        assert fleet.wait() == {"failed": 12}

        made = {it["path"] for it in fleet.effects()}
        assert made == {"/things/1", "/things/2"}
        for row in reported(fleet):
            one, two = row["done"]
            assert (one["step"], two["step"]) == ("s1", "s2")
            assert len({one["id"], two["id"]}) == 2
            assert row["error"] == (
                f"failed at step 3 of 4 (s3); done: s1 {one['id']}, s2 {two['id']}: "
                f"the provider answered 404 (not.found)"
            )
        assert len(headgate(fleet, "dead", "list").stdout.splitlines()) == 12

        fleet.start_worker("w2")
        assert headgate(fleet, "dead", "replay", *keys_of(fleet), *WHY).exit_code == 0
        assert fleet.wait() == {"succeeded": 12}

        expected = {"/things/1": 12, "/things/2": 12, "/things/3": 24, "/things/4": 12}
        assert sends(fleet) == expected
        assert len(fleet.effects()) == 48
        keys = fleet.keys()
        assert {row: it.key for row, it in fleet.transactions().items()} == keys
        assert {it["key"] for it in fleet.requests() if "key" in it} == set(keys.values())
        assert headgate(fleet, "dead", "list").stdout == ""
        check_all(fleet)


def test_without_a_guard_an_unknown_is_sent_again_only_when_somebody_has_looked() -> None:
    def only(row: str, kind: str) -> dict[str, Any]:
        when = {"business_ids": [f"{row}.1"]}
        return {"match": "POST *", "kind": kind, "when": when, "per_business_id_times": 1}

    faults = [only("r0", "drop_after"), only("r1", "drop_before")]
    with Fleet(sandbox={"idempotency": "off", "faults": faults}) as fleet:
        fleet.submit(calls(40, guard="none"))
        fleet.start_worker("w1")
        assert fleet.wait() == {"succeeded": 38, "unknown": 2}
        executed, lost = keys_of(fleet, "r0", "r1")

        refused = headgate(fleet, "dead", "replay", executed, lost, *WHY)

        assert (refused.exit_code, refused.stdout) == (1, "")
        assert refused.stderr.count("check at the provider first") == 2
        assert fleet.job().unknown == 2
        assert fleet.report()["requests"] == 40

        # Somebody looks at the provider: the effect of the one is there, that of the other is not.
        done = {it["business_id"] for it in fleet.effects()}
        assert {"r0.1", "r1.1"} & done == {"r0.1"}
        stated = headgate(fleet, "dead", "replay", lost, "--not-executed", *WHY)
        assert stated.exit_code == 0
        assert fleet.wait() == {"succeeded": 39, "unknown": 1}

        assert fleet.report()["requests"] == 41
        assert len(fleet.effects()) == 40
        check_all(fleet)


def test_an_unknown_that_was_executed_is_replayed_under_its_key_and_doubles_nothing() -> None:
    faults = [{"match": "POST */things/2", "kind": "5xx_after"}]
    with Fleet(
        sandbox={"faults": faults}, client={"max_retries": 1, "outage_patience_s": 2}
    ) as fleet:
        fleet.submit(calls(12, steps=2))
        fleet.start_worker("w1")
        assert fleet.wait() == {"unknown": 12}
        fleet.sandbox.post("config", {"faults": []})

        assert headgate(fleet, "dead", "replay", *keys_of(fleet), *WHY).exit_code == 0
        assert fleet.wait() == {"succeeded": 12}

        assert len(fleet.effects()) == 24
        assert fleet.report()["replays"] >= 12
        check_all(fleet)


def test_under_guard_lookup_an_unknown_is_looked_up_before_it_is_sent_again() -> None:
    lookups = {"idempotency": "none", "lookup_after_s": 0.1, "lookups": 1, "max_retries": 1}
    lookups |= {"outage_patience_s": 2}
    lost = {"match": "POST *", "when": {"every": 2}, "per_business_id_times": 1}
    faults = [
        {**lost, "kind": "drop_after"},
        {**lost, "when": {}, "kind": "drop_before"},
        {"match": "GET *", "kind": "5xx_before"},
    ]
    with Fleet(sandbox={"idempotency": "off", "faults": faults}, client=lookups) as fleet:
        fleet.submit(calls(12, guard="lookup"))
        fleet.start_worker("w1")
        assert fleet.wait() == {"unknown": 12}
        executed = len(fleet.effects())
        assert executed == 6
        fleet.sandbox.post("config", {"faults": []})

        assert headgate(fleet, "dead", "replay", *keys_of(fleet), *WHY).exit_code == 0
        assert fleet.wait() == {"succeeded": 12}

        assert sends(fleet) == {"/things/1": 18}  # what was found was not sent again
        assert len(fleet.effects()) == 12
        check_all(fleet)
