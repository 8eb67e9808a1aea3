"""The thread that looks and delivers: once for all, within a bound, and never in the way."""

from __future__ import annotations

import json
import logging
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from orchestration.notify import delivery
from orchestration.notify import notifier as notifiers
from orchestration.notify.notifier import Notifier
from orchestration.notify.outbox import MOST_TRIES
from tests.support.fleet import until
from tests.support.receiver import a_receiver
from tests.support.world import die
from workers.clients import Clients
from workers.http import webhook
from workers.settings.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from orchestration.notify.events import Notice
    from tests.support.notices import Looks
    from tests.support.world import World


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifiers, "LOOK_S", 0.05)
    monkeypatch.setattr(notifiers, "PATIENCE_S", 0.1)


def tell(world: World, lines: str) -> None:
    """Configure [notify]."""
    world.config.write_text(f"{world.config.read_text()}\n[notify]\n{lines}\n")


def tell_by(world: World, code: str) -> None:
    """Let a command run this code."""
    tell(world, f"command = {json.dumps([sys.executable, '-c', code])}")


def tell_into(world: World, file: Path) -> None:
    tell_by(world, f"import sys; open({str(file)!r}, 'a').write(sys.stdin.read() + chr(10))")


def a_notifier(world: World) -> Notifier:
    """That of another worker process."""
    return Notifier(Clients(load(world.config)))


def tried_once(world: World, looks: Looks) -> tuple[Notifier, Notice]:
    """A notifier that tried in vain to tell of a job's end, and that notice."""
    looks.look()
    world.submit(1)
    world.work()
    worker = a_notifier(world)
    worker.take_turn()
    (notice,) = looks.outbox.waiting()
    return worker, notice


def test_many_workers_deliver_each_event_once(world: World, looks: Looks, tmp_path: Path) -> None:
    file = tmp_path / "told"
    tell_into(world, file)
    looks.look()
    die(world, 1)
    workers = [a_notifier(world) for _ in range(4)]
    for worker in workers:
        worker.start()
    until(lambda: file.exists() and file.read_text().count("\n") >= 2, what="both are told")
    for worker in workers:
        worker.stop()

    a_notifier(world).take_turn()  # after a restart
    told = [json.loads(line)["type"] for line in file.read_text().splitlines()]
    assert sorted(told) == ["dead_letter.appeared", "job.ended"]
    assert looks.outbox.waiting() == []


def stop(worker: Notifier) -> None:
    """Stop it, which must come back although a try would go on for long."""
    stopping = threading.Thread(target=worker.stop, daemon=True)
    stopping.start()
    until(lambda: not stopping.is_alive(), what="the end of the worker")


def test_a_worker_stops_while_a_command_hangs_and_another_one_delivers(
    world: World, looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LIMIT_S", 600.0)
    running = tmp_path / "running"
    tell_by(world, f"import time; open({str(running)!r}, 'w').close(); time.sleep(600)")
    looks.look()
    world.submit(1)
    world.work()
    worker = a_notifier(world)
    worker.start()
    until(running.exists, what="the command runs")

    stop(worker)

    assert not worker.is_alive()
    (left,) = looks.outbox.waiting()
    assert looks.outbox.claim(left)  # at once


def test_a_worker_stops_while_a_url_hangs(
    world: World, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "A" * 32)
    monkeypatch.setattr(webhook, "LIMIT_S", 600.0)
    with a_receiver() as receiver:
        receiver.answers.clear()
        tell(world, f'url = "{receiver.url}"\nsecret_env = "HOOK_SECRET"')
        looks.look()
        world.submit(1)
        world.work()
        worker = a_notifier(world)
        worker.start()
        until(lambda: receiver.received, what="the request is there")

        stop(worker)

        assert worker.is_alive()  # and ends with its process
        assert worker.daemon
        assert looks.outbox.waiting() != []


def test_a_notice_is_given_up_after_some_tries_and_the_log_says_so(
    world: World, looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    tell_by(world, "raise SystemExit(7)")
    worker, notice = tried_once(world, looks)

    for _ in range(2 * MOST_TRIES):
        looks.end_claim(notice)
        worker.take_turn()

    tries = [one.getMessage() for one in caplog.records if "try" in one.getMessage()]
    assert len(tries) == MOST_TRIES
    assert "the command ended with exit code 7" in tries[0]
    assert tries[-1].endswith("it is given up")
    assert looks.outbox.waiting() == []


def test_a_failure_that_nobody_foresaw_counts_as_a_try_and_is_given_up(
    world: World, looks: Looks, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(delivery.ByCommand, "deliver", fail)
    tell_by(world, "pass")
    worker, notice = tried_once(world, looks)
    for _ in range(MOST_TRIES):
        looks.end_claim(notice)
        worker.take_turn()

    assert looks.outbox.waiting() == []
    assert caplog.text.count("the try failed (RuntimeError)") == MOST_TRIES
    assert "canary" not in caplog.text
    tried = world.run("notify", "test")
    assert tried.exit_code == 1
    assert tried.stderr == "headgate: the notice was not delivered: the try failed (RuntimeError)\n"


def test_a_secret_that_is_missing_ends_no_thread_and_is_said(
    world: World, looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    tell(world, 'url = "https://hooks.example.com/canary"\nsecret_env = "NOWHERE"')
    looks.look()
    world.submit(1)
    world.work()

    a_notifier(world).take_turn()

    assert "the environment variable NOWHERE is not set" in caplog.text
    assert "canary" not in caplog.text


def test_while_the_store_is_away_the_log_says_so_once(
    world: World, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    tell_into(world, tmp_path / "told")
    text = world.config.read_text().replace(world.store_url, "redis://127.0.0.1:9/0")
    world.config.write_text(text)
    worker, turns = a_notifier(world), list[int]()
    take_turn = worker.take_turn

    def counted() -> None:
        turns.append(1)
        take_turn()

    worker.take_turn = counted  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        worker.start()
        until(lambda: len(turns) > 3, what="it looks again and again")
    worker.stop()

    assert caplog.text.count("there are no notices for now: the store did not") == 1
