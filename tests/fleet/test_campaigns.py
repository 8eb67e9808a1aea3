"""Campaigns on real workers, from their files to the start; the provider honours no key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.campaigns import (
    KEYLESS,
    STRICT,
    at_provider,
    children,
    definition,
    queued,
    run,
    submit,
    write,
)
from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, until
from tests.support.journal import only_known_operations

if TYPE_CHECKING:
    from collections.abc import Iterable

THREE = [definition(name) for name in ("may", "june", "july")]


def a_fleet(faults: Iterable[dict[str, Any]] = (), **sandbox: Any) -> Fleet:
    return Fleet(sandbox={**STRICT, "faults": list(faults), **sandbox}, client=KEYLESS)


def made(fleet: Fleet) -> list[str]:
    """What was made and started of lists and campaigns: method and path, ids left out."""
    its = [it for it in at_provider(fleet, "contactlists") if not it["path"].endswith("/contacts")]
    its += at_provider(fleet, "campaigns")
    return sorted("start" if it["path"].endswith("/start") else it["path"] for it in its)


MADE = ["/api/v2/outbound/campaigns", "/api/v2/outbound/contactlists", "start"]


def test_three_campaigns_run_from_their_files_to_the_start() -> None:
    with a_fleet() as fleet:
        job = submit(fleet, write(fleet, THREE, 200))["job"]
        fleet.start_worker("w1")

        assert fleet.wait(job) == {"succeeded": 3}

        its = children(fleet, job)
        assert [fleet.job(it).succeeded for it in its.values()] == [200] * 3
        assert made(fleet) == sorted(MADE * 3)
        assert len(queued(fleet)) == len(set(queued(fleet))) == 600
        lines = run(fleet, "report", job).stdout
        for child in its.values():
            assert f"load {child}: 200 of 200, create_campaign " in lines
        check_all(fleet, job, *its.values())
        progress = run(fleet, "campaign", "progress", job)
        assert progress.exit_code == 0
        assert progress.stdout.count("0 of 200 contacts called, 0 %") == 3
        one = run(fleet, "campaign", "stop", job, "--row", "may", "--json")
        assert (one.exit_code, json.loads(one.stdout)[0]["words"]) == (0, "stopping")
        stopped = run(fleet, "campaign", "stop", job)
        assert stopped.exit_code == 0
        assert [line.split()[-1] for line in stopped.stdout.splitlines()] == [
            "off",
            "stopping",
            "stopping",
        ]
        assert only_known_operations(fleet.requests()) == []


#: Each step of the chain, by the failpoint at which the worker dies and the calls before it.
STEPS = ["create_list", "load", "create_campaign", "start"]
DEATHS = [("admitted", 1), ("answer_read", 1), ("settled", 1), ("released", 1), ("released", 2)]


@pytest.mark.parametrize(("failpoint", "nth"), DEATHS)
def test_a_worker_that_dies_in_the_first_steps_makes_nothing_twice(
    failpoint: str, nth: int
) -> None:
    with a_fleet() as fleet:
        job = submit(fleet, write(fleet, THREE[:1], 20))["job"]
        died = fleet.folder / "died"
        env = {
            "HEADGATE_FAILPOINT": f"{failpoint}:kill:{nth}",
            "HEADGATE_FAILPOINT_ONCE": str(died),
        }
        fleet.start_worker("w1", env=env)

        assert fleet.wait(job) == {"succeeded": 1}

        assert died.exists()
        (child,) = children(fleet, job).values()
        assert made(fleet) == MADE
        assert len(queued(fleet)) == len(set(queued(fleet))) == 20
        check_all(fleet, job, child)


@pytest.mark.parametrize("failpoint", ["admitted", "first_byte", "answer_read", "settled"])
@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_dies_at_any_step_resumes_there_and_makes_nothing_twice(
    step: str, failpoint: str
) -> None:
    """The contacts are few and have all ended before: each step is one call more."""
    if (step, failpoint) == ("load", "first_byte"):
        pytest.skip("it makes no call")
    with a_fleet() as fleet:
        job = submit(fleet, write(fleet, THREE[:1], 1))["job"]
        # Before the step: list, load (released, looked at once more), the contact, the campaign.
        died = fleet.folder / "died"
        env = {
            "HEADGATE_FAILPOINT": f"{failpoint}:kill:{_nth(step, failpoint)}",
            "HEADGATE_FAILPOINT_ONCE": str(died),
        }
        fleet.start_worker("w1", env=env)

        assert fleet.wait(job) == {"succeeded": 1}

        assert died.exists()
        (child,) = children(fleet, job).values()
        assert made(fleet) == MADE
        assert queued(fleet) == ["may-0"]
        check_all(fleet, job, child)


def _nth(step: str, failpoint: str) -> int:
    """The how-manieth time a failpoint is passed at this step: the contact's call comes between."""
    calls = {"create_list": 1, "load": 2, "create_campaign": 3, "start": 4}
    looks = {"create_list": 1, "load": 2, "create_campaign": 5, "start": 6}
    return (calls if failpoint == "first_byte" else looks)[step]


def test_a_file_that_is_submitted_again_makes_nothing_again() -> None:
    with a_fleet() as fleet:
        file = write(fleet, THREE, 20)
        job = submit(fleet, file)["job"]
        fleet.start_worker("w1")
        fleet.wait(job)

        again = submit(fleet, file)

        assert (again["job"], again["new"]) == (job, False)
        assert made(fleet) == sorted(MADE * 3)


