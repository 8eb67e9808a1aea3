"""The long versions of the fault tests, with the counts and times that are promised."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest

from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, until
from tests.support.killing import GARBAGE, POISON, encoded
from workers.store.connection import connect


def rate(fleet: Fleet, seconds: float = 1.0) -> float:
    """Calls per second that end just now."""
    before, began = fleet.ended(), time.monotonic()
    time.sleep(seconds)
    return (fleet.ended() - before) / (time.monotonic() - began)


def test_after_a_flush_of_the_broker_the_rate_is_back_within_4_s() -> None:
    with Fleet(broker=True, sandbox={"latency_ms": 80}, worker={"bell_grace_s": 3.0}) as fleet:
        fleet.submit(calls(4000))
        fleet.start_worker("w1", 32)
        fleet.start_worker("w2", 32)
        fleet.wait_for(900, timeout_s=60)
        connect(f"redis://127.0.0.1:{fleet.broker_port}/1").flushall()
        time.sleep(4)
        assert rate(fleet, 2.0) >= 0.9 * 180
        fleet.kill_worker("w1")
        fleet.wait_for(2500, timeout_s=60)
        fleet.kill_worker("w2")
        assert fleet.wait(timeout_s=120) == {"succeeded": 4000}
        check_all(fleet)


def test_garbage_and_five_broker_deaths_under_load() -> None:
    with Fleet(broker=True) as fleet:
        fleet.submit(calls(5000))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(200)
        pids = fleet.worker_pid("w1"), fleet.worker_pid("w2")
        for _ in range(5):
            broker = connect(f"redis://127.0.0.1:{fleet.broker_port}/1")
            broker.lpush(
                "headgate.calls", *(encoded(it) for it in (list(GARBAGE.values()) * 9)[:200])
            )
            fleet.wait_for(fleet.ended() + 150)
            fleet.kill_broker()
            time.sleep(3)
            fleet.start_broker()
            returned, ended = time.monotonic(), fleet.ended()
            fleet.wait_for(ended + 20)
            assert time.monotonic() - returned < 6
        assert fleet.wait(timeout_s=120) == {"succeeded": 5000}
        assert (fleet.worker_pid("w1"), fleet.worker_pid("w2")) == pids
        check_all(fleet)


def test_three_store_deaths_under_load() -> None:
    with Fleet(broker=True) as fleet:
        fleet.submit(calls(3000))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        for _ in range(3):
            fleet.wait_for(fleet.ended() + 300)
            fleet.kill_store()
            time.sleep(0.5)
            before = fleet.report()["requests"]
            time.sleep(2)
            assert fleet.report()["requests"] == before
            fleet.start_store()
            returned, ended = time.monotonic(), fleet.ended()
            fleet.wait_for(ended + 20)
            assert time.monotonic() - returned < 10
        assert fleet.wait(timeout_s=120) == {"succeeded": 3000}
        check_all(fleet)


def test_one_poisonous_row_among_500() -> None:
    with Fleet() as fleet:
        rows = calls(500)
        rows[40]["id"] = "poison"
        fleet.submit(rows)
        fleet.start_worker("w1", env=POISON)
        assert fleet.wait(timeout_s=120) == {"succeeded": 499, "unknown": 1}
        assert fleet.transactions()["poison"].crashes == 3


def test_thirty_seconds_of_429_with_retry_after_5() -> None:
    with Fleet() as fleet:
        fleet.submit(calls(2500))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(300)
        fleet.sandbox.post("storm", {"seconds": 30, "retry_after": 5})
        assert fleet.wait(timeout_s=180) == {"succeeded": 2500}
        journal = [it for it in fleet.requests() if it["method"] == "POST"]
        refused = sorted(it["t_us"] for it in journal if it["status"] == 429)
        waves = [a for a, b in pairwise([*refused, 10**18]) if b - a > 10**6]
        for last_us in waves:
            # Nothing arrives until the pause that the wave's last refusal set is over.
            soon = [it for it in journal if last_us < it["t_us"] < last_us + 4_900_000]
            assert soon == []
        end_us = refused[-1] + 5_000_000
        after = [it for it in journal if end_us <= it["t_us"] < end_us + 1_000_000]
        assert all(it["status"] != 429 for it in after)
        check_all(fleet)


def test_two_workers_of_4_threads_never_fill_the_broker() -> None:
    with Fleet(broker=True, sandbox={"latency_ms": 80}) as fleet:
        fleet.submit(calls(800))
        fleet.start_worker("w1", 4)
        fleet.start_worker("w2", 4)
        broker = connect(f"redis://127.0.0.1:{fleet.broker_port}/1")
        most = 0
        while fleet.ended() < 800:
            most = max(most, int(broker.llen("headgate.calls")))  # type: ignore[arg-type]
            time.sleep(0.005)
        assert most <= 10
        check_all(fleet)


@pytest.mark.parametrize("seed", [random.SystemRandom().randrange(10**6) for _ in range(3)])
def test_random_chaos(seed: int) -> None:
    """Whatever can be killed is killed at random; the seed in the test's name repeats it."""
    rng = random.Random(seed)
    faults = [
        {"match": "POST *", "when": {"probability": 0.02}, "kind": kind}
        for kind in ("5xx_before", "5xx_after", "drop_after", "drop_before")
    ]
    with Fleet(broker=True, sandbox={"faults": faults}, client={"max_retries": 20}) as fleet:
        fleet.submit(calls(1500, steps=2))
        for name in ("w1", "w2", "w3"):
            fleet.start_worker(name)
        fleet.wait_for(100)
        for _ in range(12):
            match rng.choice(["worker", "worker", "broker", "flush", "store", "revoke", "storm"]):
                case "worker":
                    fleet.kill_worker(rng.choice(["w1", "w2", "w3"]))
                case "broker":
                    fleet.kill_broker()
                    time.sleep(rng.random() * 2)
                    fleet.start_broker()
                case "flush":
                    connect(f"redis://127.0.0.1:{fleet.broker_port}/1").flushall()
                case "store":
                    fleet.kill_store()
                    time.sleep(rng.random() * 2)
                    fleet.start_store()
                case "revoke":
                    fleet.sandbox.post("revoke")
                case "storm":
                    fleet.sandbox.post("storm", {"seconds": 2, "retry_after": 1})
            time.sleep(rng.random() * 2)
        states = fleet.wait(timeout_s=180)
        assert states.get("succeeded", 0) >= 0.95 * 1500
        check_all(fleet)
        until(lambda: not fleet.client.store.zcard(fleet.client.keys.deadlines))
