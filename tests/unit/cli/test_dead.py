"""`headgate dead`: what ended without success, and its replay; and what a report says is done."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.cli.progress_display import format_look
from orchestration.views import invariants
from orchestration.views.invariants import check_ledger
from orchestration.views.progress import all_jobs, snapshot
from orchestration.views.steps import Done, Steps, format_done, steps_of
from tests.support.world import DONE, FAILED, SECRET, WHY, die, one_dead
from workers.answer.outcome import Outcome
from workers.answer.verdict import Finish, Requeue
from workers.errors import StoreAway
from workers.ledger import audit
from workers.ledger.batch import Place
from workers.ledger.ledger import Ledger

if TYPE_CHECKING:
    from click.testing import Result

    from tests.support.world import World

ROOT = Path(__file__).parents[3]
#: A step without parts.
WHOLE = {"parts": None, "of": None}
UNKNOWN = Finish(state="unknown", outcome=Outcome.UNKNOWN, error="no answer came back")
NOBODY = "0b9c1b7e-0000-8000-8000-000000000001"


def reported(world: World, job: str = "j1") -> list[dict[str, Any]]:
    text = world.run("report", job, "--format", "jsonl").stdout
    return [json.loads(it) for it in text.splitlines()]


def sound(world: World) -> None:
    found = [it for lines in check_ledger(world.client).values() for it in lines]
    assert found == []


def refused(result: Result, exit_code: int, *words: str) -> None:
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert all(word in result.stderr for word in words), result.stderr
    assert "Traceback" not in result.output


# What the report names


def test_every_key_of_a_report_is_known_to_the_commands_that_take_one(world: World) -> None:
    world.submit(1)
    world.work(FAILED)
    world.accept(2, "j2", more=[{"line": 3, "id": "j2-1", "joins": 2}])  # its page is not opened
    rows = reported(world) + reported(world, "j2")

    for row in rows:
        shown = world.run("dead", "show", row["key"])
        assert shown.exit_code == 0, shown.stderr
        assert f"state         {row['state']} at step 1 of 2 (make)" in shown.stdout
        assert world.run("audit", row["key"]).exit_code == 0
    first = rows[1]["key"]
    story = json.loads(world.run("dead", "show", first, "--json").stdout)
    assert (story["job"], story["line"], story["state"]) == ("j2", 1, "waiting")
    assert (story["attempts"], story["guard"], story["died_ms"]) == (0, "key", None)
    assert rows[2]["key"] == rows[3]["key"]
    for command in ("replay", "discard"):
        left = world.run("dead", command, first, *WHY)
        refused(left, 1, f"{first} is not dead, and was left as it is")
    sound(world)


# What is done


def test_a_report_says_where_a_transaction_stopped_and_what_of_it_is_done(world: World) -> None:
    one_dead(world)

    (row,) = reported(world)
    (cells,) = csv.DictReader(io.StringIO(world.run("report", "j1").stdout))

    assert row["error"] == "failed at step 2 of 2 (start); done: make made-0: refused (400)"
    assert row["done"] == [{"step": "make", "id": "made-0", **WHOLE}]
    assert (cells["error"], cells["done"]) == (row["error"], "make made-0")


def test_a_transaction_that_stops_at_its_first_step_has_nothing_done(world: World) -> None:
    world.submit(1)
    world.work(FAILED)

    (row,) = reported(world)

    assert row["error"] == "failed at step 1 of 2 (make): refused (400)"
    assert row["done"] == []


def test_what_has_succeeded_has_all_its_steps_and_what_still_waits_those_it_has(
    world: World,
) -> None:
    world.submit(1)
    before = reported(world)
    world.work(replace(DONE, provider_id="p"))
    (after,) = reported(world)

    assert [(it["state"], it["done"]) for it in before] == [("waiting", [])]
    assert (after["error"], [it["step"] for it in after["done"]]) == (None, ["make", "start"])


def test_a_single_step_is_reported_as_before_and_a_row_that_joins_as_the_first(
    world: World,
) -> None:
    step = {"name": "call", "method": "POST", "path": "/things"}
    more = [
        {"line": 1, "id": "single", "steps": [step]},
        {"line": 2, "id": "chain", "steps": [step, {**step, "name": "next", "path": "/next"}]},
        {"line": 3, "id": "chain", "joins": 2},
    ]
    world.submit(0, more=more)
    world.work(FAILED)

    single, first, joined = reported(world)

    assert (single["error"], single["done"]) == ("refused (400)", None)
    assert first["error"] == "failed at step 1 of 2 (call): refused (400)"
    assert joined == first | {"line": 3}


def test_steps_without_names_are_told_by_their_numbers(world: World) -> None:
    key = one_dead(world)
    transaction = world.client.ledger.transaction(key)

    its = steps_of(world.client, replace(transaction, place=Place(7, 0)))  # a page that is missing

    assert its.stopped("failed", "no") == "failed at step 2 of 2; done: step 1 made-0: no"


def test_an_id_of_a_provider_stays_one_line_and_commands_no_terminal(world: World) -> None:
    (key,) = die(world, 1, made="a\nb\x1b[2J")

    (row,) = reported(world)

    assert row["done"] == [{"step": "make", "id": "a b\x1b[2J", **WHOLE}]
    for shown in (world.run("dead", "list").stdout, world.run("dead", "show", key).stdout):
        assert "make a b\\x1b[2J" in shown
        assert "\x1b[2J" not in shown


# List and show


def test_dead_letters_are_one_line_each_the_newest_last(world: World) -> None:
    keys = die(world, 2)
    world.submit(1, "j2")
    world.work()  # no dead letter
    rows = [[world.client.key("j1", f"j1-{n}") for n in range(2)].index(key) for key in keys]

    result = world.run("dead", "list", "acme")

    assert result.exit_code == 0
    assert [it.split("  ")[1:] for it in result.stdout.splitlines()] == [
        [
            "acme", "j1", f"line {n + 1}", key,
            f"failed at step 2 of 2 (start); done: make made-{n}: refused (400)",
        ]
        for n, key in zip(rows, keys, strict=True)
    ]  # fmt: skip
    assert result.stderr == ""


def test_programs_get_the_same_letters(world: World) -> None:
    (key,) = die(world, 1)

    found = json.loads(world.run("dead", "list", "--json").stdout)

    assert found["total"] == 1
    (it,) = found["letters"]
    assert (it["key"], it["line"], it["state"], it["why"]) == (key, 1, "failed", "refused (400)")
    assert it["steps"]["done"] == [{"step": "make", "id": "made-0", **WHOLE}]
    assert it["at_ms"] > 1_700_000_000_000


def test_a_long_list_shows_the_newest_and_says_how_to_see_all(world: World) -> None:
    *_, before, last = die(world, 5)

    result = world.run("dead", "list", "--most", "2")

    assert [it.split("  ")[4] for it in result.stdout.splitlines()] == [before, last]
    assert "the newest 2 of 5; --most 5 shows all" in result.stderr
    assert len(world.run("dead", "list", "--most", "5").stdout.splitlines()) == 5


def test_a_letter_of_which_nothing_else_is_left_is_listed_all_the_same(world: World) -> None:
    (key,) = die(world, 1)
    world.client.store.delete(world.tx(key))

    assert (
        world.run("dead", "list").stdout.rstrip().endswith(f"line ?  {key}  failed: refused (400)")
    )


def test_a_client_without_dead_letters_says_so_and_an_unknown_one_is_exit_2(world: World) -> None:
    result = world.run("dead", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no dead letters" in result.stderr

    refused(world.run("dead", "list", "acmee"), 2, "known: acme")


def test_everything_of_a_transaction_is_shown_with_its_audit_and_without_its_payload(
    world: World,
) -> None:
    key = one_dead(world, replace(FAILED, attempt=True, correlation_id="c-4711"))
    world.run("dead", "replay", key, *WHY)
    world.work(replace(FAILED, correlation_id="c-4712"))

    result = world.run("dead", "show", key)
    text = " ".join(result.stdout.split())

    assert result.exit_code == 0
    for words in (
        f"transaction {key}", "acme j1 line 1", "failed at step 2 of 2 (start) since 20",
        "refused (400)", "done make made-0", "guard key", "attempts 2", "status 400",
        "id made-0", "correlation c-4712",
        f"maria dead replay j1 {key} failed at step 2 of 2 (start) → waiting the list is there",
    ):  # fmt: skip
        assert words in text, words
    it = json.loads(world.run("dead", "show", key, "--json").stdout)
    assert (it["key"], it["guard"], it["status"], it["rows"]) == (key, "key", 400, 1)
    assert [entry["action"] for entry in it["audit"]] == ["dead replay"]
    shown = result.output + json.dumps(it) + world.run("dead", "list", "--json").output
    assert "canary" not in shown
    assert SECRET not in shown
    assert "j1-0" not in shown  # what the user calls the row may tell of a person


@pytest.mark.parametrize("key", [NOBODY, "x", "", "../tx", "1790000000000-0", "\udc80", "*"])
def test_a_key_of_nobody_is_one_sentence_and_nothing_is_replayed(world: World, key: str) -> None:
    (dead,) = die(world, 1)

    refused(world.run("dead", "show", key), 2, "there is no transaction")
    refused(world.run("dead", "replay", dead, key, *WHY), 2, "there is no transaction")
    assert world.client.ledger.transaction(dead).state == "failed"


# Replay


def test_a_replay_of_the_last_row_makes_its_job_run_again_until_it_ends(world: World) -> None:
    key = one_dead(world)
    assert snapshot(world.client, "j1").state == "finished"

    result = world.run("dead", "replay", key, *WHY)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{key} waits again at step 2 of 2 (start)\n"
    it = snapshot(world.client, "j1")
    assert (it.state, it.waiting, it.counts["failed"], it.finished_us) == ("running", 1, 0, None)
    assert "1 open" in world.run("jobs").stdout
    assert "0 of 1 row" in format_look(it)
    assert reported(world)[0]["state"] == "waiting"
    assert reported(world)[0]["error"] is None
    sound(world)

    world.work()
    assert snapshot(world.client, "j1").all_succeeded
    assert world.run("watch", "j1").exit_code == 0
    assert world.run("dead", "list").stdout == ""
    sound(world)


def test_a_second_replay_says_that_it_is_not_dead_and_changes_nothing(world: World) -> None:
    key = one_dead(world)
    world.run("dead", "replay", key, *WHY)

    refused(world.run("dead", "replay", key, *WHY), 1, key, "is not dead")

    assert len(audit.read(world.client.store, world.client.keys)) == 1
    sound(world)


def test_some_of_many_are_replayed_once_each_however_often_they_are_named(world: World) -> None:
    keys = die(world, 4)

    result = world.run("dead", "replay", *keys[:2], keys[0], *WHY)

    assert result.exit_code == 0
    assert [it.split()[0] for it in result.stdout.splitlines()] == keys[:2]
    assert {
        it["key"] for it in json.loads(world.run("dead", "list", "--json").stdout)["letters"]
    } == set(keys[2:])
    assert snapshot(world.client, "j1").waiting == 2
    sound(world)


def test_what_may_have_been_executed_is_replayed_without_a_guard_only_when_stated(
    world: World,
) -> None:
    step = {"name": "call", "method": "POST", "path": "/things", "guard": "none"}
    world.submit(0, more=[{"line": 1, "id": "r", "steps": [step]}])
    world.work(UNKNOWN)
    key = world.client.key("j1", "r")

    result = world.run("dead", "replay", key, *WHY)
    refused(result, 1, "check at the provider first", "--not-executed")
    assert result.stderr.count("\n") == 1
    assert world.client.ledger.transaction(key).state == "unknown"
    assert audit.read(world.client.store, world.client.keys) == []

    assert world.run("dead", "replay", key, "--not-executed", *WHY).exit_code == 0
    (entry,) = audit.read(world.client.store, world.client.keys)
    assert (entry.before, entry.after) == ("unknown", "waiting, stated as not executed")
    assert (entry.key, entry.by, entry.subject) == (key, "maria", "j1")
    assert world.client.ledger.transaction(key).maybe_executed is False
    sound(world)


def test_a_replay_wants_a_reason(world: World) -> None:
    key = one_dead(world)

    assert world.run("dead", "replay", key).exit_code == 2
    assert world.run("dead", "replay", key, "--reason", " ").exit_code == 2
    assert world.run("dead", "replay", *WHY).exit_code == 2
    assert world.client.ledger.transaction(key).state == "failed"


def test_a_replay_that_is_killed_half_way_loses_and_doubles_nothing(world: World) -> None:
    keys = die(world, 6)
    command = [sys.executable, "-m", "orchestration.cli", "dead", "replay", *keys, *WHY]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HEADGATE_FAILPOINT": "replayed:kill:3"}

    killed = subprocess.run(command, env=env, capture_output=True, check=False, timeout=60)

    assert killed.returncode == -signal.SIGKILL
    assert snapshot(world.client, "j1").waiting == 3
    sound(world)
    again = world.run("dead", "replay", *keys, *WHY)
    assert again.exit_code == 1  # three were not dead any more
    assert [it.split()[0] for it in again.stdout.splitlines()] == keys[3:]
    assert len(audit.read(world.client.store, world.client.keys)) == 6
    sound(world)
    world.work()
    assert [it.all_succeeded for it in all_jobs(world.client)] == [True]
    sound(world)


def test_a_store_that_goes_away_half_way_says_how_far_it_came(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = die(world, 3)
    whole, left = Ledger.replay, [1]

    def away(*args: Any, **more: Any) -> Any:
        if not left:
            raise StoreAway("the store did not answer")
        left.pop()
        return whole(*args, **more)

    monkeypatch.setattr(Ledger, "replay", away)

    result = world.run("dead", "replay", *keys, *WHY)

    assert result.exit_code == 1
    assert "1 of 3 transactions wait again, give the same command for the rest" in result.stderr
    assert len(result.stdout.splitlines()) == 1


def test_a_recount_while_dead_letters_are_replayed_finds_no_fault(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = die(world, 4)
    read_page = invariants.read_page

    def replays_meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(invariants, "read_page", read_page)
        world.run("dead", "replay", *keys[:2], *WHY)
        return read_page(*args)

    monkeypatch.setattr(invariants, "read_page", replays_meanwhile)

    assert invariants.rows_are_accounted_for(world.client, "j1") == []
    assert snapshot(world.client, "j1").waiting == 2


# Discard


def test_a_discarded_letter_leaves_the_list_keeps_its_state_and_is_never_sent(
    world: World,
) -> None:
    kept, settled = die(world, 2, UNKNOWN)
    before = snapshot(world.client, "j1").counts

    result = world.run("dead", "discard", settled, *WHY)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{settled} stays unknown and is never sent again\n"
    letters = json.loads(world.run("dead", "list", "--json").stdout)["letters"]
    assert [letter["key"] for letter in letters] == [kept]
    assert snapshot(world.client, "j1").counts == before
    refused(world.run("dead", "replay", settled, "--not-executed", *WHY), 1, "is not dead")
    refused(world.run("dead", "discard", settled, *WHY), 1, "is not dead")
    (entry,) = audit.of_transaction(world.client.store, world.client.keys, settled)
    assert (entry.action, entry.before) == ("dead discard", "unknown at step 2 of 2 (start)")
    assert (entry.by, entry.subject) == ("maria", "j1")
    assert "dead discard" in world.run("dead", "show", settled).stdout
    sound(world)


def test_a_late_answer_sends_no_discarded_transaction_again(world: World) -> None:
    step = {"name": "call", "method": "POST", "path": "/things", "guard": "none"}
    world.submit(0, more=[{"line": 1, "id": "r", "steps": [step]}])
    grant = world.admit(world.bells(1)[0])
    world.client.store.zadd(world.client.keys.deadlines, {grant.key: 1})  # its lease has ended
    world.client.governor().sweep()
    assert world.client.ledger.transaction(grant.key).state == "unknown"
    assert world.run("dead", "discard", grant.key, *WHY).exit_code == 0

    late = Requeue(outcome=Outcome.NOT_EXECUTED, status=429, delay_s=0)
    world.client.governor().settle(grant, late)

    assert world.client.ledger.transaction(grant.key).state == "unknown"
    sound(world)


def test_what_is_open_or_of_nobody_is_not_discarded(world: World) -> None:
    world.submit(1)
    key = world.client.key("j1", "j1-0")

    refused(world.run("dead", "discard", key, *WHY), 1, "is not dead")
    refused(world.run("dead", "discard", NOBODY, *WHY), 2, "there is no transaction")
    assert world.run("dead", "discard", key).exit_code == 2  # it wants a reason
    assert audit.read(world.client.store, world.client.keys) == []


def test_the_rate_of_a_job_is_never_below_zero(world: World) -> None:
    keys = die(world, 2)
    before = snapshot(world.client, "j1")
    world.run("dead", "replay", *keys, *WHY)

    it = snapshot(world.client, "j1", before)

    assert (it.rate_per_s, it.eta_s) == (0.0, None)


def test_every_command_of_the_docs_is_there_with_its_options(world: World) -> None:
    docs = (ROOT / "docs/how-to/dead-letters.md").read_text("utf-8").replace("\\\n", "")
    named = re.findall(r"headgate (dead [a-z]+)([^|#\n]*)", docs)

    assert {it for it, _ in named} == {"dead list", "dead show", "dead replay", "dead discard"}
    for command, rest in named:
        shown = world.run(*command.split(), "--help").stdout
        assert all(option in shown for option in re.findall(r"--[a-z-]+", rest)), (command, rest)


def test_the_sentence_of_the_docs_is_the_one_that_is_told() -> None:
    docs = (ROOT / "docs/how-to/dead-letters.md").read_text("utf-8")
    its = Steps(4, 3, "activate", [Done("create", "123"), Done("load", "456")])

    why = "the provider answered 404 (not.found)"
    assert f"\n{its.stopped('failed', why)}\n" in docs
    assert f"`{format_done(its.done)}`" in docs
