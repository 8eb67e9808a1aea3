"""A worker that cannot work, or is started again and again, is said in one sentence and seen."""

from __future__ import annotations

import json
import logging
import resource
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from orchestration.dispatch import bootstep, presence
from orchestration.dispatch import restarts as restarts_module
from orchestration.dispatch.bootstep import DispatcherStep
from orchestration.dispatch.presence import report_failing
from orchestration.dispatch.restarts import MANY, WINDOW_S, Restarts, describe_end, restarts
from orchestration.views.status import status
from tests.support.fleet import ROOT
from workers.clients import Clients
from workers.governor.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from celery.worker import WorkController

    from tests.support.world import World

KILLED = describe_end(-signal.SIGKILL)


def entries(world: World) -> int:
    return len(Registry(world.client.store, world.namespace).look().live)


def test_an_end_is_named_as_people_know_it() -> None:
    assert describe_end(3) == "ended with exit code 3"
    assert describe_end(-15) == "was killed by SIGTERM"
    assert describe_end(-9) == "was killed by SIGKILL, maybe for lack of memory"
    assert describe_end(-200) == "was killed by signal 200"


def test_a_process_that_ends_again_and_again_is_trouble_until_it_has_lived_for_long() -> None:
    now_s = [0.0]
    ends = Restarts(lambda: now_s[0])
    for _ in range(MANY - 1):
        ends.note(KILLED)
        now_s[0] += 60
    assert ends.trouble == ""

    ends.note(KILLED)

    assert ends.trouble.startswith("its process ended 3 times in 10 minutes and was started again")
    assert "SIGKILL" in ends.trouble
    now_s[0] += WINDOW_S
    assert ends.trouble == ""


def test_a_live_worker_whose_process_was_started_again_often_is_a_problem(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Restarts()
    monkeypatch.setattr(presence, "restarts", ours)
    for _ in range(MANY):
        ours.note(KILLED)

    world.start_heartbeat("w1@here")

    now = status(world.client)
    assert (now.workers, now.hindered) == (1, 0)
    (problem,) = now.problems
    assert problem.startswith("worker w1@here (process ")
    assert "is in trouble: its process ended 3 times in 10 minutes" in problem
    assert problem in world.run("doctor").stdout


def test_a_worker_that_cannot_work_is_no_live_worker_and_doctor_and_status_say_why(
    world: World,
) -> None:
    world.submit(1)
    why = "its process 12 was killed by SIGKILL, soon after each start"

    report_failing(world.clients.settings, "w1", "calls", why)

    now = status(world.client)
    assert (now.workers, now.threads, now.hindered) == (0, 0, 1)
    assert now.advice == "no worker can make its calls; see the problem"
    result = world.run("doctor")
    assert result.exit_code == 1
    assert f"cannot work: {why}" in result.stdout
    assert f"cannot work: {why}" in world.run("status").stdout
    look = world.run("worker", "--name", "w1", "--check")
    assert look.exit_code == 1
    assert look.stderr.startswith("headgate: worker w1@")
    assert look.stderr.endswith(f"cannot work: {why}\n")


def test_a_worker_that_works_again_takes_the_entry_of_the_one_that_could_not(world: World) -> None:
    report_failing(world.clients.settings, "w1", "calls", "it cannot start")

    world.start_heartbeat("w1")

    now = status(world.client)
    assert (now.workers, now.hindered, now.problems, entries(world)) == (1, 0, [], 1)


def test_a_worker_that_cannot_work_has_the_name_of_no_other_one(world: World) -> None:
    for _ in range(2):
        report_failing(world.clients.settings, "w1", "calls", "it cannot start")
        world.start_heartbeat("w1", worker_id="another")

    assert "have one name" not in world.run("doctor").stdout


def test_nobody_is_told_where_the_store_is_away_and_the_supervisor_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    store = world.clients.settings.store.model_copy(
        update={"url": type(world.clients.settings.store.url)("redis://127.0.0.1:9/0")}
    )
    away = world.clients.settings.model_copy(update={"store": store})

    report_failing(away, "w1", "calls", "it cannot start")

    assert "nobody is told that this worker cannot work" in caplog.text


def a_worker(world: World, queue: str = "calls", threads: int = 4) -> WorkController:
    """What of Celery's worker the step looks at."""
    queues = SimpleNamespace(consume_from={f"{world.namespace}.{queue}": None})
    app = SimpleNamespace(amqp=SimpleNamespace(queues=queues))
    return cast("WorkController", SimpleNamespace(app=app, concurrency=threads, hostname="w1@here"))


@pytest.mark.parametrize("fault", ["queue", "descriptors"])
def test_a_worker_that_cannot_start_says_so_in_one_sentence_and_ends_with_an_exit_code(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    monkeypatch.setattr(restarts, "last_words", "")
    monkeypatch.setattr(bootstep, "clients", lambda: world.clients)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    worker = a_worker(world, "unknown" if fault == "queue" else "calls")
    with caplog.at_level(logging.WARNING), pytest.raises(SystemExit) as ended:
        DispatcherStep(worker).start(worker)

    assert ended.value.code == 2
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage() == f"the worker cannot start: {restarts.last_words}"
    assert ("no bell comes" if fault == "queue" else "open files") in restarts.last_words


def test_fifty_clients_need_no_more_open_files_than_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = world.client.configured
    many = {f"c{n}": acme.model_copy(update={"name": f"c{n}"}) for n in range(50)}
    settings = world.clients.settings.model_copy(update={"clients": many})
    monkeypatch.setattr(bootstep, "clients", lambda: Clients(settings))
    monkeypatch.setattr(bootstep, "Dispatcher", lambda *_, **__: SimpleNamespace(start=list))
    monkeypatch.setattr(bootstep, "_warm_up", list)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 1_024))
    worker = a_worker(world, threads=settings.worker.concurrency)

    DispatcherStep(worker).start(worker)


