"""A task that runs again sends no write under a key that its provider has forgotten."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import requests
from celery import Celery
from requests.adapters import BaseAdapter

from tasks import governed
from tasks.governed import Governed
from tests.support.apart import settings_apart
from workers.clients import Client
from workers.errors import RepeatRefused, StoreAway, Throttled
from workers.governor.governor import KEY_LIFE_S
from workers.session.writes import KEPT_ENDED_S, KEPT_S, Write, Writes
from workers.settings.client import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.connection import Store

HOUR_US = 3600 * 1_000_000
LOST = requests.ConnectionError("sent, and no answer came back")
HELD = Throttled("no token", 60.0)


class Provider(BaseAdapter):
    """Answers as a test says, and keeps what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, str, Any]] = []
        self.answers: list[Exception | None] = []

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        error = self.answers.pop(0) if self.answers else None
        if isinstance(error, Throttled | StoreAway):
            raise error
        self.sent.append((str(request.url), request.headers["Idempotency-Key"], request.body))
        if error:
            raise error
        answer = requests.Response()
        answer.status_code = 201
        return answer

    def close(self) -> None:
        """Nothing is open."""


class World:
    """A client on a real store with a held clock, and a task of two writes."""

    def __init__(self, store: Store, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
        self.us = 1_790_000_000_000_000
        configured = ClientSettings(name=uuid4().hex, base_url="http://provider/v1")
        self.client = Client(configured, settings_apart(), store, lambda: self.us)
        self.provider = Provider()
        self.session = governed._Session.of(self.client, "normal", "-", 2.0)
        self.session.mount("http://provider/v1/", self.provider)
        monkeypatch.setattr(governed, "_session", lambda *_: self.session)
        app.conf.task_always_eager = app.conf.task_eager_propagates = True
        self.app = app
        self.bodies = [{"n": 1}, {"n": 2}]
        self.given: dict[str, str] = {}
        self.task = self.make()

    def make(self, **options: Any) -> Any:
        world = self

        @self.app.task(base=Governed, bind=True, shared=False, client="acme", **options)  # type: ignore[untyped-decorator]
        def send(self: Any) -> None:
            for number, body in enumerate(world.bodies):
                self.session.post(f"/things/{number}", json=body, headers=world.given)

        return send

    def run(self, *answers: Exception | None, task_id: str = "t1") -> None:
        """The message comes once more."""
        self.provider.answers = list(answers)
        self.task.apply_async(task_id=task_id)

    @property
    def kept(self) -> list[str]:
        """Names of what the store keeps of tasks."""
        keys: Any = self.client.store.keys(f"{self.client.keys.prefix}writes:*")
        return keys


@pytest.fixture
def world(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with Celery("test", broker="memory://", set_as_current=False) as app:
        yield World(store, app, monkeypatch)


def test_a_write_that_was_sent_a_day_ago_is_not_sent_again(world: World) -> None:
    with pytest.raises(Throttled):
        world.run(None, HELD)
    world.us += 24 * HOUR_US

    with pytest.raises(RepeatRefused, match="too old for the provider to remember"):
        world.run()

    assert len(world.provider.sent) == 1


def test_the_age_runs_from_the_first_send_whatever_came_between(world: World) -> None:
    for _ in range(3):
        with pytest.raises(Throttled):
            world.run(None, HELD)
        world.us += 10 * HOUR_US

    with pytest.raises(RepeatRefused, match="30 h ago"):
        world.run()
    assert len({key for _, key, _ in world.provider.sent}) == 1
    assert len(world.provider.sent) == 3


def test_no_send_begins_so_late_that_it_could_arrive_after_the_life_of_its_key(
    world: World,
) -> None:
    with pytest.raises(Throttled):
        world.run(None, HELD)
    latest_s = KEY_LIFE_S - world.client.configured.total_timeout_s - 2.0
    world.us += round(latest_s * 1e6)
    with pytest.raises(Throttled):
        world.run(None, HELD)
    world.us += 1

    with pytest.raises(RepeatRefused):
        world.run()


@pytest.mark.parametrize("error", [HELD, StoreAway("away")])
def test_a_task_that_sent_nothing_may_be_held_as_long_as_need_be(
    world: World, error: Exception
) -> None:
    for _ in range(3):
        with pytest.raises(type(error)):
            world.run(error)
        world.us += 100 * HOUR_US

    world.run()

    assert len(world.provider.sent) == 2


def test_a_send_without_an_answer_may_have_been_executed_so_its_key_ages(world: World) -> None:
    with pytest.raises(requests.ConnectionError):
        world.run(LOST)
    with pytest.raises(Throttled):
        world.run(HELD)  # what was not executed in this run may have been in the one before
    world.us += 24 * HOUR_US

    with pytest.raises(RepeatRefused):
        world.run()
    assert len(world.provider.sent) == 1


def test_a_clock_that_is_set_back_makes_no_key_younger(world: World) -> None:
    with pytest.raises(Throttled):
        world.run(None, HELD)
    world.us += 20 * HOUR_US
    world.client.store.hset(world.client.keys.governor, "at", world.us)  # when it was rung last
    world.us -= 15 * HOUR_US

    world.client.governor().sweep()
    with pytest.raises(Throttled):
        world.run(None, HELD)
    world.us += 4 * HOUR_US

    with pytest.raises(RepeatRefused):
        world.run()


def test_a_clock_that_was_set_back_unseen_stops_what_was_sent_since(world: World) -> None:
    with pytest.raises(Throttled):
        world.run(None, HELD)
    world.us -= HOUR_US

    with pytest.raises(RepeatRefused, match="clock was set back"):
        world.run()


def test_another_body_is_not_sent_under_the_key_of_a_write(world: World) -> None:
    with pytest.raises(Throttled):
        world.run(None, HELD)
    world.bodies[0] = {"n": "now"}

    with pytest.raises(RepeatRefused, match="another method, URL or body"):
        world.run()

    assert len(world.provider.sent) == 1


def test_what_was_not_executed_may_be_sent_otherwise(world: World) -> None:
    with pytest.raises(Throttled):
        world.run(HELD)
    world.bodies[0] = {"n": "now"}

    world.run()

    assert len(world.provider.sent) == 2


def test_a_key_of_the_tasks_own_is_for_the_task_to_answer_for(world: World) -> None:
    world.given = {"Idempotency-Key": "mine"}
    world.run()
    world.us += 24 * HOUR_US
    world.bodies[0] = {"n": "now"}

    world.run()

    assert [key for _, key, _ in world.provider.sent] == ["mine"] * 4
    assert world.kept == []


def test_a_file_is_sent_whole_and_compared_too(world: World) -> None:
    class Upload(Governed):
        abstract = True

    @world.app.task(base=Upload, bind=True, shared=False, client="acme", name="upload")  # type: ignore[untyped-decorator]
    def upload(self: Any, text: bytes) -> None:
        self.session.post("/things/1", data=BytesIO(text))

    upload.apply_async([b"one"], task_id="t1")
    assert [body for _, _, body in world.provider.sent] == [b"one"]

    with pytest.raises(RepeatRefused):
        upload.apply_async([b"two"], task_id="t1")


def test_what_is_kept_of_a_task_ends(world: World) -> None:
    with pytest.raises(Throttled):
        world.run(None, HELD)
    (record,) = world.kept
    assert KEPT_S - 60 < world.client.store.ttl(record) <= KEPT_S

    world.run()
    assert 0 < world.client.store.ttl(record) <= KEPT_ENDED_S


def test_a_message_that_is_acknowledged_late_may_come_again_for_long(world: World) -> None:
    world.task = world.make(acks_late=True, name="late")
    world.run()

    (record,) = world.kept
    assert world.client.store.ttl(record) > KEPT_ENDED_S


def test_it_is_not_retried_as_a_failure_that_would_pass(world: World) -> None:
    world.task = world.make(autoretry_for=(Exception,), name="insist")
    with pytest.raises(Throttled):
        world.run(None, HELD)
    world.us += 24 * HOUR_US

    with pytest.raises(RepeatRefused):
        world.run()


def test_what_a_second_run_of_the_same_message_sent_is_not_forgotten_by_the_first(
    world: World,
) -> None:
    """The message came twice, and both runs go at once."""
    writes, write = Writes(world.client, 2.0), Write("task", "key", "0a")
    writes.begin(write)
    writes.begin(write)

    writes.forget(write)

    world.us += 24 * HOUR_US
    with pytest.raises(RepeatRefused):
        writes.begin(write)
