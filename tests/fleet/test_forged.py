"""A message names, the ledger decides: what a stranger sends over the broker changes nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from orchestration.dispatch import pages, publisher
from tests.support.fleet import ROOT, Fleet, calls, until
from tests.support.forging import (
    CONTROL,
    QUEUE,
    TASK,
    broadcast,
    broker_of,
    forged_bells,
    forged_broadcasts,
    ledger_of,
)
from workers.broker import names, transport
from workers.broker.messages import read_task_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.governor.grants import Bell

#: Nobody rings again within a test: a bell that is out is answered by the test, or by nobody.
PATIENT = {"bell_grace_s": 120.0}


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet with two clients, and a broker that a stranger has open too."""
    with Fleet(worker=PATIENT, names=("acme", "beta"), broker=True) as it:
        yield it


@pytest.fixture
def app(fleet: Fleet) -> Iterator[Celery]:
    """An application on this broker, of somebody who knows all names and no secret."""
    transport.install()
    url = f"redis://127.0.0.1:{fleet.broker_port}/1"
    with Celery("stranger", broker=url, set_as_current=False) as it:
        it.conf.update(
            names.name_settings("headgate"),
            broker_transport_options=transport.transport_options() | names.key_options("headgate"),
            task_ignore_result=True,
        )
        yield it


def ring_all(fleet: Fleet, count: int) -> list[Bell]:
    """The bells of so many rows, which nobody has published yet."""
    bells: list[Bell] = []

    def are_all_out() -> bool:
        bells.extend(fleet.client.governor().ring("test", 100).bells)
        return len(bells) == count

    pages.open_next_page(fleet.client, "job")
    until(are_all_out, what="all bells")
    return bells


def has_token(fleet: Fleet) -> bool:
    """Whether the client has its token, and nobody asks for one just now."""
    store, keys = fleet.client.store, fleet.client.keys
    return bool(store.hexists(keys.oauth, "token")) and not store.exists(keys.oauth_lock)


def count_taken(app: Celery) -> int:
    """How many tasks the worker has served; -1 while it still has some, or does not answer."""
    inspect = app.control.inspect(timeout=2, limit=1)
    asked: list[Any] = [inspect.active(), inspect.reserved(), inspect.stats()]
    if not all(asked) or any(tasks for reply in asked[:2] for tasks in reply.values()):
        return -1
    ((_, stats),) = asked[2].items()
    return sum(stats["total"].values())


def test_no_forged_bell_changes_the_ledger_or_sends_and_the_true_ones_go_their_way(
    fleet: Fleet, app: Celery
) -> None:
    fleet.submit(calls(3, steps=2))
    bells = ring_all(fleet, 3)
    fleet.start_worker("w1")
    until(lambda: count_taken(app) == 0, what="the worker")
    fleet.clients["beta"].tokens().get()  # a worker asks for none of a client without work
    until(lambda: all(has_token(fleet.of(name)) for name in fleet.names), what="its tokens")
    before = {name: ledger_of(fleet, name) for name in fleet.names}
    requests = len(fleet.requests())
    forged = forged_bells("acme", bells[0].key, other="beta")

    broker = broker_of(fleet)
    broker.lpush(QUEUE, *forged.values())
    # What is no task message, or names no task of ours, is put away before it is counted.
    served = sum(
        read_task_message(text.encode()) is not None
        and not re.search('"task": "(celery|somebody)[.]', text)
        for text in forged.values()
    )
    until(lambda: count_taken(app) == served, what=f"{served} forged bells", fleet=fleet)

    assert {name: ledger_of(fleet, name) for name in fleet.names} == before
    assert len(fleet.requests()) == requests
    publisher.publish(app, "headgate", "acme", [(TASK, bell) for bell in bells])
    assert fleet.wait() == {"succeeded": 3}
    assert fleet.report()["effects"] == 6
    assert "Traceback" not in fleet.log("w1")


def told(app: Celery, command: str) -> Any:
    """What the one worker answers to a read of a stranger; None while it does not."""
    replies = getattr(app.control.inspect(timeout=5, limit=1), command)()
    return next(iter(replies.values())) if replies else None


def condition(app: Celery, fleet: Fleet) -> dict[str, Any]:
    """Everything of a worker that a control command could change."""
    stats = told(app, "stats")
    return {
        "process": fleet.worker_pid("w1"),
        "threads": stats["pool"]["max-concurrency"],
        "prefetched": stats["prefetch_count"],
        "queues": queues(app),
        "revoked": told(app, "revoked"),
        "tasks": app.control.inspect(timeout=5, limit=1).registered(
            "rate_limit", "soft_time_limit", "time_limit"
        ),
    }


