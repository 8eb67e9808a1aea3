from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import kombu.transport
import pytest
import redis
from celery import Celery, chain
from kombu.transport.redis import Transport as StockTransport

from tests.support.killing import GARBAGE, a_task, encoded
from workers.broker import consumer as broker_consumer
from workers.broker import transport
from workers.broker.messages import read_task_message
from workers.broker.popping import GARBAGE_KEPT, GARBAGE_KEY
from workers.store.embedded import find_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 30.0  # how long a test waits for what must happen before it calls it missing


def wait_until(happened: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


class Broker:
    """A server of our own, with a password and without a disk, that can die and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as it:
            it.bind(("127.0.0.1", 0))
            self.port = int(it.getsockname()[1])
        self.url = f"redis://:secret@127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, password="secret")

    def start(self) -> None:
        options = f"--port {self.port} --bind 127.0.0.1 --requirepass secret --appendonly no"
        self.process = subprocess.Popen(
            [find_binary(), *options.split(), "--save", "", "--dir", str(self.folder)],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.answers, "the broker answers")

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def app(self, **options: Any) -> Celery:
        """A publisher; `options` are options of the transport."""
        transport.install()
        app = Celery(broker=self.url, set_as_current=False)
        app.conf.broker_transport_options = transport.transport_options() | options
        return app


class Worker:
    """A real `celery worker` with four threads on the tasks of `probe_app`."""

    def __init__(self, broker: Broker, folder: Path, acks: str = "no") -> None:
        self.broker, self.folder, self.queue = broker, folder, f"probe-{uuid4().hex}"
        self.app, self.held = broker.app(), 0
        folder.mkdir()
        probe = {"FOLDER": str(folder), "BROKER": broker.url, "ACKS": acks, "QUEUE": self.queue}
        options = (
            "-A tests.support.probe_app worker --pool threads --concurrency 4 --loglevel DEBUG"
            f" --hostname {self.queue}@probe --without-gossip --without-mingle"
        )
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", *options.split()],
                env=os.environ | {f"PROBE_{name}": value for name, value in probe.items()},
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def send(self, task: str, *names: str) -> None:
        for name in names:
            self.app.send_task(task, [name], queue=self.queue)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def runs(self) -> list[str]:
        journal = self.folder / "journal"
        return journal.read_text().split() if journal.exists() else []

    def runs_of(self, prefix: str) -> list[str]:
        return [name for name in self.runs() if name.startswith(prefix)]

    def open(self) -> None:
        """Let all tasks that are held come to their end."""
        (self.folder / "open").touch()

    def shut(self) -> None:
        (self.folder / "open").unlink()

    def must(self, happened: Callable[[], Any], what: str) -> None:
        def alive_and_happened() -> bool:
            assert self.process.poll() is None, f"the worker exited:\n{self.log()[-3000:]}"
            return bool(happened())

        wait_until(alive_and_happened, what)

    def must_log(self, text: str, times: int) -> None:
        self.must(lambda: self.log().count(text) >= times, f"{text!r} is in its log")

    def must_run(self, name: str) -> None:
        self.must(lambda: name in self.runs(), f"{name} runs")

    def must_take(self, *names: str) -> None:
        """Wait until the threads hold four of these tasks and the worker has all others.

        An empty queue does not tell: a message can still be on its way to the worker.
        """
        self.held += len(names)
        self.must(
            lambda: (
                len(set(names) & set(self.runs())) == min(len(names), 4)
                and len(re.findall(r"Task hold\S+ received", self.log())) >= self.held
            ),
            f"the worker has taken {len(names)} tasks",
        )


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    it = Broker(tmp_path_factory.mktemp("broker"))
    it.start()
    yield it
    it.kill()


@contextmanager
def running(broker: Broker, folder: Path, *modes: str) -> Iterator[list[Worker]]:
    """One worker for each mode of acknowledgement, started side by side."""
    broker.client.flushall()
    workers: list[Worker] = []
    try:
        workers.extend(Worker(broker, folder / acks, acks) for acks in modes)
        for worker in workers:
            worker.must_log("ready.", 1)
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()


@pytest.fixture(scope="module")
def worker(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker for the tests whose promise is that it will not even notice."""
    with running(broker, tmp_path_factory.mktemp("worker"), "no") as (it,):
        yield it


# What a task looks like in the broker, and every way to spoil it.


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_a_worker_cannot_take_is_told_from_a_task(kind: str) -> None:
    assert read_task_message(encoded(a_task()))
    assert not read_task_message(encoded(GARBAGE[kind]))


def test_every_shape_of_task_that_celery_sends_is_taken_for_one(broker: Broker) -> None:
    broker.client.flushall()
    app = broker.app()
    app.conf.task_default_queue = "shapes"
    bell = app.signature("mark", ["x"], immutable=True)
    moment = datetime.now(UTC)

    bell.apply_async()
    bell.apply_async(countdown=60, expires=90, priority=9, time_limit=5, soft_time_limit=2.5)
    bell.apply_async(eta=moment, headers={"since": moment}, shadow="another name")
    bell.apply_async(link=bell.clone(), link_error=bell.clone())
    chain(bell, bell, bell).apply_async()
    broker.app(body_encoding="utf-8").send_task("mark", ["ä"], queue="shapes", a="b")

    texts: list[Any] = [
        text
        for key in broker.client.scan_iter("shapes*", _type="list")
        for text in broker.client.lrange(key, 0, -1)
    ]
    assert [bool(read_task_message(text)) for text in texts] == [True] * 6


def test_no_string_ends_a_worker_or_keeps_it_from_its_tasks(broker: Broker, worker: Worker) -> None:
    kinds = [encoded(garbage) for garbage in GARBAGE.values()]
    connections = worker.log().count("Connected to")

    for turn in range(25):  # 1,250 strings and 100 tasks
        broker.client.lpush(worker.queue, *kinds)
        worker.send("mark", *(f"task-{turn}-{n}" for n in range(4)))
    worker.must(lambda: len(worker.runs_of("task-")) >= 100, "all tasks have run")
    worker.must(lambda: not broker.client.llen(worker.queue), "the queue is empty")

    assert set(Counter(worker.runs_of("task-")).values()) == {1}
    assert worker.log().count("Connected to") == connections
    entries = broker.client.lrange(GARBAGE_KEY, 0, -1)
    assert len(entries) == GARBAGE_KEPT
    assert {len(entry) for entry in entries} <= {min(len(kind), 1024) for kind in kinds}


def test_no_broadcast_ends_a_worker_or_keeps_it_from_answering(
    broker: Broker, worker: Worker
) -> None:
    broker.client.delete(GARBAGE_KEY)
    connections = worker.log().count("Connected to")

    for garbage in GARBAGE.values():
        broker.client.publish("/0.celery.pidbox", encoded(garbage))
    ping = worker.app.control.inspect(timeout=1, limit=1).ping
    worker.must(lambda: ping() == {f"{worker.queue}@probe": {"ok": "pong"}}, "it answers a ping")

    assert worker.log().count("Connected to") == connections
    assert not broker.client.exists(GARBAGE_KEY)  # an answer is no task, and no garbage either


def test_a_broker_that_refuses_the_poll_is_asked_again(broker: Broker, worker: Worker) -> None:
    connections = worker.log().count("Connected to")

    broker.client.set(worker.queue, "not a list")
    worker.must_log("Connected to", connections + 1)
    broker.client.delete(worker.queue)
    worker.send("mark", "after-refusal")

    worker.must_run("after-refusal")


def test_a_garbage_list_that_takes_no_entry_is_no_error(broker: Broker) -> None:
    broker.client.flushall()
    broker.client.set(GARBAGE_KEY, "not a list")

    with broker.app().connection_for_read() as connection, connection.channel() as channel:
        assert not channel.deliver("probe", b"not json")

    assert broker.client.get(GARBAGE_KEY) == b"not a list"


# A broker that goes away.


def test_workers_outlive_three_deaths_of_the_broker_and_go_on(
    broker: Broker, tmp_path: Path
) -> None:
    with running(broker, tmp_path, "no", "yes") as workers:
        for death in range(3):
            held = [f"{death}-{n}" for n in range(6)]
            for worker in workers:
                worker.send("hold", *held)
            for worker in workers:
                worker.must_take(*held)

            broker.kill()
            for worker in workers:
                worker.must_log("Connection to broker lost", death + 1)
                worker.open()
            broker.start()

            for worker in workers:
                worker.send("mark", f"after-{death}")
                worker.must_run(f"after-{death}")
                worker.must(lambda: len(worker.runs_of(f"{death}-")) >= 6, "what it had runs")  # noqa: B023
                assert Counter(worker.runs_of(f"{death}-")) == Counter(held)
                worker.shut()


@pytest.mark.parametrize("acks", ["no", "yes"])
def test_a_dropped_connection_repeats_no_task_and_a_stopped_worker_gives_back_the_rest(
    acks: str, broker: Broker, tmp_path: Path
) -> None:
    first, second = [f"a{n}" for n in range(8)], [f"b{n}" for n in range(8)]
    with running(broker, tmp_path, acks) as (worker,):
        worker.send("hold", *first)
        worker.must_take(*first)
        assert broker.client.exists("unacked") == (acks == "yes")

        broker.client.client_kill_filter(_type="normal", skipme=True)
        worker.must_log("Connected to", 2)
        worker.open()
        worker.must(lambda: set(first) <= set(worker.runs()), "what was taken runs")
        worker.send("mark", "new")
        worker.must_run("new")
        worker.must(lambda: not broker.client.exists("unacked"), "all is acknowledged")
        worker.shut()
        worker.send("hold", *second)
        worker.must_take(*second)
        worker.process.terminate()
        worker.must_log("Stopping Pool", 1)
        worker.open()

        assert worker.process.wait(PATIENCE_S) == 0
        assert Counter(worker.runs_of("a")) == Counter(first)
        given_back = [
            json.loads(base64.b64decode(json.loads(text)["body"]))[0][0]
            for text in broker.client.lrange(worker.queue, 0, -1)
        ]
        assert len(given_back) == 4
        assert Counter(worker.runs_of("b") + given_back) == Counter(second)


class Enough(Exception):
    """Ends an attempt without end."""


def test_a_broker_is_looked_for_every_second_and_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s, attempts_s = [0.0], []

    def refuse(_: transport.Transport) -> None:
        attempts_s.append(clock_s[0])
        raise Enough if len(attempts_s) == 300 else ConnectionRefusedError

    def sleep(pause_s: float) -> None:
        clock_s[0] += pause_s

    monkeypatch.setattr(transport.Transport, "establish_connection", refuse)
    monkeypatch.setattr("kombu.utils.functional.sleep", sleep)
    transport.install()
    consumer = object.__new__(broker_consumer.Consumer)
    consumer.app = Celery(broker="redis://127.0.0.1:1", set_as_current=False)
    consumer.app.conf.update(broker_consumer.SETTINGS)

    with pytest.raises(Enough):
        consumer.connection_for_read()

    assert attempts_s == [n * broker_consumer.RETRY_S for n in range(300)]


# What publishing costs.


def test_a_batch_of_bells_is_a_few_reads_for_the_broker(broker: Broker) -> None:
    app = broker.app()
    with app.producer_pool.acquire(block=True) as producer:
        app.send_task("mark", ["first"], queue="batch", producer=producer)
        assert producer.supports_batch_publish
        broker.client.delete("batch")
        reads = broker.client.info("stats")["total_reads_processed"]

        with producer.batch():
            for n in range(200):
                app.send_task("mark", [n], queue="batch", producer=producer)
            assert not broker.client.exists("batch")

    assert broker.client.llen("batch") == 200
    assert broker.client.info("stats")["total_reads_processed"] - reads < 100


def test_threads_share_the_two_clients_of_their_channel(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.client.flushall()
    made = []
    init = redis.Redis.__init__

    def counting_init(self: redis.Redis, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        init(self, *args, **kwargs)

    monkeypatch.setattr(redis.Redis, "__init__", counting_init)
    with broker.app().connection_for_write() as connection, connection.channel() as channel:
        producer = connection.Producer(channel, auto_declare=False)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: producer.publish(n, routing_key="shared"), range(400)))
        read = [channel.basic_get("shared", no_ack=True).payload for _ in range(400)]

    assert sorted(read) == list(range(400))
    assert len([client for client in made if not isinstance(client, redis.client.Pipeline)]) == 2


def test_installing_wins_over_an_earlier_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kombu.transport._transport_cache, "rediss", StockTransport)

    transport.install()

    assert kombu.transport.get_transport_cls("rediss") is transport.Transport
    assert kombu.transport.get_transport_cls("redis") is transport.Transport
