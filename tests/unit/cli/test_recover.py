"""`headgate recover`: who is asked about, sent again or ended after a restored backup."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.dispatch import pages as dispatch_pages
from orchestration.views.invariants import check_ledger
from orchestration.views.progress import snapshot
from tests.support.stored import a_job
from workers.ledger import audit
from workers.ledger.ledger import Ledger, PageCounts

if TYPE_CHECKING:
    from tests.support.world import World

ROOT = Path(__file__).parents[3]
WHY = ("--reason", "the disk was lost", "--by", "maria")
GUARDS = ("key", "upsert", "lookup", "none")


def guarded(guard: str, line: int) -> dict[str, Any]:
    """A row of one step, named by its guard."""
    step = {"name": "call", "method": "POST", "path": f"/{guard}", "guard": guard, "body": {}}
    if guard == "lookup":
        step["lookup"] = {"method": "GET", "path": "/lookup", "found": {"at": "/entities/0"}}
    return {"line": line, "id": f"{guard}{line}", "steps": [step]}


def submit(world: World, *, times: int = 1, pages: int = 1) -> list[str]:
    """A job of each guard so many times a page, of which the first page is open; its keys."""
    ledger = world.client.ledger
    ledger.begin(a_job("j1"))
    rows = [guarded(it, n) for n in range(pages * times) for it in GUARDS]
    size = times * len(GUARDS)
    for page in range(pages):
        part = rows[page * size : (page + 1) * size]
        ledger.accept("j1", page, part, PageCounts(calls=size))
    ledger.start("j1")
    dispatch_pages.open_next_page(world.client, "j1")
    return [world.client.key("j1", row["id"]) for row in rows]


def now(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).isoformat()


def states(world: World, keys: list[str]) -> list[str]:
    return [it.state if it else "" for it in world.client.ledger.transactions(keys)]


def sound(world: World) -> None:
    assert [it for lines in check_ledger(world.client).values() for it in lines] == []


def test_it_says_per_client_what_becomes_of_what_was_open(world: World) -> None:
    keys = submit(world, pages=2)

    result = world.run("recover", "--since", now(hours=1), *WHY)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "client acme: 2 sent again, 1 looked up first, 1 ended unknown, 0 were out, "
        "0 marked before; pages to open: 1\n"
    )
    assert states(world, keys[:4]) == ["w", "w", "w", "unknown"]
    sound(world)
    dispatch_pages.open_next_page(world.client, "j1")
    assert states(world, keys) == ["w", "w", "w", "unknown"] * 2
    assert snapshot(world.client, "j1").counts["unknown"] == 2
    sound(world)
    world.work()
    assert snapshot(world.client, "j1").counts["succeeded"] == 6
    sound(world)


def test_programs_get_the_same_counts_and_a_dry_run_changes_nothing(world: World) -> None:
    keys = submit(world, pages=2)
    at = now(hours=1)

    dry = json.loads(world.run("recover", "--since", at, "--dry-run", "--json", *WHY).stdout)

    assert states(world, keys[:4]) == ["w"] * 4
    assert audit.read(world.client.store, world.client.keys) == []
    done = json.loads(world.run("recover", "--since", at, "--json", *WHY).stdout)
    assert (dry["dry_run"], done["dry_run"]) == (True, False)
    assert dry["clients"] == done["clients"]
    (it,) = done["clients"]
    assert it == {
        "client": "acme", "sent_again": 2, "looked_up": 1, "unknown": 1, "leases": 0,
        "marked": 0, "pages": 1,
    }  # fmt: skip


def test_the_same_command_again_changes_nothing_and_each_run_is_in_the_audit(world: World) -> None:
    keys = submit(world)
    at = now(hours=1)
    world.run("recover", "--since", at, *WHY)
    before = world.client.ledger.transactions(keys)

    again = world.run("recover", "--since", at, *WHY)

    assert "0 sent again, 0 looked up first, 0 ended unknown, 0 were out, 3 marked" in again.stdout
    assert world.client.ledger.transactions(keys) == before
    newest, first = audit.read(world.client.store, world.client.keys)
    assert (first.action, first.subject, first.by) == ("recover", "acme", "maria")
    assert first.reason == "the disk was lost"
    assert first.after.startswith(f"backup of {at[:19]}Z: 2 sent again, 1 looked up first")
    assert "3 marked before" in newest.after
    assert "2 sent again" in world.run("audit", "acme").stdout


def test_a_run_that_is_killed_half_way_ends_the_same_when_it_is_given_again(world: World) -> None:
    keys = submit(world, times=40)
    at = now(hours=1)
    args = ["recover", "--since", at, *WHY]
    command = [sys.executable, "-m", "orchestration.cli", *args]
    # One call for the job and four for its transactions, first dry and then in earnest.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HEADGATE_FAILPOINT": "recovered:kill:7"}

    killed = subprocess.run(command, env=env, capture_output=True, check=False, timeout=60)

    assert killed.returncode == -signal.SIGKILL
    assert 0 < states(world, keys).count("unknown") < 40
    sound(world)
    assert world.run(*args).exit_code == 0
    assert states(world, keys).count("unknown") == 40
    assert {it.backup_us for it in world.client.ledger.transactions(keys)} == {
        world.client.ledger.job("j1").backup_us
    }
    sound(world)


def test_while_a_worker_is_alive_it_is_refused_in_one_sentence(world: World) -> None:
    keys = submit(world)
    world.client.governor().ring("w1", 1)
    before = states(world, keys)

    result = world.run("recover", "--since", now(hours=1), *WHY)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "workers are alive for client acme (w1)" in result.stderr
    assert "stop all workers" in result.stderr
    assert result.stderr.count("\n") == 1
    assert states(world, keys) == before
    # 5 s later
    world.client.store.hset(world.gov, "w:w1", f"1 {time.time_ns() // 1000 - 1}")
    assert world.run("recover", "--since", now(hours=1), *WHY).exit_code == 0


@pytest.mark.parametrize(
    ("since", "words"),
    [
        ("2999-01-01T00:00Z", "is in the future"),
        ("yesterday", "is no moment"),
        ("", "is no moment"),
        ("0001-01-01", "is no moment"),
        ("9999-12-31T23:59:59-23:00", ""),
        ("1960-01-01T00:00Z", "is no moment"),
        ("2h", "is no moment"),  # a second run would mean another one
        ("nan", "is no moment"),
    ],
)
def test_a_moment_that_is_none_or_to_come_is_refused_and_changes_nothing(
    world: World, since: str, words: str
) -> None:
    keys = submit(world)

    result = world.run("recover", "--since", since, *WHY)

    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert states(world, keys) == ["w"] * 4


@pytest.mark.parametrize("zone", ["", "Z", "+05:30"])
def test_a_moment_without_a_zone_is_local(
    world: World, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    submit(world)
    monkeypatch.setenv("TZ", "Etc/GMT-3")
    time.tzset()
    try:
        assert world.run("recover", "--since", f"2026-01-02T06:00{zone}", *WHY).exit_code == 0
    finally:
        monkeypatch.undo()
        time.tzset()

    offset = {"": 3, "Z": 0, "+05:30": 5.5}[zone]
    at = datetime(2026, 1, 2, 6, tzinfo=UTC) - timedelta(hours=offset)
    assert world.client.ledger.job("j1").backup_us == round(at.timestamp() * 1e6)


def test_a_worker_that_is_started_meanwhile_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(world)
    recover = Ledger.recover

    def with_a_worker(*args: Any, **more: Any) -> Any:
        if not more["dry"]:
            world.client.governor().ring("w1", 1)
        return recover(*args, **more)

    monkeypatch.setattr(Ledger, "recover", with_a_worker)
    result = world.run("recover", "--since", now(hours=1), *WHY)

    assert result.exit_code == 1
    assert "a worker of client acme was started meanwhile (w1)" in result.stderr


def test_it_wants_a_moment_and_a_reason(world: World) -> None:
    assert world.run("recover", *WHY).exit_code == 2
    assert world.run("recover", "--since", now(hours=1)).exit_code == 2


def test_a_finished_job_and_one_that_is_still_accepted_are_told_apart(world: World) -> None:
    world.submit(2, "done")
    world.work()
    world.client.store.hdel(world.gov, "w:w1")
    world.accept(2, "half")

    result = world.run("recover", "--since", now(hours=1), *WHY)

    assert "pages to open: 1" in result.stdout
    assert world.client.ledger.job("done").backup_us is None
    assert world.client.ledger.job("half").backup_us


def test_every_command_of_the_docs_is_there_with_its_options(world: World) -> None:
    docs = (ROOT / "docs/how-to/operations.md").read_text("utf-8")
    named = re.findall(r"^headgate recover ([^|#\n]*)", docs, re.MULTILINE)
    shown = world.run("recover", "--help").stdout

    assert len(named) == 3
    for rest in named:
        assert all(option in shown for option in re.findall(r"--[a-z-]+", rest)), rest
