"""Processes die, freeze and lose their store or broker under load; every transaction ends once."""

from __future__ import annotations

import signal
import time

from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, until
from tests.support.killing import POISON
from workers.store.connection import connect


def test_each_worker_killed_once_and_the_broker_flushed_loses_and_doubles_nothing() -> None:
    with Fleet(broker=True) as fleet:
        fleet.submit(calls(900))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(150)
        fleet.kill_worker("w1")
        fleet.wait_for(350)
        connect(f"redis://127.0.0.1:{fleet.broker_port}/1").flushall()
        fleet.wait_for(500)
        fleet.kill_worker("w2")

        assert fleet.wait() == {"succeeded": 900}

        check_all(fleet)


def test_a_broker_that_dies_again_and_again_ends_no_worker_and_loses_nothing() -> None:
    with Fleet(broker=True) as fleet:
        fleet.submit(calls(900))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(100)
        pids = fleet.worker_pid("w1"), fleet.worker_pid("w2")
        for _ in range(2):
            fleet.kill_broker()
            time.sleep(1.0)  # the broker is away
            fleet.start_broker()
            fleet.wait_for(fleet.ended() + 100)

        assert fleet.wait() == {"succeeded": 900}

        assert (fleet.worker_pid("w1"), fleet.worker_pid("w2")) == pids
        check_all(fleet)


def test_a_store_that_dies_stops_every_send_and_loses_nothing() -> None:
    with Fleet(broker=True) as fleet:
        fleet.submit(calls(700))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        for _ in range(2):
            fleet.wait_for(fleet.ended() + 100)
            fleet.kill_store()
            time.sleep(0.3)  # what was granted before is on its way
            before = fleet.report()["requests"]
            time.sleep(1.0)  # the store is away
            assert fleet.report()["requests"] == before
            fleet.start_store()

        assert fleet.wait() == {"succeeded": 700}

        check_all(fleet)


def test_a_worker_frozen_past_its_lease_settles_nothing_and_doubles_nothing() -> None:
    with Fleet(sandbox={"latency_ms": 200}) as fleet:
        fleet.submit(calls(200))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(60)
        fleet.kill_worker("w1", signal.SIGSTOP)
        until(lambda: "leases expired" in fleet.log("w2"), what="the take-over")
        fleet.wait_for(150)
        fleet.kill_worker("w1", signal.SIGCONT)

        assert fleet.wait() == {"succeeded": 200}

        check_all(fleet)


def test_a_row_that_kills_its_worker_is_a_dead_letter_and_its_neighbours_succeed() -> None:
    with Fleet() as fleet:
        rows = calls(150)
        rows[20]["id"] = "poison"
        fleet.submit(rows)
        fleet.start_worker("w1", env=POISON)

        assert fleet.wait() == {"succeeded": 149, "unknown": 1}

        poison = fleet.transactions()["poison"]
        assert (poison.state, poison.crashes) == ("unknown", 3)
        [(_, letter)] = fleet.client.store.xrange(fleet.client.keys.dead)
        assert letter["key"] == poison.key
