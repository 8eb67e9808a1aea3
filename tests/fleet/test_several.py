"""Steps of several calls, polls and parts, on real workers; the journal is the oracle."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, looked_up
from tests.support.killing import killed_at
from workers.ledger.identity import part_key

FAULTS = [
    {"match": "POST *", "kind": kind, "when": {"every": every}, "per_business_id_times": 1}
    for kind, every in (("drop_after", 5), ("5xx_after", 7), ("drop_before", 9))
]
#: The provider shows what was written a second later.
LAGS = {"read_lag_s": 1.0}


def in_parts(rows: int, parts: int, guard: str = "key") -> list[dict[str, Any]]:
    """Chains of three; the second step takes several calls."""
    made = calls(rows, steps=3, guard=guard)
    for row in made:
        step = row["steps"][1]
        step["parts"] = [{"name": f"{row['id']}.2.{n}"} for n in range(parts)]
        step["body"] = {"business_id": "{part.name}"}
        if guard == "lookup":
            step |= looked_up(2, "{part.name}")
    return made


def waiting_for_it(rows: int, **poll: Any) -> list[dict[str, Any]]:
    """Chains of three; the second step waits until reads show what the first one wrote."""
    made = calls(rows, steps=3)
    for row in made:
        row["steps"][0]["path"] = f"/things/{row['id']}"
        row["steps"][1] = {
            "name": "shown",
            "method": "GET",
            "path": f"/things/{row['id']}?business_id={row['id']}.1",
            "poll": {"until": [{"at": "/entities/0"}], "every_s": 0.4, "times": 20, **poll},
        }
    return made


def polls(fleet: Fleet) -> dict[str, list[int]]:
    """When each poll arrived, by what it asks for."""
    found = defaultdict[str, list[int]](list)
    for it in fleet.requests():
        if it["method"] == "GET":
            found[it["path"]].append(it["t_us"])
    return found


@pytest.mark.parametrize("guard", ["key", "upsert", "lookup"])
def test_parts_are_each_done_once_in_their_order_under_keys_of_their_own(guard: str) -> None:
    remembers = {} if guard == "key" else {"idempotency": "off"}
    looks = {"lookup_after_s": 0.1, "lookups": 2, "lookup_every_s": 0.2}
    with Fleet(sandbox={**remembers, "faults": FAULTS}, client=looks) as fleet:
        fleet.submit(in_parts(12, 4, guard))
        fleet.start_worker("w1")
        fleet.start_worker("w2")

        assert fleet.wait() == {"succeeded": 12}

        keys = fleet.keys()
        sent = defaultdict[str, list[str]](list)
        for it in fleet.requests():
            for name in (*it.get("created", ()), *it.get("repeated", ())):
                if it["path"] == "/things/2":
                    sent[name].append(it["key"])
        assert len(sent) == 48
        assert all(
            set(used) == {part_key(keys[name.partition(".")[0]], 2, int(name[-1]) + 1)}
            for name, used in sent.items()
        )
        if guard != "upsert":  # which may be written twice
            check_all(fleet)


@pytest.mark.parametrize("failpoint", ["first_byte", "answer_read", "settled"])
def test_a_worker_killed_between_parts_loses_and_doubles_none(failpoint: str) -> None:
    with Fleet(sandbox={"faults": FAULTS}) as fleet:
        fleet.submit(in_parts(12, 4))

        states = killed_at(fleet, failpoint, nth=25)

        assert states == {"succeeded": 12}
        check_all(fleet)


def test_a_row_that_stops_between_parts_says_which_are_done_and_goes_on_there() -> None:
    refusal = {"match": "POST */things/2", "kind": "404", "when": {"business_ids": ["r0.2.2"]},
               "times": 1}  # fmt: skip
    with Fleet(sandbox={"faults": [refusal]}) as fleet:
        fleet.submit(in_parts(1, 4))
        fleet.start_worker("w1")

        assert fleet.wait() == {"failed": 1}

        headgate = CliRunner(env=fleet.environment)
        row = json.loads(headgate.invoke(main, ["report", "job", "--format", "jsonl"]).stdout)
        assert row["done"][1] == {"step": "s2", "id": None, "parts": 2, "of": 4}
        assert row["error"] == (
            f"failed at step 2 of 3 (s2); done: s1 {row['done'][0]['id']}, s2 2 of 4 parts: "
            f"the provider answered 404 (not.found)"
        )
        why = ("--reason", "the list is there", "--by", "maria")
        assert headgate.invoke(main, ["dead", "replay", row["key"], *why]).exit_code == 0
        assert fleet.wait() == {"succeeded": 1}
        sends = Counter(it["path"] for it in fleet.requests() if it["kind"] != "token")
        assert sends == {"/things/1": 1, "/things/2": 5, "/things/3": 1}
        check_all(fleet)


def test_a_single_call_that_stops_between_parts_says_how_many_are_done() -> None:
    (row,) = in_parts(1, 3)
    row["steps"] = [{**row["steps"][1], "name": "call"}]
    refusal = {"match": "POST *", "kind": "404", "when": {"business_ids": ["r0.2.1"]}}
    with Fleet(sandbox={"faults": [refusal]}) as fleet:
        fleet.submit([row])
        fleet.start_worker("w1")

        assert fleet.wait() == {"failed": 1}

        headgate = CliRunner(env=fleet.environment)
        told = json.loads(headgate.invoke(main, ["report", "job", "--format", "jsonl"]).stdout)
        assert told["error"] == (
            "failed; done: 1 of 3 parts: the provider answered 404 (not.found)"
        )


def test_polls_are_governed_and_spaced_and_the_chain_goes_on_when_it_is_ready() -> None:
    with Fleet(sandbox=LAGS) as fleet:
        fleet.submit(waiting_for_it(20))
        fleet.start_worker("w1")

        assert fleet.wait() == {"succeeded": 20}

        asked = polls(fleet)
        assert len(asked) == 20
        assert all(2 <= len(moments) <= 4 for moments in asked.values())
        gaps = [later - one for moments in asked.values() for one, later in pairwise(moments)]
        assert min(gaps) >= 400_000
        assert all("key" not in it for it in fleet.requests() if it["method"] == "GET")
        check_all(fleet)


def test_a_poll_that_is_never_ready_fails_after_as_many_as_it_says_and_is_replayed_whole() -> None:
    with Fleet(sandbox={"read_lag_s": 3600}) as fleet:
        fleet.submit(waiting_for_it(1, every_s=0.05, times=3))
        fleet.start_worker("w1")

        assert fleet.wait() == {"failed": 1}

        assert [len(it) for it in polls(fleet).values()] == [3]
        (it,) = fleet.transactions().values()
        assert it.error == "it was not ready at the last of 3 polls: the provider answered 200"
        headgate = CliRunner(env=fleet.environment)
        why = ("--reason", "once more", "--by", "maria")
        assert headgate.invoke(main, ["dead", "replay", it.key, *why]).exit_code == 0
        assert fleet.wait() == {"failed": 1}
        assert [len(it) for it in polls(fleet).values()] == [6]
        check_all(fleet, healthy=False)


def test_a_poll_outlives_an_outage_that_is_longer_than_its_attempts() -> None:
    outage = {"match": "GET *", "kind": "5xx_before", "times": 8}
    with Fleet(sandbox={"faults": [outage]}, client={"max_retries": 1}) as fleet:
        fleet.submit(waiting_for_it(1, every_s=0.1))
        fleet.start_worker("w1")

        assert fleet.wait() == {"succeeded": 1}

        assert [len(it) for it in polls(fleet).values()] == [9]
        check_all(fleet)


def test_a_poll_that_the_provider_answers_with_failed_ends_at_once() -> None:
    with Fleet(sandbox=LAGS) as fleet:
        fleet.submit(waiting_for_it(1, failed=[{"equals": {"/total": 0}}]))
        fleet.start_worker("w1")

        assert fleet.wait() == {"failed": 1}

        (it,) = fleet.transactions().values()
        assert it.error == "the provider says that it failed"
        assert [len(it) for it in polls(fleet).values()] == [1]
        check_all(fleet, healthy=False)


def test_a_poll_goes_on_after_5xx_after_answers_that_do_not_come_and_after_a_death() -> None:
    faults = [
        {"match": "GET *", "kind": "5xx_before", "when": {"every": 4}},
        {"match": "GET *", "kind": "drop_before", "when": {"every": 7}},
    ]
    with Fleet(sandbox={**LAGS, "faults": faults}, client={"max_retries": 20}) as fleet:
        fleet.submit(waiting_for_it(12))

        states = killed_at(fleet, "answer_read", nth=20)

        assert states == {"succeeded": 12}
        check_all(fleet)
