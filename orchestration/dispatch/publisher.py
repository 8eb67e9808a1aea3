"""Publishes the bells. A bell is one Celery message: "step k of transaction X may go now".

A message is `chain(step k … step N)` of immutable signatures. They carry names only: the client,
the idempotency key and the number of the step. Many bells leave in one round trip.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from workers.broker.names import queue_of
from workers.ledger.identity import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery

    from workers.governor.grants import Bell

#: Headers that are the same in every message; Celery and Flower read them.
_HEADERS: Final = {
    "lang": "py",
    "retries": 0,
    "ignore_result": True,
    "origin": "headgate",
    "schema": SCHEMA,
    "group": None,
    "kwargsrepr": "{}",
}


def publish(app: Celery, namespace: str, client: str, bells: Iterable[tuple[str, Bell]]) -> None:
    """Publish a chain for each (task name, bell), all in one round trip.

    Each bell goes to the queue of its pool, with a link for each later step. How far the
    chain goes is decided by settle: `may_ring` of lua/includes/backlog.lua never lets it go on to a
    step of another task or pool, which gets a bell of its own.

    Raises:
        kombu.exceptions.OperationalError: the broker is away; any of them may have been published.
    """
    with app.producer_pool.acquire(block=True) as producer, producer.batch():
        for task, bell in bells:
            queue = queue_of(namespace, bell.pool)
            body, headers = build_message(task, client, bell, queue)
            producer.publish(
                body,
                exchange="",
                routing_key=queue,
                headers=headers,
                serializer="json",
                retry=False,
                declare=[],
                delivery_mode=2,
                correlation_id=headers["id"],
            )


def build_message(
    task: str, client: str, bell: Bell, queue: str
) -> tuple[list[Any], dict[str, Any]]:
    """Build body and headers of one bell (Celery's message protocol 2).

    `chain(…).apply_async` would publish the messages one by one, at ten times the CPU. A test
    compares this message with the one that Celery builds.
    """
    names = [client, bell.key, bell.step]
    task_id = str(uuid.uuid4())
    rest = [
        build_signature(task, [client, bell.key, step], queue)
        for step in range(bell.steps, bell.step, -1)
    ]
    embed = {"callbacks": None, "errbacks": None, "chain": rest or None, "chord": None}
    headers = {
        **_HEADERS,
        "task": task,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": repr(tuple(names)),
    }
    return [names, {}, embed], headers


def build_signature(task: str, names: list[Any], queue: str) -> dict[str, Any]:
    """Build one further link of a chain; it is immutable."""
    return {
        "task": task,
        "args": names,
        "kwargs": {},
        "options": {"queue": queue, "task_id": str(uuid.uuid4())},
        "subtask_type": None,
        "immutable": True,
    }
