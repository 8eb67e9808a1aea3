"""The threads of a worker do what Celery's own pool of threads does."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from celery.concurrency import get_implementation
from celery.concurrency.thread import TaskPool as StockPool
from celery.exceptions import WorkerTerminate

from workers.broker.pool import SETTINGS, TaskPool

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 10.0


@pytest.fixture
def pool() -> Iterator[TaskPool]:
    """Two threads."""
    started = TaskPool(2)
    started.start()
    yield started
    started.stop()


def run(pool: Any, target: Any, *args: Any) -> list[Any]:
    """What a task came to: who took it, and what it answered."""
    done, heard = threading.Event(), list[Any]()

    def called(answer: Any) -> None:
        heard.append(answer)
        done.set()

    pool.apply_async(
        target, args, accept_callback=lambda pid, when: heard.append((pid, when)), callback=called
    )
    assert done.wait(PATIENCE_S)
    return heard


def test_celery_finds_the_pool_by_its_setting() -> None:
    assert get_implementation(SETTINGS["worker_pool"]) is TaskPool


def test_a_task_is_accepted_run_and_answered_as_by_celery_s_own_threads(pool: TaskPool) -> None:
    stock = StockPool(2)
    stock.start()

    (accepted, answer), (accepted_there, answer_there) = run(pool, max, 1, 2), run(stock, max, 1, 2)

    assert (answer, accepted[0]) == (answer_there, accepted_there[0]) == (2, accepted[0])
    assert isinstance(accepted[1], float)
    stock.stop()
    for option in ("body_can_be_buffer", "signal_safe", "uses_semaphore", "is_green"):
        assert getattr(pool, option) == getattr(stock, option)
    mine, other = pool.info, stock.info
    assert mine.keys() == other.keys()
    assert (mine["max-concurrency"], mine["threads"]) == (2, 2)


@pytest.mark.parametrize("error", [ValueError, SystemExit, WorkerTerminate])
def test_no_error_costs_the_pool_a_thread(pool: TaskPool, error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    for _ in range(4):
        pool.submit(fail)

    gate = threading.Barrier(2, timeout=PATIENCE_S)  # which both threads must come to
    pool.submit(gate.wait)
    assert run(pool, gate.wait)[1] in {0, 1}


def test_a_stop_waits_for_what_runs_and_begins_nothing_more() -> None:
    pool, began, go, ran = TaskPool(1), threading.Event(), threading.Event(), list[str]()
    pool.start()

    def hold() -> None:
        began.set()
        assert go.wait(PATIENCE_S)
        ran.append("held")

    pool.submit(hold)
    assert began.wait(PATIENCE_S)
    pool.submit(lambda: ran.append("queued"))
    stop = threading.Thread(target=pool.stop)
    stop.start()
    stop.join(0.05)
    assert stop.is_alive()
    go.set()
    stop.join(PATIENCE_S)

    assert not stop.is_alive()
    assert ran == ["held"]


def test_a_hard_stop_begins_nothing_more_and_does_not_wait() -> None:
    pool, began, go, ran = TaskPool(1), threading.Event(), threading.Event(), list[str]()
    pool.start()
    pool.submit(lambda: (began.set(), go.wait(PATIENCE_S)))
    assert began.wait(PATIENCE_S)
    pool.submit(lambda: ran.append("queued"))

    pool.terminate()

    assert not pool.active
    go.set()
    pool.stop()
    assert ran == []


def test_what_celery_s_threads_cannot_do_is_refused_in_a_sentence(pool: TaskPool) -> None:
    for refused, sentence in (
        (pool.grow, "1 threads cannot be added; start another worker"),
        (pool.shrink, "1 threads cannot be taken away; stop a worker"),
        (lambda: pool.terminate_job(1), "does not implement kill_job"),
        (pool.restart, "does not implement restart"),
    ):
        with pytest.raises(NotImplementedError, match=sentence):
            refused()


def test_a_process_that_never_stops_its_pool_ends_after_what_runs() -> None:
    program = """
import threading, time
from workers.broker.pool import TaskPool
pool, began = TaskPool(3), threading.Event()
pool.start()
pool.submit(lambda: (began.set(), time.sleep(0.2), print("ran", flush=True)))
began.wait()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ran\n", "")
