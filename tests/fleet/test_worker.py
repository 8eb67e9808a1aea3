from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestration.views.status import status
from tests.support.fleet import until
from workers.governor.registry import Registry

if TYPE_CHECKING:
    from tests.support.world import World

ROOT = Path(__file__).parents[2]


def limited(files: int, *options: str) -> list[str]:
    """The command of a worker that may open so many files, and not more."""
    command = [sys.executable, "-m", "orchestration.cli", "worker", *options]
    return ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]


@pytest.mark.parametrize("name", ["a\nb", "../x", "%h", "", "-x", "a" * 65, "a@b", "w 1"])
def test_a_name_that_is_not_plain_is_refused_in_one_sentence(world: World, name: str) -> None:
    result = world.run("worker", f"--name={name}")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "--name must be" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_worker_says_in_one_line_that_it_runs(world: World) -> None:
    command = [sys.executable, "-m", "orchestration.cli", "worker", "--name", "w.1_a-b", "-c", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        while not status(world.client).workers:
            assert process.poll() is None
        registry = Registry(world.client.store, world.client.keys.namespace)
        titles = [one.title for one in registry.look().live.values()]
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)

    assert process.returncode == 0
    assert "worker w.1_a-b@" in said
    assert "with 1 thread" in said
    assert said.count("\n") == 1
    # Workers of one name on two hosts are two.
    (title,) = titles
    assert title.startswith(f"w.1_a-b@{socket.gethostname()} ")


def test_fifty_clients_start_at_the_default_concurrency_with_1024_open_files(
    world: World,
) -> None:
    several = "".join(
        f'[clients.c{number}]\nbase_url = "http://127.0.0.1:9"\n' for number in range(49)
    )
    world.config.write_text(f"{several}\n{world.config.read_text()}")
    command = limited(1_024, "--name", "w1")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            until(lambda: status(world.client).workers, what="a live worker")
            now = status(world.client)
        finally:
            process.send_signal(signal.SIGTERM)
            _, printed = process.communicate(timeout=30)

    assert (process.returncode, now.threads, now.problems) == (0, 32, [])
    assert "open files" not in printed
    assert "starting it again" not in printed


@pytest.mark.usefixtures("world")
def test_a_worker_that_may_not_open_enough_files_says_so_once_and_ends() -> None:
    process = subprocess.run(
        limited(128), capture_output=True, text=True, cwd=ROOT, timeout=30, check=False
    )

    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert "need 292 open files, but this process may have 128" in process.stderr


def test_celerys_own_command_with_the_queue_of_media_is_a_worker_for_media(world: World) -> None:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "workers.app",
        "worker",
        "-Q",
        f"{world.namespace}.media",
        "-c",
        "3",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        while not (media := status(world.client).media).workers:
            assert process.poll() is None
        calls = status(world.client).threads
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)

    assert (media.threads, calls) == (3, 0)


def test_one_worker_for_calls_and_media_is_refused(world: World) -> None:
    both = f"{world.namespace}.calls,{world.namespace}.media"
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", both]
    process = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False
    )

    assert process.returncode == 2
    assert "a worker is for calls or for media" in process.stderr
    assert "Traceback" not in process.stderr
    assert not status(world.client).workers


def test_a_worker_of_a_queue_to_which_no_bell_comes_is_refused(world: World) -> None:
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", "calls"]
    process = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False
    )

    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert f"no bell comes to the queue calls in namespace {world.namespace}" in process.stderr
    assert f"-Q {world.namespace}.calls and one with -Q {world.namespace}.media" in process.stderr
    assert not status(world.client).workers
