"""The supervisor: what it starts again and what it does not, and that nobody is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
import pytest

from tests.support.fleet import ROOT, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
[store]
url = "{url}"
namespace = "supervisor"
[clients.acme]
base_url = "http://127.0.0.1:9"
"""

#: Starts a supervisor that does not want to outlive it.
PARENT = """
import os, subprocess, sys
os.environ["HEADGATE_PARENT"] = str(os.getpid())
sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))
"""
WORKER = ["-m", "orchestration.cli", "worker", "--config", "headgate.toml"]
WORKER += ["--loglevel", "INFO"]  # says when it is ready
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def folder(tmp_path: Path, store_url: str) -> Path:
    """The folder in which workers are started, with their configuration and their log."""
    (tmp_path / "headgate.toml").write_text(CONFIG.format(url=store_url))
    return tmp_path


@pytest.fixture
def started(folder: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor, or its parent, and all below it; nothing of them lives on."""
    command = [sys.executable, *getattr(request, "param", []), *WORKER]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=log)
    below: list[psutil.Process] = []
    try:
        until(lambda: is_ready(folder), what="a worker")
        below = psutil.Process(process.pid).children(recursive=True)
        yield process
    finally:
        process.kill()
        process.wait()
        for it in below:
            if it.is_running():  # it, and no later process of the same number
                it.kill()


def is_ready(folder: Path, times: int = 1) -> bool:
    return (folder / "log").read_text().count(" ready.") >= times


def worker_of(supervisor: subprocess.Popen[bytes]) -> psutil.Process:
    (worker,) = psutil.Process(supervisor.pid).children()
    return worker


def gone(*processes: psutil.Process) -> bool:
    return not any(it.is_running() and it.status() != psutil.STATUS_ZOMBIE for it in processes)


def test_a_worker_that_was_killed_is_started_again(
    started: subprocess.Popen[bytes], folder: Path
) -> None:
    worker_of(started).kill()

    until(lambda: is_ready(folder, times=2), what="another worker")
    log = (folder / "log").read_text()
    assert "was killed by SIGKILL, maybe for lack of memory; starting it again" in log
    started.terminate()
    assert started.wait(timeout=20) == 0


def test_a_worker_whose_configuration_has_vanished_is_not_started_again(
    started: subprocess.Popen[bytes], folder: Path
) -> None:
    (folder / "headgate.toml").unlink()

    worker_of(started).kill()

    assert started.wait(timeout=20) == 2
    last = (folder / "log").read_text().splitlines()[-1]
    assert last.startswith("headgate: ")
    assert "headgate.toml" in last


def test_a_crash_says_why_before_the_worker_is_started_again(folder: Path) -> None:
    script = (
        "from orchestration.dispatch.supervisor import Supervisor; Supervisor(lambda: 1 // 0).run()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE,
        text=True,
    ) as supervisor:  # fmt: skip
        assert supervisor.stderr is not None
        said = ""
        while "starting it again" not in said:
            said += supervisor.stderr.readline()
        supervisor.terminate()

    assert "ZeroDivisionError" in said
    assert "ended with exit code 1 (ZeroDivisionError in <string>, line 1)" in said


def test_a_worker_that_is_asked_to_end_while_it_is_made_ends(folder: Path) -> None:
    script = (
        "import time; from orchestration.dispatch.supervisor import Supervisor\n"
        "for _ in range(20): Supervisor(lambda: time.sleep(60) or 0).run()"
    )
    environment = {**ENVIRONMENT, "HEADGATE_PARENT": "0"}  # gone, so it is asked at once

    subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, timeout=20, check=True
    )


def test_a_worker_whose_supervisor_was_killed_drains(started: subprocess.Popen[bytes]) -> None:
    worker = worker_of(started)

    started.kill()

    until(lambda: gone(worker), what="the end of the worker")


@pytest.mark.parametrize("started", [["-c", PARENT]], indirect=True)
def test_a_supervisor_whose_parent_was_killed_drains(started: subprocess.Popen[bytes]) -> None:
    below = psutil.Process(started.pid).children(recursive=True)

    started.kill()

    until(lambda: gone(*below), what="the end of supervisor and worker")
    assert len(below) == 2