def test_celerys_traceback_of_what_ends_a_worker_comes_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours = Restarts()
    monkeypatch.setattr(restarts_module, "restarts", ours)
    logger = logging.getLogger("tests.of.celerys.worker")
    logger.addFilter(restarts_module.shorten)
    for _ in range(2):
        try:
            int("canary")
        except ValueError as error:
            logger.critical("Unrecoverable error: %r", error, exc_info=True)
        ours.note("ended with exit code 1")

    first, second = caplog.records
    assert first.exc_info
    assert not second.exc_info
    assert second.getMessage() == f"the worker ends: {ours.last_words}"
    assert ours.last_words.startswith("ValueError in test_restarts.py, line ")


SUPERVISED = """
import json, os, signal, sys
from orchestration.dispatch import supervisor
supervisor.LONGEST_WAIT_S = 0.05
{before}
def work():
    {work}
def report(why):
    print(json.dumps(why), flush=True)
sys.exit(supervisor.Supervisor(work, report).run())
"""


def supervised(
    work: str, folder: Path, reports: int, before: str = "", *, ends: bool = False
) -> tuple[list[Any], list[str], int]:
    """What a supervisor reports of such a process and prints, and its exit code.

    After so many reports it is drained, unless it ends by itself.
    """
    command = [sys.executable, "-c", SUPERVISED.format(work=work, before=before)]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        told = [json.loads(process.stdout.readline()) for _ in range(reports)]
        if not ends:
            process.terminate()
        printed = process.stderr.read().splitlines()
    return told, printed, process.returncode


def test_a_process_that_is_killed_soon_after_each_start_is_said_and_reported(
    tmp_path: Path,
) -> None:
    told, printed, _ = supervised("os.kill(os.getpid(), signal.SIGKILL)", tmp_path, 2)

    assert printed[0].startswith("headgate: the worker process ")
    assert all(line.endswith(f"{KILLED}; starting it again") for line in printed)
    assert all(why.startswith("its process ") for why in told)
    assert all(why.endswith(f"{KILLED}, soon after each start") for why in told)


def test_a_fault_that_nobody_foresaw_shows_its_traceback_once(tmp_path: Path) -> None:
    told, printed, _ = supervised("1 // 0", tmp_path, 3)

    assert sum("Traceback" in line for line in printed) == 1
    assert all("(ZeroDivisionError in <string>, line 7)" in why for why in told)


def test_a_process_that_cannot_start_as_it_is_configured_is_reported_and_not_started_again(
    tmp_path: Path,
) -> None:
    work = "from workers.errors import ConfigError; raise ConfigError('the limit is too low')"

    told, printed, code = supervised(work, tmp_path, 1, ends=True)

    assert code == 2
    assert printed == ["headgate: the limit is too low"]
    assert told[0].startswith("it cannot start: ")
    assert told[0].endswith("ended with exit code 2 (the limit is too low)")


def test_a_worker_that_has_worked_waits_for_a_configuration_that_can_be_read_again(
    tmp_path: Path,
) -> None:
    before = "supervisor.WORKED_S = 0.05\nimport time\nfrom workers.errors import ConfigError"
    lines = (
        "number = len(os.listdir('.'))",
        "open(f'start-{number}', 'w').close()",
        "if number not in {1, 2, 3}: time.sleep(600 if number else 0.3); sys.exit(1)",
        "raise ConfigError('headgate.toml ends too early')",
    )
    work = "\n    ".join(lines)

    told, printed, code = supervised(work, tmp_path, 2, before)

    assert all("exit code 2 (headgate.toml ends too early), soon after" in why for why in told)
    assert sum(line == "headgate: headgate.toml ends too early" for line in printed) >= 2
    assert code != 2


def test_a_process_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    before = "def fail(): raise BlockingIOError(11, 'Resource temporarily unavailable')"

    told, printed, code = supervised("pass", tmp_path, 2, f"{before}\nos.fork = fail")

    assert code == 0
    assert told[0] == (
        "its process cannot be made (resource temporarily unavailable), soon after each start"
    )
    assert "starting it again" in printed[0]
