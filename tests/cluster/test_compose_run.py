"""The containers, run for real: the demo comes to its end, whichever of them is killed on the way.

Skips without a Docker engine; with REQUIRE_DOCKER=1 it fails instead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.conftest import free_port
from tests.support.engine import copy_project, docker
from tests.support.fleet import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The demo's calls take 28 s; a crash of the store or of workers costs some more.
DEMO_S = 120


class Compose:
    """One run of compose.yaml under a name, with secrets and volumes of its own."""

    def __init__(self, folder: Path) -> None:
        self.name = f"hg-{uuid.uuid4().hex[:8]}"
        # The file names what is beside it, and the build needs the project around it.
        copy_project(folder)
        subprocess.run([folder / "compose/make-secrets.sh"], check=True, stdout=subprocess.DEVNULL)
        self._file = folder / "compose/compose.yaml"

    def __call__(self, *command: str, timeout_s: float = 60) -> str:
        known = ("-p", self.name, "-f", str(self._file), "--profile", "sandbox")
        return docker("compose", *known, *command, timeout_s=timeout_s)

    def container(self, service: str) -> str:
        return f"{self.name}-{service}-1"

    def ended(self) -> bool:
        state = docker("inspect", "-f", "{{.State.Status}}", self.container("demo"))
        return state == "exited"


@pytest.fixture
def compose(engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compose]:
    del engine
    monkeypatch.setenv("FLOWER_PORT", str(free_port()))
    it = Compose(tmp_path)
    try:
        it("up", "--detach", "--build", "--scale", "worker=4", timeout_s=500)
        yield it
    finally:
        it("down", "--volumes", "--timeout", "5", timeout_s=120)


@pytest.mark.parametrize("victim", ["nobody", "redis", "worker", "flower"])
def test_the_demo_ends_with_nothing_lost_and_nothing_doubled(compose: Compose, victim: str) -> None:
    demo = compose.container("demo")
    until(lambda: " succeeded" in docker("logs", demo), 30, "the first contacts")
    if victim != "nobody":
        pid = docker("inspect", "-f", "{{.State.Pid}}", compose.container(victim))
        os.kill(int(pid), signal.SIGKILL)  # a crash: `docker kill` would count as a stop

    deadline = time.monotonic() + DEMO_S
    while not compose.ended():
        assert time.monotonic() < deadline, docker("logs", demo)[-2000:]
        time.sleep(0.5)

    said = docker("logs", demo)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", demo) == "0", said[-2000:]
    for line in ("429s: 0", "lost: 0", "duplicates: 0"):
        assert line in said
    if victim != "nobody":
        restarts = docker("inspect", "-f", "{{.RestartCount}}", compose.container(victim))
        assert int(restarts) >= 1
