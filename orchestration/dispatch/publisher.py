"""Publishes the bells. A bell is one Celery message: "step k of transaction X may go now".

A message is `chain(step k … step N)` of immutable signatures. They carry names only: the client,
the idempotency key and the number of the step. Each is written from a template, which is the
message with its key and its ids left out; many leave in one command.
"""

from __future__ import annotations

import json
import uuid
from base64 import b64decode, b64encode
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from json import dumps
from typing import TYPE_CHECKING, Any, Final, Self

from workers.broker.names import queue_of
from workers.broker.transport import Channel
from workers.ledger.identity import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery
    from kombu.messaging import Producer

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
#: Stand in a template for what differs from bell to bell; no name holds what is drawn here.
_ID, _KEY, _NAMES, _BODY = (f"<{uuid.uuid4()}>" for _ in range(4))


def publish(app: Celery, namespace: str, client: str, bells: Iterable[tuple[str, Bell]]) -> None:
    """Publish a chain for each (task name, bell), in one command for each queue.

    Each bell goes to the queue of its pool, with a link for each later step. How far the
    chain goes is decided by settle: `may_ring` of lua/includes/backlog.lua never lets it go on to a
    step of another task or pool, which gets a bell of its own.

    Raises:
        kombu.exceptions.OperationalError: the broker is away; any of them may have been published.
    """
    texts = defaultdict[str, list[str]](list)
    for task, bell in bells:
        queue = queue_of(namespace, bell.pool)
        texts[queue].append(write_message(task, client, bell, queue))
    with app.producer_pool.acquire(block=True) as producer:
        channel = producer.channel
        for queue, messages in texts.items():
            if isinstance(channel, Channel):
                channel.push(queue, messages)
            else:
                publish_each(producer, queue, messages)


def publish_each(producer: Producer, queue: str, messages: Iterable[str]) -> None:
    """Publish messages to a broker that is no Redis, one by one."""
    for text in messages:
        message = json.loads(text)
        producer.publish(  # type: ignore[no-untyped-call]
            b64decode(message["body"]),
            exchange="",
            routing_key=queue,
            headers=message["headers"],
            content_type=message["content-type"],
            content_encoding=message["content-encoding"],
            retry=False,
            declare=[],
            delivery_mode=2,
            correlation_id=message["headers"]["id"],
        )


def write_message(task: str, client: str, bell: Bell, queue: str) -> str:
    """Write one bell as it lies in a queue of kombu's (Celery's message protocol 2).

    `chain(…).apply_async` would build and publish the messages one by one, at fifty times the CPU.
    A test compares this message with the one that Celery builds.
    """
    template = _Template.of(task, client, bell.step, bell.steps, queue)
    own = {"id": uuid.uuid4(), "key": dumps(bell.key)}
    own["names"] = dumps(repr((client, bell.key, bell.step)))
    own["body"] = b64encode((template.body % own).encode()).decode()
    return template.message % own


@dataclass(frozen=True, slots=True)
class _Template:
    """A bell as text, with a place for each thing that differs from transaction to transaction."""

    body: str
    message: str

    @classmethod
    @lru_cache(maxsize=1000)
    def of(cls, task: str, client: str, step: int, steps: int, queue: str) -> Self:
        """The template of all bells for this step."""
        rest = [build_signature(task, client, later, queue) for later in range(steps, step, -1)]
        embed = {"callbacks": None, "errbacks": None, "chain": rest or None, "chord": None}
        headers = {
            **_HEADERS,
            "task": task,
            "id": _ID,
            "root_id": _ID,
            "parent_id": None,
            "argsrepr": _NAMES,
        }
        message = {
            "body": _BODY,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {
                "correlation_id": _ID,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": _ID,
            },
        }
        return cls(_with_places([[client, _KEY, step], {}, embed]), _with_places(message))


def build_signature(task: str, client: str, step: int, queue: str) -> dict[str, Any]:
    """Build one further link of a chain; it is immutable."""
    return {
        "task": task,
        "args": [client, _KEY, step],
        "kwargs": {},
        "options": {"queue": queue, "task_id": f"{_ID}-{step}"},
        "subtask_type": None,
        "immutable": True,
    }


def _with_places(parts: object) -> str:
    """Write JSON with a place for `%` to fill in where a mark stands.

    What is JSON already brings its quotes along.
    """
    text = dumps(parts).replace("%", "%%")
    text = text.replace(f'"{_KEY}"', "%(key)s").replace(f'"{_NAMES}"', "%(names)s")
    return text.replace(_ID, "%(id)s").replace(_BODY, "%(body)s")
