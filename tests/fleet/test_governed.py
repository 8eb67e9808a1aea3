"""Governed tasks of somebody else's Celery application, with real workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import requests
from celery import Celery
from celery.exceptions import Retry
from kombu.exceptions import OperationalError

from tasks import governed
from tasks.governed import Execution, Governed
from tests.support.fleet import ROOT, Fleet, until
from workers import clients
from workers.errors import Throttled, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    governed._session.cache_clear()
    clients._clients.cache_clear()
    with Fleet() as it:
        monkeypatch.setenv("HEADGATE_CONFIG", str(it.config))
        yield it


@contextmanager
def worker(fleet: Fleet) -> Iterator[Celery]:
    """A worker of the application in a process of its own; lends one to publish with."""
    broker = f"redis://127.0.0.1:{fleet.store_port}/5"
    environment = {
        **fleet.environment,
        "APP_BROKER": broker,
        "APP_FOLDER": str(fleet.folder),
    }
    command = [sys.executable, "-m", "celery", "-A", "tests.support.governed_app", "worker"]
    command += ["--pool", "threads", "--concurrency", "4", "--loglevel", "INFO"]
    with (fleet.folder / "app.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)
    try:
        with Celery("publisher", broker=broker, set_as_current=False) as app:
            app.conf.task_default_queue = "mine"
            yield app
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def publish(app: Celery, task: str, name: str) -> None:
    app.send_task(f"tests.support.governed_app.{task}", [name])


def log_of(fleet: Fleet) -> str:
    return (fleet.folder / "app.log").read_text()


def writes(fleet: Fleet) -> list[dict[str, Any]]:
    return [it for it in fleet.requests() if it["path"].startswith("/things")]


def test_a_call_that_would_wait_is_retried_by_celery_and_spends_no_attempt(fleet: Fleet) -> None:
    fleet.sandbox.post("faults", [{"kind": "429", "times": 1, "retry_after": 1}])
    with worker(fleet) as app:
        publish(app, "send", "a")
        until(fleet.effects, what="the write")

    (seen,) = fleet.effects()
    assert seen["business_id"] == "a.0"  # although its max_retries is 0
    refused, written = writes(fleet)
    assert refused["key"] == written["key"]
    assert "Retry in" in log_of(fleet)
    assert "Throttled" in log_of(fleet)


def test_a_retry_of_the_task_itself_has_the_same_key(fleet: Fleet) -> None:
    fleet.sandbox.post("faults", [{"kind": "drop_after", "times": 1}])
    with worker(fleet) as app:
        publish(app, "insist", "a")
        until(lambda: len(writes(fleet)) == 2, what="the repetition")

    assert len({it["key"] for it in writes(fleet)}) == 1
    assert [it["business_id"] for it in fleet.effects()] == ["a"]


def test_a_message_that_comes_again_has_the_same_keys(fleet: Fleet) -> None:
    with worker(fleet) as app:
        publish(app, "die_once", "a")
        until((fleet.folder / "died").exists, what="the end of the first process")
    with worker(fleet):
        until(lambda: len(writes(fleet)) == 6, 30, "the second run")

    keys = [it["key"] for it in writes(fleet)]
    assert keys[:3] == keys[3:]
    assert len(set(keys)) == 3
    assert sorted(it["business_id"] for it in fleet.effects()) == ["a.1", "a.2", "a.3"]


def test_messages_do_not_share_keys_and_calls_do_not_either(fleet: Fleet) -> None:
    calls = [("POST", "/a"), ("POST", "/a"), ("PUT", "/a"), ("POST", "/b"), ("POST", "/b?c=1")]
    keys = [
        run.key(fleet.client, requests.Request(method, f"http://127.0.0.1{path}").prepare())
        for run in (Execution("t1"), Execution("t2"))
        for method, path in calls
    ]

    assert len(set(keys)) == len(keys)


def task_of(app: Celery, **options: Any) -> Any:
    @app.task(base=Governed, bind=True, shared=False, **options)
    def it(self: Any, name: str) -> int:
        return int(self.session.post("/things/1", json={"business_id": name}).status_code)

    return it


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("test", broker="memory://", set_as_current=False) as it:
        yield it


@pytest.mark.parametrize(
    ("transport", "wait_s", "least_s", "most_s"),
    [
        ({}, 7.0, 7.0, 7.1),
        ({}, 3600.0, 300.0, 300.1),
        ({"visibility_timeout": 60}, 3600.0, 20.0, 20.1),
        ({"visibility_timeout": 0.3}, 3600.0, 0.1, 0.2),
    ],
)
def test_a_countdown_is_what_is_told_but_never_near_the_visibility_timeout(
    fleet: Fleet,
    app: Celery,
    transport: dict[str, float],
    wait_s: float,
    least_s: float,
    most_s: float,
) -> None:
    del fleet  # its backoff_base_s, the width of the jitter, is 0.1
    app.conf.broker_transport_options = transport
    task = task_of(app, client="acme")
    task.push_request(id="t1", args=["a"], kwargs={}, retries=2, called_directly=False)

    retry = task.later(Throttled("no token", wait_s))

    assert isinstance(retry, Retry)
    assert least_s <= float(retry.when) <= most_s
    assert retry.sig.options["retries"] == 2
    assert retry.sig.options["task_id"] == "t1"


def test_a_retry_that_cannot_be_published_is_a_failure_for_all_to_see(fleet: Fleet) -> None:
    del fleet
    with Celery("test", broker="redis://127.0.0.1:1", set_as_current=False) as app:
        app.conf.task_publish_retry = False
        task = task_of(app, client="acme")
        task.push_request(id="t1", args=["a"], kwargs={}, retries=0, called_directly=False)

        with pytest.raises(OperationalError):
            task.later(Throttled("no token", 1.0))


def test_called_directly_or_eagerly_it_is_told_what_holds_it(fleet: Fleet, app: Celery) -> None:
    fleet.sandbox.post("storm", {"seconds": 60, "match": "* *", "retry_after": 60})
    app.conf.task_always_eager = app.conf.task_eager_propagates = True
    task = task_of(app, client="acme", wait_s=1, autoretry_for=(Exception,))
    runs = []
    run = task._orig_run
    task._orig_run = lambda name: (runs.append(name), run(name))

    with pytest.raises(Throttled):
        task("direct")
    with pytest.raises(Throttled):
        task.delay("eager")

    assert runs == ["direct", "eager"]
    assert fleet.report()["refused_429"] == 1


def test_an_eager_task_has_a_key_of_its_message(fleet: Fleet, app: Celery) -> None:
    app.conf.task_always_eager = app.conf.task_eager_propagates = True
    task = task_of(app, client="acme")

    for name in ("t1", "t1", "t2"):
        task.apply_async(["a"], task_id=name)

    first, again, other = (it["key"] for it in writes(fleet))
    assert first == again
    assert other != first


def test_a_task_calls_another_one_under_its_own_keys(fleet: Fleet, app: Celery) -> None:
    app.conf.task_always_eager = app.conf.task_eager_propagates = True
    inner = task_of(app, client="acme")

    @app.task(base=Governed, bind=True, shared=False, client="acme")  # type: ignore[untyped-decorator]
    def outer(self: Any) -> None:
        del self
        inner("a")
        inner("a")

    for _ in range(2):
        outer.apply_async(task_id="t1")

    keys = [it["key"] for it in writes(fleet)]
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2


def test_a_task_that_calls_itself_shares_no_key_with_its_caller(fleet: Fleet, app: Celery) -> None:
    app.conf.task_always_eager = app.conf.task_eager_propagates = True

    @app.task(base=Governed, bind=True, shared=False, client="acme")  # type: ignore[untyped-decorator]
    def nested(self: Any, left: int) -> None:
        self.session.post("/things/1", json={"business_id": f"a.{left}"})
        if left:
            self(left - 1)

    nested.apply_async([2], task_id="t1")

    assert len({it["key"] for it in writes(fleet)}) == 3
    assert len(fleet.effects()) == 3


def test_a_session_is_shared_by_the_tasks_of_a_client(fleet: Fleet, app: Celery) -> None:
    del fleet
    one, other = task_of(app, client="acme"), task_of(app, client="acme", name="other")

    assert one.session is other.session
    assert one.session is not task_of(app, client="acme", lane="urgent", name="third").session


def test_a_task_without_a_client_is_told_so(app: Celery) -> None:
    with pytest.raises(UsageError, match="names no client"):
        task_of(app)("a")


def test_what_users_import_leaves_their_celery_alone() -> None:
    code = """
import celery, os, sys
before = dict(os.environ)
mine = celery.Celery("mine")
import tasks.governed, orchestration.transactions
import workers.session.session, workers.session.genesys_sdk
assert celery.current_app.main == "mine", celery.current_app
assert "workers.app" not in sys.modules and "workers.broker.transport" not in sys.modules
assert dict(os.environ) == before
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd="/")
