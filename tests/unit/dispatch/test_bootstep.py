"""What a worker starts beside its pool."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from orchestration.dispatch import bootstep
from orchestration.dispatch.bootstep import DispatcherStep
from tests.conftest import hide_settings
from workers.clients import Clients
from workers.governor.flows import CALLS_POOL, MEDIA_POOL
from workers.settings.load import load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("pool", [CALLS_POOL, MEDIA_POOL])
@pytest.mark.parametrize("lines", ["", 'command = "tell"'])
def test_a_notifier_runs_where_somebody_is_to_be_told_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, pool: str
) -> None:
    hide_settings(monkeypatch)
    (tmp_path / "headgate.toml").write_text(f"[notify]\n{lines}\n")
    clients, happened = Clients(load(tmp_path / "headgate.toml")), list[str]()

    def thread(name: str) -> SimpleNamespace:
        return SimpleNamespace(
            start=lambda: happened.append(f"{name} starts"),
            stop=lambda: happened.append(f"{name} stops"),
        )

    monkeypatch.setattr(bootstep, "clients", lambda: clients)
    monkeypatch.setattr(bootstep, "pool_of", lambda *_: pool)
    monkeypatch.setattr(bootstep, "SWITCH_S", sys.getswitchinterval())
    monkeypatch.setattr(bootstep, "Dispatcher", lambda *_, **__: thread("dispatcher"))
    monkeypatch.setattr(bootstep, "Notifier", lambda _: thread("notifier"))
    queues = SimpleNamespace(consume_from=[])
    app = SimpleNamespace(amqp=SimpleNamespace(queues=queues), conf=SimpleNamespace())
    worker = SimpleNamespace(app=app, concurrency=1, hostname="w1@here")

    step = DispatcherStep(worker)
    step.start(worker)
    step.stop(worker)

    assert ("notifier starts" in happened) == ("notifier stops" in happened) == bool(lines)
    assert happened[0] == "dispatcher starts"
