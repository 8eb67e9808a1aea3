"""Two workers, a store and a broker: what may happen to them loses nothing and doubles nothing.

Each case runs on processes of this machine and, where a Docker engine answers, on containers of the
product's own image. With REQUIRE_DOCKER=1 it fails without one. The longer cases, and those of what
only processes show, are in tests/fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.faults.checks import check_all
from tests.support.fleet import calls, until
from workers.governor.registry import Registry

if TYPE_CHECKING:
    from tests.support.any_fleet import AnyFleet

ROWS = 300


def workers_alive(fleet: AnyFleet) -> int:
    """How many workers there are, whether they have work or not."""
    return len(Registry(fleet.client.store, fleet.client.keys.namespace).look().live)


def assert_whole(fleet: AnyFleet, **jobs: int) -> None:
    """Every row is done, once, and nothing was refused: so say the journal and the ledger.

    Args:
        fleet: What ran.
        jobs: The rows of each job; none named: its only one.
    """
    jobs = jobs or {"job": ROWS}
    for job, rows in jobs.items():
        assert fleet.wait(job) == {"succeeded": rows}
    report = fleet.report()
    seen = report["effects"], report["duplicates"], report["refused_429"]
    assert seen == (sum(jobs.values()), 0, 0)
    check_all(fleet, *jobs)


def test_a_job_runs_to_its_end_on_two_workers(fleet: AnyFleet) -> None:
    until(lambda: workers_alive(fleet) == 2, what="two workers")

    fleet.submit(calls(ROWS))

    assert_whole(fleet)


def test_a_worker_that_is_killed_loses_and_doubles_nothing(fleet: AnyFleet) -> None:
    fleet.submit(calls(ROWS))
    fleet.wait_for(60)

    fleet.kill_worker("w1")

    assert_whole(fleet)


def test_a_broker_that_is_started_anew_loses_and_doubles_nothing(fleet: AnyFleet) -> None:
    fleet.submit(calls(ROWS))
    fleet.wait_for(60)

    fleet.kill_broker()
    fleet.start_broker()

    assert_whole(fleet)


def test_a_store_that_is_started_anew_loses_and_doubles_nothing(fleet: AnyFleet) -> None:
    fleet.submit(calls(ROWS))
    fleet.wait_for(60)

    fleet.kill_store()
    fleet.start_store()

    assert_whole(fleet)


def test_a_worker_that_comes_later_goes_on_alone_when_the_others_go(fleet: AnyFleet) -> None:
    fleet.submit(calls(ROWS))
    fleet.wait_for(60)

    fleet.start_worker("w3")
    until(lambda: workers_alive(fleet) == 3, what="a third worker")
    assert (fleet.stop_worker("w1"), fleet.stop_worker("w2")) == (0, 0)
    fleet.submit(calls(60, prefix="alone"), job="alone")

    assert_whole(fleet, job=ROWS, alone=60)


def test_sigterm_lets_running_calls_end_and_none_is_sent_again(fleet: AnyFleet) -> None:
    fleet.submit(calls(ROWS))
    fleet.wait_for(60)

    assert fleet.stop_worker("w1") == 0

    assert_whole(fleet)
    sent = [it for it in fleet.requests() if it["kind"] != "token"]
    assert len(sent) == ROWS