def celery(fleet: Fleet, *words: str) -> subprocess.CompletedProcess[str]:
    """Celery's own command, on our application."""
    return subprocess.run(
        [sys.executable, "-m", "celery", "-q", "-A", "workers.app", *words],
        env=fleet.environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_no_broadcast_of_a_stranger_changes_a_worker(fleet: Fleet, app: Celery) -> None:
    fleet.start_worker("w1")
    until(lambda: told(app, "ping"), what="the worker", fleet=fleet)
    before = condition(app, fleet)
    broker = broker_of(fleet)
    events = broker.pubsub()
    events.psubscribe("/1.headgate.celeryev/task*")

    for text in forged_broadcasts(node(app)).values():
        broker.publish(f"/1.{CONTROL}", text)

    assert condition(app, fleet) == before
    assert "error" in str(app.control.broadcast("pool_shrink", reply=True, limit=1, timeout=5))
    fleet.submit(calls(20))
    assert fleet.wait() == {"succeeded": 20}
    assert condition(app, fleet)["process"] == before["process"]
    heard = [it["type"] for it in iter(lambda: events.get_message(timeout=0.2), None)]
    assert "pmessage" not in heard  # nobody turned task events on
    assert "is not obeyed: it is not signed by this installation" in fleet.log("w1")
    assert "Traceback" not in fleet.log("w1")


def node(app: Celery) -> str:
    """The name of the one worker."""
    return next(iter(app.control.inspect(timeout=5, limit=1).ping() or {"": ""}))


def test_what_this_installation_signs_is_obeyed_once_and_as_it_was_sent(
    fleet: Fleet, app: Celery
) -> None:
    fleet.start_worker("w1")
    until(lambda: told(app, "ping"), what="the worker", fleet=fleet)
    broker = broker_of(fleet)
    heard = broker.pubsub()
    heard.subscribe(f"/1.{CONTROL}")

    added = celery(fleet, "control", "add_consumer", "extra")

    assert added.returncode == 0, added.stderr + fleet.log("w1")
    assert "add consumer extra" in added.stdout
    until(lambda: queues(app) == [QUEUE, "extra"], what="the queue")
    messages = [it["data"] for it in iter(lambda: heard.get_message(timeout=0.2), None)]
    (signed,) = [it for it in messages if isinstance(it, str) and "add_consumer" in body_of(it)]
    celery(fleet, "control", "cancel_consumer", "extra")
    until(lambda: queues(app) == [QUEUE], what="the queue's end")
    body = json.loads(body_of(signed))
    others = [
        {**body, "arguments": {**body["arguments"], "queue": "another"}},
        {**body, "method": "cancel_consumer"},
        {**body, "destination": [node(app)]},
        {**body, "ticket": "another"},
    ]
    for text in (signed, *map(broadcast, others)):
        broker.publish(f"/1.{CONTROL}", text)
    assert queues(app) == [QUEUE]

    fleet.kill_worker("w1")  # which forgets what it has taken
    until(lambda: told(app, "ping") and fleet.worker_pid("w1"), what="the next one", fleet=fleet)
    broker.publish(f"/1.{CONTROL}", signed)
    assert queues(app) == [QUEUE]


def queues(app: Celery) -> list[str]:
    """The queues from which the worker takes."""
    return [queue["name"] for queue in told(app, "active_queues") or ()]


def body_of(text: str) -> str:
    """The body of a broadcast."""
    return b64decode(json.loads(text)["body"]).decode()


def test_reads_are_open_and_hold_no_secret(fleet: Fleet, app: Celery) -> None:
    broker_of(fleet).execute_command(
        "ACL", "SETUSER", "bells", "on", ">canary-broker-password", "~*", "&*", "+@all"
    )
    url = f"redis://bells:canary-broker-password@127.0.0.1:{fleet.broker_port}/1"
    fleet.start_worker("w1", env={"HEADGATE_STORE__BROKER_URL": url})
    until(lambda: told(app, "ping"), what="the worker", fleet=fleet)

    words = ("stats", "conf", "report", "registered", "active_queues", "scheduled", "clock")
    answers = {word: told(app, word) for word in words}

    assert all(answer is not None for answer in answers.values())
    assert "canary" not in json.dumps(answers)


def test_a_command_that_cannot_be_signed_ends_with_a_sentence(fleet: Fleet) -> None:
    fleet.kill_store()

    ended = celery(fleet, "control", "shutdown")

    assert ended.returncode != 0
    assert "shutdown cannot be signed: the store did not answer" in ended.stderr
    assert "Traceback" not in ended.stderr
