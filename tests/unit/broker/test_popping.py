"""A poll brings as many messages as there is room for, from the most urgent queue that has any."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.worker import state
from kombu.asynchronous.hub import Hub
from kombu.transport.redis import MultiChannelPoller
from redis.exceptions import NoPermissionError

from tests.conftest import start_server
from workers.broker import transport
from workers.broker.consumer import Consumer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kombu.connection import Connection

    from workers.store.connection import Store


class Taker:
    """Somebody who takes from queues of their own, and has room for `room` messages at once."""

    def __init__(self, url: str, room: int, **options: Any) -> None:
        transport.install()
        self.queue, self.taken = f"probe-{uuid4().hex}", list[Any]()
        self.app = Celery(broker=url, set_as_current=False)
        self.app.conf.broker_transport_options = transport.transport_options() | options
        self.connection: Connection = self.app.connection_for_read()
        self.channel: Any = self.connection.default_channel
        self.channel.count_free = lambda: room
        consumer = self.connection.Consumer(
            [self.app.amqp.queues.select_add(self.queue)],
            callbacks=[self.take],
            accept=["json"],
        )
        consumer.consume()

    def take(self, body: Any, message: Any) -> None:
        message.ack()
        self.taken.append(body[0][0])

    def send(self, *names: str, priority: int = 0) -> None:
        for name in names:
            self.app.send_task("mark", [name], queue=self.queue, priority=priority)

    def poll(self) -> list[str]:
        """What the next poll brings."""
        self.taken.clear()
        self.connection.drain_events(timeout=5)
        return self.taken


@pytest.fixture
def taker_of(store_url: str, store: Store) -> Iterator[Callable[..., Taker]]:
    takers: list[Taker] = []

    def make(room: int, url: str = store_url, **options: Any) -> Taker:
        takers.append(Taker(url, room, **options))
        return takers[-1]

    yield make
    for taker in takers:
        taker.connection.release()
        store.delete(taker.queue)


def turn(loop: Iterator[None], times: int) -> None:
    for _ in range(times):
        next(loop)


def count(store: Store, command: str) -> int:
    stats: dict[str, Any] = store.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_a_poll_brings_as_many_as_there_is_room_for_the_oldest_first(
    taker_of: Callable[..., Taker],
) -> None:
    taker = taker_of(3)
    taker.send("a", "b", "c", "d", "e")

    assert taker.poll() == ["a", "b", "c"]
    assert taker.poll() == ["d", "e"]


def test_a_poll_brings_what_is_urgent_first(taker_of: Callable[..., Taker]) -> None:
    taker = taker_of(5)
    taker.send("later", priority=9)
    taker.send("now", "now, too", priority=0)

    assert taker.poll() == ["now", "now, too"]
    assert taker.poll() == ["later"]


def test_room_for_one_needs_nothing_that_an_old_server_lacks(
    taker_of: Callable[..., Taker], store: Store
) -> None:
    taker, before = taker_of(1), count(store, "blmpop")
    taker.send("a", "b")

    assert [taker.poll().copy(), taker.poll()] == [["a"], ["b"]]
    assert count(store, "blmpop") == before


def test_what_is_no_task_keeps_nothing_from_coming(
    taker_of: Callable[..., Taker], store: Store
) -> None:
    taker = taker_of(5)
    taker.send("a")
    store.lpush(taker.queue, "not json")
    taker.send("b")

    assert taker.poll() == ["a", "b"]


def test_a_prefix_of_all_keys_is_no_part_of_the_queue(taker_of: Callable[..., Taker]) -> None:
    taker = taker_of(5, global_keyprefix="prefix-")
    taker.send("a", "b")

    assert taker.poll() == ["a", "b"]


def test_a_user_who_may_not_take_several_at_once_takes_one_after_the_other(
    taker_of: Callable[..., Taker], store: Store, store_url: str
) -> None:
    store.execute_command(
        "ACL", "SETUSER", "single", "on", ">single", "~*", "&*", "+@all", "-blmpop"
    )
    taker = taker_of(5, store_url.replace("redis://", "redis://single:single@"))
    taker.send("a", "b")
    before = count(store, "brpop")

    assert [taker.poll().copy(), taker.poll()] == [["a"], ["b"]]
    assert count(store, "brpop") - before >= 2

    store.execute_command("ACL", "SETUSER", "single", "-brpop")
    with pytest.raises(NoPermissionError):  # as ever: a refusal of the queue itself
        taker.poll()
    store.execute_command("ACL", "DELUSER", "single")


def test_a_server_that_does_not_know_the_command_gives_one_after_the_other(
    taker_of: Callable[..., Taker], tmp_path: Path
) -> None:
    process, url = start_server(tmp_path, "--rename-command", "BLMPOP", "")
    try:
        taker = taker_of(5, url)
        taker.send("a", "b")

        assert [taker.poll().copy(), taker.poll()] == [["a"], ["b"]]
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_the_event_loop_is_told_of_a_socket_once(
    taker_of: Callable[..., Taker], monkeypatch: pytest.MonkeyPatch
) -> None:
    taker, hub, added = taker_of(5), Hub(), list[int]()
    add = hub.poller.register

    def register(descriptor: Any, events: int) -> None:
        added.append(descriptor)
        add(descriptor, events)

    monkeypatch.setattr(hub.poller, "register", register)
    taker.connection.transport.register_with_event_loop(taker.connection.connection, hub)
    loop = hub.create_loop()
    for number in range(10):
        taker.send(str(number))
        while len(taker.taken) <= number:
            next(loop)

    assert taker.taken == [str(number) for number in range(10)]
    assert len(added) <= 3  # kombu's poller, the loop, and what wakes it
    hub.close()


def test_a_socket_that_comes_back_is_added_again(
    taker_of: Callable[..., Taker], store: Store
) -> None:
    taker, hub = taker_of(5), Hub()
    taker.connection.transport.register_with_event_loop(taker.connection.connection, hub)
    loop = hub.create_loop()
    next(loop)
    store.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(taker.connection.connection_errors):
        turn(loop, 5)
    taker.send("a")

    loop = hub.create_loop()
    while not taker.taken:
        next(loop)

    assert taker.taken == ["a"]
    hub.close()


def test_a_worker_has_room_for_as_many_as_its_threads_are_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = object.__new__(Consumer)
    ours.pool = SimpleNamespace(num_processes=4)
    monkeypatch.setattr(state, "reserved_requests", {"running", "waiting"})

    assert ours.count_free_threads() == 2


def test_kombu_has_the_private_names_that_are_used() -> None:
    stock, ours = transport.stock.Channel, transport.Channel
    for name in ("_brpop_start", "_brpop_read"):
        assert name in vars(stock), name
        assert getattr(ours, name) is not getattr(stock, name)
    assert {"_register_BRPOP", "on_poll_start"} <= vars(MultiChannelPoller).keys()
