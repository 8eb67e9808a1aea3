"""A package of somebody else's adds a kind: a real worker and the real command line know it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import ROOT, Fleet
from tests.support.kinds import install

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet in whose environment the package `ticket-kind` is installed."""
    with Fleet() as fleet:
        packages = install(fleet.folder / "packages")
        fleet.environment["PYTHONPATH"] = os.pathsep.join([str(packages), str(ROOT)])
        yield fleet


def headgate(fleet: Fleet, *args: object) -> subprocess.CompletedProcess[str]:
    """`headgate ARGS` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "orchestration.cli", *map(str, args)],
        env=fleet.environment,
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_kind_of_an_installed_package_is_submitted_sent_and_reported(fleet: Fleet) -> None:
    file = fleet.folder / "tickets.txt"
    file.write_text("t1\nt2\n\nt1\n")
    fleet.start_worker("w1")

    submitted = headgate(
        fleet, "submit", "tickets", file, "--queue", "north", "--client", "acme", "--json"
    )

    assert submitted.returncode == 0, submitted.stderr
    answer = json.loads(submitted.stdout)
    counts = {name: answer[name] for name in ("kind", "rows", "rejected", "joined", "calls")}
    assert counts == {"kind": "tickets", "rows": 4, "rejected": 1, "joined": 1, "calls": 2}
    assert fleet.wait(answer["job"]) == {"succeeded": 3, "rejected": 1}
    sent = sorted(effect["business_id"] for effect in fleet.effects())
    assert sent == ["north-t1", "north-t2"]
    report = headgate(fleet, "report", answer["job"], "--format", "jsonl")
    states = [json.loads(line)["state"] for line in report.stdout.splitlines()]
    assert states == ["succeeded", "succeeded", "rejected", "succeeded"]
    elsewhere = headgate(
        fleet, "submit", "tickets", file, "--queue", "south", "--client", "acme", "--json"
    )
    assert json.loads(elsewhere.stdout)["job"] != answer["job"]


def test_celerys_own_application_registers_its_tasks_too(fleet: Fleet) -> None:
    code = """
from workers.app import app
app.finalize()
app.loader.import_default_modules()  # as each worker does first of all
print("tickets.open" in app.tasks)
"""

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=fleet.environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout == "True\n"


def test_a_worker_does_not_start_with_a_package_that_brings_no_kind(fleet: Fleet) -> None:
    (fleet.folder / "packages/ticket_kind.py").write_text("1 / 0")

    command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-c", "1"]
    worker = subprocess.run(
        command,
        env=fleet.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert worker.returncode != 0
    assert "kind 'tickets' of package ticket-kind cannot be loaded" in worker.stderr
