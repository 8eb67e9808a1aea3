"""`headgate watch` as a process of its own: a store that dies, signals, and a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.views.progress import snapshot
from tests.conftest import free_port, start_server
from tests.support.fleet import ROOT
from tests.support.world import WHY, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def watching(*args: str, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A real `headgate watch` process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "watch", *args],
        stdout=how.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **how,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.usefixtures("world")  # for its environment
def test_watch_outlives_the_store_and_says_so_once(tmp_path: Path) -> None:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="hg-") as folder:
        options = ("--appendfsync", "always")
        server, _ = start_server(Path(folder), *options, port=port)
        world = World(tmp_path, f"redis://127.0.0.1:{port}/0")
        world.submit(2)
        with watching("j1", "--json") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            first = json.loads(process.stdout.readline())
            server.kill()
            server.wait()
            away = process.stderr.readline()
            server, _ = start_server(Path(folder), *options, port=port)
            back = process.stderr.readline()
            world.work()
            code = process.wait(timeout=10)
            last = json.loads(process.stdout.read().splitlines()[-1])
        server.terminate()
        server.wait()

    assert first["state"] == "running"
    assert "the store did not answer" in away
    assert "the store is back" in back
    assert (code, last["state"]) == (0, "finished")


def test_ctrl_c_ends_the_watching_with_130_and_a_hint_while_the_job_goes_on(world: World) -> None:
    world.submit(1)
    with watching("j1", "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)

    assert process.returncode == 130
    assert "headgate watch j1" in stderr
    assert "Traceback" not in stderr
    assert snapshot(world.client, "j1").state == "running"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_watching_a_job_that_is_not_accepted_to_its_end_says_what_to_do(
    world: World, form: list[str]
) -> None:
    world.accept(2)
    with watching("j1", *form) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        advice = process.stderr.readline()
        process.stdout.readline()
        world.client.ledger.start("j1")
        world.submit(0)  # opens its page
        world.work()
        more = process.stderr.read()
        code = process.wait(timeout=10)

    assert "give the same submit command again" in advice
    assert (more, code) == ("", 0)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_watch_says_when_a_hold_of_the_client_begins_changes_and_ends(
    world: World, form: list[str]
) -> None:
    world.submit(1)
    store, keys = world.client.store, world.client.keys
    now_us = round(time.time() * 1e6)
    failing = {"cause": "failing", "why": "the provider answered 503", "opened_us": now_us}
    store.hset(keys.breaker("client"), mapping=failing)
    store.hset(world.gov, "k:client", now_us + 60_000_000)
    with watching("j1", *form) as process:
        assert process.stderr is not None
        began = process.stderr.readline()
        store.delete(keys.breaker("client"))
        world.run("client", "pause", "acme", *WHY)
        store.hdel(world.gov, "k:client")
        changed = process.stderr.readline()
        world.run("client", "resume", "acme", *WHY)
        ended = process.stderr.readline()
        world.work()
        stdout, more = process.communicate(timeout=10)

    assert "client acme: the provider has been failing since" in began
    assert "the provider answered 503" in began
    assert "client acme: client is paused until it is resumed: paused by maria" in changed
    assert "client acme: its calls go on" in ended
    assert more == ""
    assert all(json.loads(line) for line in stdout.splitlines() if form)


@contextmanager
def on_a_terminal(job: str) -> Iterator[Callable[[str], str]]:
    """`headgate watch` on a terminal; lends what reads its screen until a text stands there."""
    ours, theirs = pty.openpty()
    shown = ""

    def read_until(text: str) -> str:
        nonlocal shown
        while text not in shown:
            shown += os.read(ours, 4096).decode()
        return shown

    with watching(job, stdout=theirs, stdin=theirs, env={**os.environ, "TERM": "xterm"}):
        os.close(theirs)
        yield read_until
    os.close(ours)


def test_a_terminal_sees_why_a_job_is_not_begun(world: World) -> None:
    world.accept(2)
    with on_a_terminal("j1") as read_until:
        assert "accepting" in read_until("again")


def test_a_terminal_sees_a_bar_that_says_what_keeps_a_job_from_moving(world: World) -> None:
    world.submit(1)
    with on_a_terminal("j1") as read_until:
        read_until("no worker is alive")
        world.work()
        shown = read_until("100%")

    assert "━" in shown
    assert "ETA" in shown
