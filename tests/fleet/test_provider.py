"""The provider misbehaves: refused tokens, storms of 429, lost answers. Real workers, real HTTP."""

from __future__ import annotations

import re
import socket
from itertools import pairwise

from orchestration.views.status import status
from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, until
from workers.governor.registry import Registry
from workers.governor.state import GovernorState
from workers.store.connection import connect


def test_a_revoked_token_is_renewed_once_for_the_fleet_and_spends_no_attempt() -> None:
    with Fleet() as fleet:
        fleet.submit(calls(600))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(150)
        fleet.sandbox.post("revoke")

        assert fleet.wait() == {"succeeded": 600}

        assert fleet.report()["token_requests"] == {"acme": 2}
        assert fleet.report()["by_status"]["401"] >= 1
        assert {tx.attempts for tx in fleet.transactions().values()} == {0}
        check_all(fleet)


def test_a_storm_of_429_pauses_the_fleet_and_ends_paced() -> None:
    with Fleet() as fleet:
        fleet.submit(calls(900))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(200)
        fleet.sandbox.post("storm", {"seconds": 3, "retry_after": 2})

        assert fleet.wait() == {"succeeded": 900}

        journal = [it for it in fleet.requests() if it["method"] == "POST"]
        refused = [it["t_us"] for it in journal if it["status"] == 429]
        # Each wave of refusals is what was in flight when its pause was set, and no more.
        assert 1 <= len(refused) <= 3 * 32
        quiet_us = [b - a for a, b in pairwise(refused) if b - a > 1_000_000]
        assert all(gap >= 2_000_000 for gap in quiet_us)
        end_us = max(refused) + 2_000_000
        first_second = [it for it in journal if end_us <= it["t_us"] < end_us + 1_000_000]
        assert len(first_second) <= 185  # from empty: the rate, and no burst on top
        assert {tx.attempts for tx in fleet.transactions().values()} == {0}
        assert sum(tx.throttled for tx in fleet.transactions().values()) == len(refused)
        check_all(fleet)


def test_lost_answers_are_sent_again_under_their_key_and_double_nothing() -> None:
    faults = [
        {"match": "POST *", "when": {"every": 5}, "times": 20, "kind": "drop_after"},
        {"match": "POST *", "when": {"every": 7}, "times": 20, "kind": "5xx_after"},
        {"match": "POST *", "when": {"every": 9}, "times": 5, "kind": "hang", "hang_s": 3},
        {"match": "POST *", "when": {"every": 11}, "times": 10, "kind": "drop_before"},
    ]
    # One row may meet more than three of these faults.
    with Fleet(sandbox={"faults": faults}, client={"max_retries": 10}) as fleet:
        fleet.submit(calls(250))
        fleet.start_worker("w1")

        assert fleet.wait() == {"succeeded": 250}

        assert fleet.report()["replays"] >= 20
        check_all(fleet)


def test_without_a_guard_a_lost_answer_ends_unknown_and_is_never_sent_again() -> None:
    faults = [
        {"match": "POST *", "when": {"every": 5}, "times": 10, "kind": "drop_after"},
        {"match": "POST *", "when": {"every": 7}, "times": 10, "kind": "5xx_before"},
    ]
    with Fleet(sandbox={"faults": faults, "idempotency": "off"}) as fleet:
        fleet.submit(calls(150, guard="none"))
        fleet.start_worker("w1")

        states = fleet.wait()

        assert states == {"succeeded": 130, "unknown": 20}
        assert fleet.report()["requests"] == 150
        check_all(fleet, healthy=False)


def test_a_refusal_is_final_and_a_provider_that_stays_broken_ends_in_failed_or_unknown() -> None:
    faults = [
        {"match": "POST *", "when": {"business_ids": ["r3.1"]}, "kind": "400"},
        {"match": "POST *", "when": {"business_ids": ["r4.1"]}, "kind": "5xx_before"},
    ]
    with Fleet(sandbox={"faults": faults}) as fleet:
        fleet.submit(calls(10, steps=2))
        fleet.start_worker("w1")

        assert fleet.wait() == {"succeeded": 8, "failed": 1, "unknown": 1}

        transactions = fleet.transactions()
        assert (transactions["r3"].state, transactions["r3"].status) == ("failed", 400)
        assert (transactions["r4"].state, transactions["r4"].attempts) == ("unknown", 4)
        check_all(fleet, healthy=False)


def test_a_provider_that_cannot_be_reached_holds_its_rows_and_spends_nothing() -> None:
    with Fleet(client={"base_url": "http://127.0.0.1:9"}) as fleet:
        fleet.submit(calls(20))
        fleet.start_worker("w1")
        store, keys = fleet.client.store, fleet.client.keys
        until(lambda: GovernorState.read(store, keys).open_breakers, what="an open breaker")

        (failure,) = status(fleet.client).failures
        assert "refused" in failure.why
        assert fleet.ended() == 0
        assert all(tx.attempts == 0 for tx in fleet.transactions().values())
        assert all(tx.first_sent_us is None for tx in fleet.transactions().values())


def test_a_token_endpoint_that_hangs_fills_no_queue_and_says_why_nothing_leaves() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/oauth/token"
        slow = {"token_url": url, "connect_timeout_s": 5.0, "read_timeout_s": 30.0}
        slow["total_timeout_s"] = 60.0
        with Fleet(client=slow, broker=True) as fleet:
            fleet.submit(calls(200))
            fleet.start_worker("w1", concurrency=4)
            broker = connect(f"redis://127.0.0.1:{fleet.broker_port}/1")
            until(
                lambda: "no access token came" in str(status(fleet.client).problems),
                what="the reason in the status",
            )
            published, registry = 0, Registry(fleet.client.store, fleet.client.keys.namespace)
            for _ in range(3):  # heartbeats of a worker that looks again for a token
                (beat,) = [one.at_us for one in registry.look().live.values()]
                until(
                    lambda beat=beat: beat not in [it.at_us for it in registry.look().live.values()]
                )
                published = max(published, int(broker.llen("headgate.calls")))

            assert published <= 5  # 1.25 x threads
            assert "no access token came" in str(status(fleet.client).problems)
            assert "no access token came" in fleet.log("w1")


def test_a_401_without_a_token_ends_the_row_and_says_what_is_missing() -> None:
    with Fleet() as fleet:
        text = fleet.config.read_text()
        fleet.config.write_text(re.sub(r"token_url = .*\n", "", text))
        fleet.submit(calls(3))
        fleet.start_worker("w1")

        assert fleet.wait() == {"failed": 3}
        errors = {it.error for it in fleet.transactions().values()}
        assert errors == {
            "the provider answered 401 (bad.credentials): it wants an access token, set token_url"
        }
        assert fleet.report()["requests"] == 3
