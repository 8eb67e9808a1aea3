"""A bell is exactly the message that Celery itself would publish, and carries names only."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, chain

from orchestration.dispatch import publisher
from workers.broker import transport
from workers.broker.messages import read_task_message
from workers.governor.grants import Bell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.connection import Store

QUEUE = "probe.calls"
NAMES = ["acme", "0d7b3a52-0000-8000-8000-000000000000"]


@pytest.fixture
def app(store_url: str, store: Store) -> Iterator[Celery]:
    transport.install()
    app = Celery("probe", broker=store_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_default_queue=QUEUE,
        broker_transport_options=transport.transport_options(),
    )
    store.delete(QUEUE)
    yield app
    store.delete(QUEUE)
    app.close()


def queued(store: Store) -> list[tuple[dict[str, Any], list[Any]]]:
    """Headers and body of every message in the queue, the first published first."""
    found = []
    while raw := store.rpop(QUEUE):
        message = json.loads(str(raw))
        found.append((message, json.loads(base64.b64decode(message["body"]))))
    return found


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_bell_is_the_message_that_celery_builds_for_the_rest_of_the_chain(
    app: Celery, store: Store, step: int
) -> None:
    links = [
        app.signature(
            "calls.call", args=(*NAMES, k), immutable=True, queue=QUEUE, ignore_result=True
        )
        for k in range(step, 4)
    ]
    chain(*links, app=app).apply_async(queue=QUEUE)

    publisher.publish(app, "probe", NAMES[0], [("calls.call", Bell(NAMES[1], step, 3, "job"))])

    (theirs, their_body), (ours, our_body) = queued(store)
    assert our_body[:2] == their_body[:2]
    for mine, other in zip(our_body[2]["chain"] or [], their_body[2]["chain"] or [], strict=True):
        assert {k: v for k, v in mine.items() if k != "options"} == {
            k: v for k, v in other.items() if k in mine and k != "options"
        }
        assert mine["options"]["queue"] == other["options"]["queue"]
    needed = {"task", "id", "root_id", "lang", "retries", "argsrepr", "kwargsrepr", "ignore_result"}
    assert needed <= ours["headers"].keys() <= theirs["headers"].keys() | {"origin", "schema"}
    for name in ("task", "lang", "retries", "argsrepr", "kwargsrepr", "ignore_result"):
        assert ours["headers"][name] == theirs["headers"][name], name
    for name in ("content-type", "content-encoding"):
        assert ours[name] == theirs[name]
    assert ours.keys() == theirs.keys()
    own, other = ours["properties"], theirs["properties"]
    assert own.keys() == other.keys() - {"reply_to"}  # nobody waits for an answer
    assert own["correlation_id"] == ours["headers"]["id"] == ours["headers"]["root_id"]
    for name in ("delivery_mode", "delivery_info", "priority", "body_encoding"):
        assert own[name] == other[name], name


@pytest.mark.parametrize("key", ['"}', "%(id)s %s %", "\\", "ä\n\0", "'", "\ud800"])
def test_names_are_encoded_whatever_they_are(key: str) -> None:
    text = publisher.write_message("a.task", key, Bell(key, 2, 4, "job"), "queue %s")

    message = json.loads(text)
    args, _, embed = json.loads(base64.b64decode(message["body"]))
    assert args == [key, key, 2]
    assert [link["args"] for link in embed["chain"]] == [[key, key, 4], [key, key, 3]]
    assert message["headers"]["argsrepr"] == repr((key, key, 2))
    assert message["properties"]["delivery_info"]["routing_key"] == "queue %s"


def test_a_worker_takes_what_is_written() -> None:
    text = publisher.write_message("a.task", "acme", Bell(NAMES[1], 1, 2, "job"), QUEUE)

    envelope = read_task_message(text.encode())

    assert envelope is not None
    assert envelope.content[0] == [*NAMES, 1]


def test_a_broker_that_is_no_redis_gets_the_same_messages() -> None:
    app = Celery("elsewhere", broker="memory://", set_as_current=False)
    bells = [("a.task", Bell(NAMES[1], step, 2, "job")) for step in (1, 2)]
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(QUEUE)  # which is there before it is published to

        publisher.publish(app, "probe", NAMES[0], bells)

        taken = [queue.get(timeout=5) for _ in bells]
    assert [it.payload[0] for it in taken] == [[*NAMES, 1], [*NAMES, 2]]
    assert [it.headers["argsrepr"] for it in taken] == [repr((*NAMES, step)) for step in (1, 2)]
    assert {it.content_type for it in taken} == {"application/json"}
    assert [it.properties["correlation_id"] for it in taken] == [it.headers["id"] for it in taken]


def test_each_ring_is_a_message_of_its_own_so_that_a_revoked_one_is_rung_again(
    app: Celery, store: Store
) -> None:
    bell = ("calls.call", Bell(NAMES[1], 1, 2, "job"))
    for _ in range(2):
        publisher.publish(app, "probe", NAMES[0], [bell])

    messages = queued(store)
    ids = [it["headers"]["id"] for it, _ in messages]
    ids += [link["options"]["task_id"] for _, body in messages for link in body[2]["chain"]]
    assert len(set(ids)) == 4


def test_a_hundred_bells_leave_in_one_round_trip(app: Celery, store: Store) -> None:
    bell = ("calls.call", Bell(NAMES[1], 1, 1, "job"))
    publisher.publish(app, "probe", NAMES[0], [bell])  # connects
    before = store.info("stats")["total_reads_processed"]

    publisher.publish(app, "probe", NAMES[0], [bell] * 100)

    after = store.info("stats")["total_reads_processed"]
    assert len(queued(store)) == 101
    assert after - before <= 20  # one write of 100 kB, which the server reads in pieces
