"""Rows that fail for ever, and refused tokens, on real workers: whose failure is it?

What one row gets is its own failure, what all get is the provider's or the client's. The long
form, with figures, is tests/chaos/chaos_poison.py.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from tests.support.faults.checks import check_all
from tests.support.faults.outage import IN_A_ROW, most_probes, rows_of
from tests.support.faults.poison import BAD, mixed_rows, never, pauses, spent
from tests.support.fleet import Fleet, until

#: A few times the attempts of a row last.
PATIENT = {"outage_patience_s": 3.0}
#: Sends of one route before a worker of 16 threads stops sending there, and a few probes.
MOST = 2 * 16 + IN_A_ROW + most_probes(60)


@pytest.mark.parametrize(("good", "bad"), [(198, 2), (180, 20), (100, 100)])
def test_poison_ends_by_itself_and_no_good_row_pays_for_it(good: int, bad: int) -> None:
    with Fleet(sandbox={"faults": [never("5xx_before")]}, client=PATIENT) as fleet:
        fleet.submit(mixed_rows(good, bad))
        fleet.start_worker("w1")

        assert fleet.wait() == {"succeeded": good, "unknown": bad}

        cost = spent(fleet)
        assert cost.good_states == {"succeeded": good}
        assert cost.doubled == 0
        assert not any(tx.attempts for row, tx in fleet.transactions().items() if row[:3] != BAD)
        check_all(fleet, healthy=False)


def test_a_lone_row_that_is_never_done_is_ended_by_its_patience_and_not_by_its_attempts() -> None:
    faults = [never("5xx_before")]
    with Fleet(sandbox={"faults": faults}, client={**PATIENT, "max_retries": 1}) as fleet:
        fleet.submit(rows_of("key", 1, BAD))
        fleet.start_worker("w1")

        assert fleet.wait() == {"unknown": 1}

        assert spent(fleet).bad_sends > 2
        check_all(fleet, healthy=False)


def test_a_route_all_of_whose_rows_fail_waits_beyond_their_patience() -> None:
    slow = [{"name": "app", "count": 50}]
    with Fleet(slow, client={"outage_patience_s": 2.0}) as fleet:
        broken = rows_of("key", 60, BAD)
        for row in broken:
            row["steps"][0]["path"] = "/broken"
        fleet.sandbox.post("faults", [{"kind": "5xx_before", "match": "POST /broken"}])
        fleet.submit(broken, job="broken")
        fleet.submit(rows_of("key", 300))  # which takes longer than the patience
        fleet.start_worker("w1")

        assert fleet.wait() == {"succeeded": 300}
        assert fleet.ended("broken") == 0

        fleet.sandbox.post("faults", [])
        assert fleet.wait("broken") == {"succeeded": 60}
        check_all(fleet, "job", "broken")


@pytest.mark.parametrize("kind", ["401", "403"])
def test_one_row_that_is_always_refused_fails_by_its_name_and_holds_no_other(kind: str) -> None:
    with Fleet(sandbox={"faults": [never(kind)]}) as fleet:
        fleet.submit(mixed_rows(400, 1))
        fleet.start_worker("w1")
        fleet.start_worker("w2")

        assert fleet.wait(timeout_s=40) == {"succeeded": 400, "failed": 1}

        cost = spent(fleet)
        assert cost.bad_states == {"failed": 1}
        (error,) = cost.bad_errors
        assert f"the provider answered {kind}" in error
        assert cost.bad_sends <= 5  # of max_retries 3, and one more under a fresh token
        assert fleet.report()["token_requests"]["acme"] <= 3
        check_all(fleet)


@pytest.mark.parametrize("kind", ["401", "403"])
def test_a_lone_row_that_is_always_refused_fails_after_its_patience(kind: str) -> None:
    with Fleet(sandbox={"faults": [never(kind)]}, client=PATIENT) as fleet:
        fleet.submit(rows_of("key", 1, BAD))
        fleet.start_worker("w1")

        assert fleet.wait(timeout_s=40) == {"failed": 1}

        (tx,) = fleet.transactions().values()
        assert f"the provider answered {kind}" in tx.error
        check_all(fleet, healthy=False)


@pytest.mark.parametrize(
    "fault", [never("429"), never("429", retry_after=1), never("403", retry_after=1)]
)
def test_one_row_that_is_refused_as_by_a_limit_fails_by_its_name_and_holds_no_other(
    fault: dict[str, Any],
) -> None:
    with Fleet(sandbox={"faults": [fault]}, client=PATIENT) as fleet:
        fleet.submit(mixed_rows(300, 1))
        fleet.start_worker("w1")
        fleet.start_worker("w2")

        assert fleet.wait(timeout_s=60) == {"succeeded": 300, "failed": 1}

        cost = spent(fleet)
        assert cost.good_states == {"succeeded": 300}
        assert cost.bad_states == {"failed": 1}
        (error,) = cost.bad_errors
        assert f"the provider answered {fault['kind']}" in error
        assert cost.bad_sends > 2
        assert pauses(fleet) <= 4
        logs = fleet.log("w1") + fleet.log("w2")
        assert logs.count("that row alone waits") == 1
        assert "is refused" not in CliRunner(env=fleet.environment).invoke(main, ["status"]).stdout
        check_all(fleet)


@pytest.mark.parametrize("kind", ["429", "403"])
def test_a_lone_row_that_is_refused_as_by_a_limit_fails_after_its_patience(kind: str) -> None:
    with Fleet(sandbox={"faults": [never(kind, retry_after=1)]}, client=PATIENT) as fleet:
        fleet.submit(rows_of("key", 1, BAD))
        fleet.start_worker("w1")

        assert fleet.wait(timeout_s=40) == {"failed": 1}

        (tx,) = fleet.transactions().values()
        assert f"the provider answered {kind}" in tx.error
        assert tx.attempts == 0
        check_all(fleet, healthy=False)


def test_credentials_that_every_route_refuses_hold_the_client_and_end_no_row() -> None:
    with Fleet(sandbox={"faults": [{"kind": "401"}]}) as fleet:
        rows = rows_of("key", 60)
        for n, row in enumerate(rows):
            row["steps"][0]["path"] = f"/{'abc'[n % 3]}"
        fleet.submit(rows)
        fleet.start_worker("w1")
        headgate = CliRunner(env=fleet.environment)
        until(lambda: "401" in headgate.invoke(main, ["status"]).stdout, what="a hold", fleet=fleet)

        assert fleet.ended() == 0
        assert fleet.report()["token_requests"]["acme"] <= 3
        paths = Counter(entry["path"] for entry in fleet.requests() if entry["kind"] != "token")
        assert max(paths.values()) <= MOST


def test_a_403_that_is_a_limit_is_waited_for_and_is_nobodys_failure() -> None:
    faults = [{"kind": "403", "retry_after": 1, "times": 1}]
    with Fleet(client={"max_retries": 0}) as fleet:
        fleet.submit(rows_of("key", 60))
        fleet.sandbox.post("faults", faults)
        fleet.start_worker("w1")

        assert fleet.wait(timeout_s=40) == {"succeeded": 60}

        assert {tx.attempts for tx in fleet.transactions().values()} == {0}
        status = CliRunner(env=fleet.environment).invoke(main, ["status"]).stdout
        assert "grant the OAuth client" not in status + fleet.log("w1")
        check_all(fleet)


def test_an_expired_token_that_is_answered_403_is_renewed_like_any_other() -> None:
    with Fleet(sandbox={"unauthorised": "403"}) as fleet:
        fleet.submit(rows_of("key", 300))
        fleet.start_worker("w1")
        fleet.wait_for(60)
        fleet.sandbox.post("revoke")

        assert fleet.wait(timeout_s=40) == {"succeeded": 300}

        assert fleet.report()["by_status"]["403"] >= 1
        assert fleet.report()["token_requests"] == {"acme": 2}
        assert {tx.attempts for tx in fleet.transactions().values()} == {0}
        check_all(fleet)


def test_tokens_that_another_system_ends_early_are_renewed_few_times_and_somebody_is_told() -> None:
    times = 3
    with Fleet() as fleet:
        fleet.submit(rows_of("key", 600))
        fleet.start_worker("w1")
        for n in range(1, times + 1):
            fleet.wait_for(100 * n, timeout_s=60)
            fleet.sandbox.post("revoke")

        assert fleet.wait(timeout_s=60) == {"succeeded": 600}

        report = fleet.report()
        assert report["token_requests"]["acme"] <= 1 + times + 1
        assert Counter(tx.attempts for tx in fleet.transactions().values()) == {0: 600}
        status = CliRunner(env=fleet.environment).invoke(main, ["status"]).stdout
        assert re.search(r"another system|same credentials", status + fleet.log("w1"))
        check_all(fleet)
