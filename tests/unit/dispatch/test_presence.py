"""A worker is in the registry as what it is: one without clients, and one that takes no bells."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import NoPermissionError

from orchestration.dispatch import dispatcher, presence
from orchestration.dispatch.dispatcher import Dispatcher
from orchestration.dispatch.wakes import Wakes
from tests.conftest import hide_settings
from tests.support.fleet import until
from tests.support.world import SECRET, World
from workers.app import app
from workers.broker.reception import GRACE_S, Reception
from workers.clients import Clients
from workers.errors import StoreAway
from workers.governor.registry import Process, Registry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world of its own; the user's variables are hidden."""
    hide_settings(monkeypatch)
    monkeypatch.setenv("ACME_SECRET", SECRET)
    return World(tmp_path, store_url)


def living(world: World) -> list[Process]:
    return [*Registry(world.client.store, world.namespace).look().live.values()]


def test_a_worker_without_clients_is_alive(world: World) -> None:
    settings = world.clients.settings.model_copy(update={"clients": {}})
    it = Dispatcher(app, Clients(settings), "w1@here", threads=4)

    it.start()
    until(lambda: living(world), what="a heartbeat")

    it.stop()
    assert living(world) == []


def test_a_dispatcher_goes_on_whatever_one_of_its_waits_met(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits = iter([StoreAway("it does not start"), ValueError("of any kind")])

    def wait(_: Wakes, timeout_s: float) -> tuple[str, ...]:
        time.sleep(min(timeout_s, 0.01))
        for error in waits:
            raise error
        return ()

    monkeypatch.setattr(Wakes, "wait", wait)
    monkeypatch.setattr(dispatcher, "RETRY_TURN_S", 0.01)
    it = Dispatcher(app, world.clients, "w1@here", threads=4)

    it.start()

    until(lambda: "nothing was rung" in caplog.text and next(waits, None) is None)
    assert "nothing is rung for now: it does not start" in caplog.text
    assert it.is_alive()
    it.stop()


def test_a_worker_whose_queue_is_refused_rings_nobody_and_says_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    reception = Reception(lambda: now_s[0])
    for module in (dispatcher, presence):
        monkeypatch.setattr(module, "reception", reception)
    it = Dispatcher(app, world.clients, "w1@here", threads=4)
    assert it._is_present()
    reception.note_failure(NoPermissionError("no"))
    now_s[0] += GRACE_S

    it._presence.keep(now=True)

    (process,) = living(world)
    assert process.takes_none == "the broker refuses (NoPermissionError: no)"
    assert not it._is_present()
    reception.clear()
    assert it._is_present()
    it._presence.end()