def test_without_start_the_campaign_is_made_and_stays_off() -> None:
    with a_fleet() as fleet:
        job = submit(fleet, write(fleet, THREE[:1], 20), "--no-start")["job"]
        fleet.start_worker("w1")

        assert fleet.wait(job) == {"succeeded": 1}

        assert made(fleet) == MADE[:2]
        stopped = run(fleet, "campaign", "stop", job)
        assert stopped.stdout.split()[-2:] == ["already", "off"]
        check_all(fleet, job, *children(fleet, job).values())


#: Two contacts that the provider refuses as long as it says so.
REFUSED = {
    "match": "POST */contacts",
    "kind": "400",
    "when": {"business_ids": ["may-3", "may-7"]},
}


def test_contacts_that_fail_stop_the_campaign_before_it_is_made_until_they_are_replayed() -> None:
    with a_fleet([REFUSED]) as fleet:
        job = submit(fleet, write(fleet, THREE[:1], 20))["job"]
        fleet.start_worker("w1")

        assert fleet.wait(job) == {"failed": 1}

        (child,) = children(fleet, job).values()
        assert made(fleet) == MADE[1:2]
        line = json.loads(run(fleet, "report", job, "--format", "jsonl").stdout)
        assert line["error"].startswith("failed at step 2 of 4 (load); done: create_list ")
        assert line["error"].endswith(
            f": job {child} loaded 18 of 20 contacts (2 failed, may_fail is 0); see `headgate dead "
            f"list`, replay its contacts, then this campaign"
        )
        fleet.sandbox.post("config", {"faults": []})
        letters = json.loads(run(fleet, "dead", "list", "--json").stdout)["letters"]
        contacts = [it["key"] for it in letters if it["job"] == child]
        campaign = [it["key"] for it in letters if it["job"] == job]
        why = ("--reason", "the provider takes them now")
        assert run(fleet, "dead", "replay", *contacts, *why).exit_code == 0
        assert run(fleet, "dead", "replay", *campaign, *why).exit_code == 0
        assert fleet.wait(job) == {"succeeded": 1}
        assert fleet.wait(child) == {"succeeded": 20}
        assert made(fleet) == MADE
        check_all(fleet, job, child, healthy=False)  # two sends in ten were refused at first


def test_as_many_as_may_fail_do_not_hold_the_campaign() -> None:
    with a_fleet([REFUSED]) as fleet:
        job = submit(fleet, write(fleet, [definition("may", may_fail=2)], 20))["job"]
        fleet.start_worker("w1")

        assert fleet.wait(job) == {"succeeded": 1}

        (child,) = children(fleet, job).values()
        assert f"load {child}: 18 of 20, create_campaign " in run(fleet, "report", job).stdout
        assert made(fleet) == MADE


def test_without_any_contact_no_campaign_is_made_whatever_may_fail() -> None:
    with a_fleet([{"match": "POST */contacts", "kind": "400"}]) as fleet:
        job = submit(fleet, write(fleet, [definition("may", may_fail=99)], 3))["job"]
        fleet.start_worker("w1")

        assert fleet.wait(job) == {"failed": 1}

        assert made(fleet) == MADE[1:2]
        assert "loaded 0 of 3 contacts (3 failed); see `headgate dead list`" in (
            run(fleet, "report", job).stdout
        )


def test_faults_at_every_step_double_nothing_and_lose_nothing() -> None:
    def lost(kind: str, every: int) -> dict[str, Any]:
        once = {"when": {"every": every}, "per_business_id_times": 1}
        return {"match": "POST /api/*", "kind": kind, **once}

    faults = [lost("drop_after", 5), lost("5xx_after", 7), lost("5xx_before", 11)]
    faults.append({**lost("401", 9), "times": 1})  # twice to fresh tokens, and the client is held
    with a_fleet(faults, read_lag_s=0.5) as fleet:
        rows = [definition(f"c{n}") for n in range(8)]
        job = submit(fleet, write(fleet, rows, 40))["job"]
        fleet.start_worker("w1")
        fleet.start_worker("w2")

        assert fleet.wait(job) == {"succeeded": 8}

        assert made(fleet) == sorted(MADE * 8)
        assert len(queued(fleet)) == len(set(queued(fleet))) == 320
        assert only_known_operations(fleet.requests()) == []
        check_all(fleet, job, *children(fleet, job).values())


def test_while_its_contacts_load_the_report_tells_how_far_they_are() -> None:
    with a_fleet([{"match": "POST */contacts", "kind": "429", "retry_after": 60}]) as fleet:
        job = submit(fleet, write(fleet, THREE[:1], 20))["job"]
        (child,) = children(fleet, job).values()
        fleet.start_worker("w1")
        until(lambda: fleet.job(child).started, what="the release", fleet=fleet)

        assert f"load {child}: 0 of 20" in run(fleet, "report", job).stdout
        assert run(fleet, "campaign", "progress", job).stdout.endswith("not made yet\n")
        stopped = run(fleet, "campaign", "stop", job)
        assert stopped.exit_code == 1
        assert "not made yet: its row is waiting, and goes on" in stopped.stdout
