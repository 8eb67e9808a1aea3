"""A task message is read once, checked as it is read, and never read again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from kombu import Connection
from kombu.utils import json as kombu_json

from tests.support.killing import a_task
from workers.broker import messages, transport
from workers.broker.messages import Envelope, TaskMessage, read_task_message


def read(message: dict[str, Any]) -> Envelope:
    envelope = read_task_message(json.dumps(message).encode())
    assert envelope is not None
    return envelope


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("kombu.transport.redis.Channel._connparams", lambda *_: {})
    return object.__new__(transport.Channel)


def test_the_fields_of_a_message_are_kept_and_its_body_is_read() -> None:
    message = a_task("headers/own", {"a": [1.5, None]}, body=[["ä", 1], {"b": 2}, {"chain": []}])

    envelope = read(message)

    assert dict(envelope) == message
    assert envelope.content == (["ä", 1], {"b": 2}, {"chain": []})


def test_a_type_that_kombu_marks_is_kept() -> None:
    moment, number = datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7)
    body = json.loads(kombu_json.dumps([[number], {}, {}]))
    header = json.loads(kombu_json.dumps(moment))

    envelope = read(a_task("headers/since", header, body=body))

    assert envelope["headers"]["since"] == moment
    assert envelope.content[0] == [number]


def test_a_mark_makes_no_header_what_celery_cannot_read() -> None:
    moment = json.loads(kombu_json.dumps(datetime(2026, 1, 1, tzinfo=UTC)))

    for field in ("headers/eta", "headers/task", "headers", "properties"):
        assert read_task_message(json.dumps(a_task(field, moment)).encode()) is None


def test_what_was_read_is_not_read_again(channel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    envelope = read(a_task())
    monkeypatch.setattr("kombu.message.loads", None)  # which would read the body
    monkeypatch.setattr(messages, "b64decode", None)

    message = TaskMessage(envelope, channel)

    assert message.payload is message.body is envelope.content
    assert message.content_type is None  # where it is one, Celery's threads read the body
    assert not message.errors
    assert (message.headers["task"], message.delivery_tag) == ("mark", "tag-1")


def test_a_message_that_is_put_back_is_the_one_that_came(channel: Any) -> None:
    message = a_task(body=[["x"], {}, {"chain": None}])

    assert TaskMessage(read(message), channel).serializable() == message


def test_an_answer_to_remote_control_is_read_by_kombu() -> None:
    text = a_task(body={"ok": "pong"})
    with Connection("memory://") as connection:
        message = TaskMessage(text, connection.default_channel)

    assert message.payload == {"ok": "pong"}
