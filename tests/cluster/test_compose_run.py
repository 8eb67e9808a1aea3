"""The containers, run for real: each does its main job, and the demo ends whoever is killed.

The servers refuse nobody anything then: each user may do what its containers do.

Skips without a Docker engine; with REQUIRE_DOCKER=1 it fails instead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.conftest import free_port
from tests.support import media
from tests.support.campaigns import definition
from tests.support.engine import copy_project, docker, find_pinned
from tests.support.fleet import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The demo's calls take 28 s; a crash of the store or of workers costs some more.
DEMO_S = 120
WORKERS = 4


class Compose:
    """One run of the compose files under a name, with secrets and volumes of its own."""

    def __init__(self, folder: Path) -> None:
        self.name = f"hg-{uuid.uuid4().hex[:8]}"
        # The files name what is beside them, and the build needs the project around them.
        self._folder = copy_project(folder) / "compose"
        self.files = self._folder / "files"
        subprocess.run([self._folder / "make-secrets.sh"], check=True, stdout=subprocess.DEVNULL)
        find_pinned(self._folder)

    def __call__(self, *command: str, timeout_s: float = 60) -> str:
        files = (self._folder / name for name in ("compose.yaml", "sandbox.yaml"))
        named = [word for file in files for word in ("-f", str(file))]
        return docker("compose", "-p", self.name, *named, *command, timeout_s=timeout_s)

    def container(self, service: str) -> str:
        return f"{self.name}-{service}-1"

    def inspect(self, service: str, what: str) -> str:
        return docker("inspect", "-f", f"{{{{.{what}}}}}", self.container(service))

    def secret(self, name: str) -> str:
        return (self._folder / "secrets" / name).read_text()

    def submit(self, *arguments: str) -> str:
        """Submit a file as docs/how-to/operations.md says; returns the job."""
        return self("run", "--rm", "submit", *arguments, "--client", "demo").splitlines()[-1]

    def headgate(self, *arguments: str, timeout_s: float = 60) -> str:
        return self("exec", "-T", "worker", "headgate", *arguments, timeout_s=timeout_s)

    def refused(self) -> str:
        """What the ledger's server and the broker refused their users."""
        client = ("redis-cli", "--no-auth-warning", "--user", "admin", "acl", "log")
        passwords = {"redis": "admin_password", "broker": "broker_admin_password"}
        return "".join(
            self("exec", "-T", "-e", f"REDISCLI_AUTH={self.secret(name)}", server, *client)
            for server, name in passwords.items()
        )

    def start_demo(self) -> str:
        """Start it as docs/how-to/operations.md says, but detached; returns its container."""
        name = self.container("demo")
        self("run", "--detach", "--name", name, "demo", timeout_s=120)
        return name

    def wait_for_demo(self) -> str:
        """Wait until the demo has ended well; returns what it said."""
        deadline, demo = time.monotonic() + DEMO_S, self.container("demo")
        while self.inspect("demo", "State.Status") != "exited":
            assert time.monotonic() < deadline, docker("logs", demo)[-2000:]
            time.sleep(0.5)
        said = docker("logs", demo)
        assert self.inspect("demo", "State.ExitCode") == "0", said[-2000:]
        return said


@pytest.fixture
def compose(engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compose]:
    del engine
    monkeypatch.setenv("FLOWER_PORT", str(free_port()))
    it = Compose(tmp_path)
    try:
        it("up", "--detach", "--build", "--scale", f"worker={WORKERS}", timeout_s=500)
        yield it
    finally:
        docker("rm", "--force", it.container("demo"), check=False)  # `down` leaves what was run
        it("down", "--volumes", "--timeout", "5", timeout_s=120)


@pytest.mark.parametrize("victim", ["nobody", "redis", "broker", "worker", "flower"])
def test_the_demo_ends_with_nothing_lost_and_nothing_doubled(compose: Compose, victim: str) -> None:
    demo = compose.start_demo()
    until(lambda: " succeeded" in docker("logs", demo), 30, "the first contacts")
    if victim != "nobody":
        # a crash: `docker kill` would count as a stop
        os.kill(int(compose.inspect(victim, "State.Pid")), signal.SIGKILL)

    said = compose.wait_for_demo()

    for line in ("429s: 0", "lost: 0", "duplicates: 0"):
        assert line in said
    if victim != "nobody":
        assert int(compose.inspect(victim, "RestartCount")) >= 1
    assert compose.refused() == ""


def write_files(folder: Path) -> None:
    """Contacts, a campaign with its contacts, and sounds."""
    rows = "".join(f"k{number},+1555010{number:04}\n" for number in range(300))
    for name in ("contacts.csv", "spring.csv"):
        (folder / name).write_text("customer,phone\n" + rows)
    (folder / "campaigns.jsonl").write_text(json.dumps(definition("spring")) + "\n")
    media.folder(folder / "prompts", 3)


def ask_flower(compose: Compose, path: str, *, login: bool = True) -> Any:
    """What Flower answers."""
    auth = ("headgate", compose.secret("flower_password")) if login else None
    url = f"http://127.0.0.1:{os.environ['FLOWER_PORT']}{path}"
    return requests.get(url, auth=auth, timeout=10)


def test_every_container_does_its_main_job_and_the_servers_refuse_nobody(compose: Compose) -> None:
    compose.start_demo()
    compose.wait_for_demo()  # before others: it counts all that reached the provider
    write_files(compose.files)
    jobs = [
        compose.submit("contacts", "contacts.csv", "--list", "list-1", "--id-column", "customer"),
        compose.submit("campaigns", "campaigns.jsonl"),
        compose.submit("media", "prompts", "--language", "de-de"),
    ]
    for job in jobs:
        compose.headgate("watch", job, timeout_s=DEMO_S)

    assert ask_flower(compose, "/workers", login=False).status_code == 401
    workers = ask_flower(compose, "/workers?json=1").json()["data"]
    assert len(workers) == WORKERS + 1
    assert ask_flower(compose, "/broker").status_code == 200
    tasks = ask_flower(compose, "/api/tasks?limit=10").json()
    assert {task["state"] for task in tasks.values()} == {"SUCCESS"}
    assert "has the functions of this release" in docker("logs", compose.container("admin"))
    assert compose.inspect("admin", "State.ExitCode") == "0"
    for service in ("redis", "broker", "worker", "media", "flower", "sandbox"):
        until(
            lambda name=service: compose.inspect(name, "State.Health.Status") == "healthy",
            60,
            f"health of {service}",
        )
    compose.headgate("doctor")
    assert compose.refused() == ""
    for server, user, name in (("redis", "headgate", "store"), ("broker", "broker", "broker")):
        secret = f'REDISCLI_AUTH="$(cat /run/secrets/{name}_password)"'
        compose("exec", "-T", server, "sh", "-c", f"{secret} redis-cli --user {user} flushall")
    assert compose.refused().count("object\nflushall") == 2  # what is refused would have been seen
