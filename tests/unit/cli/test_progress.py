from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from orchestration.views.progress import RATE_S, Progress, all_jobs, follow, snapshot
from tests.conftest import free_port
from tests.support.world import DONE, FAILED, World
from workers.errors import InputError, StoreAway
from workers.store.connection import connect

BAD = {"line": 99, "error": "there are 4 cells for 5 columns"}


def test_each_row_is_counted_once_whether_it_ended_is_in_flight_or_waits(world: World) -> None:
    world.submit(4, more=[BAD])
    ended, sent, _ = world.bells(3)  # a bell alone is no call
    world.client.governor().settle(world.admit(ended), FAILED)
    world.admit(sent)

    it = snapshot(world.client, "j1")

    assert (it.state, it.rows) == ("running", 5)
    assert {word: count for word, count in it.counts.items() if count} == {
        "failed": 1,
        "rejected": 1,
    }
    assert (it.in_flight, it.waiting) == (1, 2)


def test_what_another_job_has_in_flight_is_not_counted(world: World) -> None:
    world.submit(1, "other")
    world.admit(*world.bells(1))
    world.submit(1)

    assert snapshot(world.client, "j1").in_flight == 0
    assert snapshot(world.client, "other").in_flight == 1


def test_a_job_is_being_accepted_then_runs_then_is_finished(world: World) -> None:
    world.accept(2)
    states = [snapshot(world.client, "j1").state]
    world.client.ledger.start("j1")
    world.submit(0)  # opens its page
    states.append(snapshot(world.client, "j1").state)
    world.work()
    last = snapshot(world.client, "j1")

    assert [*states, last.state] == ["accepting", "running", "finished"]
    assert last.all_succeeded
    assert last.finished_us is not None
    assert last.finished_us > last.started_us


def test_the_rate_is_what_ended_between_two_looks_rejected_rows_apart(world: World) -> None:
    world.submit(6, more=[BAD])
    before = snapshot(world.client, "j1")
    for bell in world.bells(3):
        world.client.governor().settle(world.admit(bell), FAILED)

    now = snapshot(world.client, "j1", before)

    assert before.rate_per_s is None
    assert before.eta_s is None
    assert now.rate_per_s is not None
    assert now.rate_per_s * (now.at_us - before.at_us) / 1e6 == pytest.approx(3)
    assert now.eta_s == pytest.approx(3 / now.rate_per_s)


def test_following_ends_with_the_finished_job_and_its_rate_on_the_whole(world: World) -> None:
    world.submit(3)

    looks = list(follow(world.client, "j1", wait=lambda _: world.work()))

    assert [it.state for it in looks] == ["running", "finished"]
    last = looks[-1]
    assert last.finished_us is not None
    assert last.eta_s == 0.0
    assert last.rate_per_s == pytest.approx(3e6 / (last.finished_us - last.started_us), rel=0.2)


def test_the_rate_forgets_what_was_seconds_ago(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit(1)
    seen: list[Progress | None] = []
    second = iter(range(100))

    def look(_: Any, __: str, before: Progress | None) -> Progress:
        seen.append(before)
        now = next(second)
        it = snapshot(world.client, "j1")
        state = "finished" if now == 9 else "running"
        return dataclasses.replace(it, at_us=now * 1_000_000, state=state)

    monkeypatch.setattr("orchestration.views.progress.snapshot", look)
    list(follow(world.client, "j1", wait=lambda _: None))

    ages = [now - it.at_us / 1e6 for now, it in enumerate(seen) if it]
    assert max(ages) == RATE_S
    assert ages[:3] == [1, 2, 3]


def test_a_job_that_is_not_there_is_an_input_error(world: World) -> None:
    with pytest.raises(InputError, match="'nope'"):
        snapshot(world.client, "nope")


def test_jobs_come_newest_first_with_their_counts(world: World) -> None:
    for job in ("a", "b", "c"):
        world.submit(1, job)
    world.work(FAILED)

    assert [it.job for it in all_jobs(world.client)] == ["c", "b", "a"]
    found = json.loads(world.run("jobs", "--json").stdout)
    assert [(it["job"], it["client"], it["failed"]) for it in found] == [
        ("c", "acme", 1),
        ("b", "acme", 1),
        ("a", "acme", 1),
    ]
    text = world.run("jobs").stdout.splitlines()
    assert text[0] == "client acme"
    assert [line.split()[0] for line in text[1:]] == ["c", "b", "a"]


def test_no_jobs_are_an_empty_list_and_a_hint(world: World) -> None:
    assert json.loads(world.run("jobs", "--json").stdout) == []
    assert "submit one" in world.run("jobs").stderr


@pytest.mark.parametrize(
    ("verdict", "more", "code"), [(DONE, [], 0), (FAILED, [], 1), (DONE, [BAD], 1)]
)
def test_watch_exits_0_only_when_all_succeeded(
    world: World, verdict: Any, more: list[Any], code: int
) -> None:
    world.submit(2, more=more)
    world.work(verdict)

    result = world.run("watch", "j1")

    assert result.exit_code == code
    assert result.stdout.startswith("j1  finished  ")


def test_watch_exits_2_for_a_job_that_nobody_knows(world: World) -> None:
    result = world.run("watch", "nope")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


def test_watch_prints_one_json_object_a_look_for_programs(world: World) -> None:
    world.submit(2, more=[BAD])
    world.work()

    (line,) = world.run("watch", "j1", "--json").stdout.splitlines()

    it = json.loads(line)
    assert (it["job"], it["client"], it["kind"], it["state"]) == ("j1", "acme", "calls", "finished")
    assert (it["rows"], it["succeeded"], it["rejected"], it["waiting"]) == (3, 2, 1, 0)
    assert (it["eta_s"], it["throttled"]) == (0.0, 0)
    assert it["started"].endswith("Z")
    assert it["finished"].endswith("Z")


def test_one_of_a_thing_is_said_in_the_singular(world: World) -> None:
    world.submit(1)

    said = world.run("jobs").stdout + world.run("status").stdout
    world.work()
    said += world.run("watch", "j1").stdout

    assert said.count("1 row") >= 3
    assert "1 rows" not in said


def test_a_store_that_is_away_raises_when_nobody_is_told(world: World) -> None:
    nowhere = connect(f"redis://127.0.0.1:{free_port()}/0")
    client = dataclasses.replace(world.client, store=nowhere)

    with pytest.raises(StoreAway):
        next(follow(client, "j1"))
