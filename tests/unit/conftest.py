"""Each test begins as a process that takes bells, and that was never started again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest

from orchestration.dispatch.restarts import restarts
from tests.conftest import hide_settings
from tests.support.world import SECRET, World
from workers.broker.reception import Reception, reception

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in vars(Reception()).items():
        monkeypatch.setattr(reception, name, value)
    monkeypatch.setattr(restarts, "_ends", deque(maxlen=100))
    monkeypatch.setattr(restarts, "last_words", "")


@pytest.fixture
def world(tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """One configured client in a namespace of its own; the variables of the user are hidden."""
    hide_settings(monkeypatch)
    monkeypatch.setenv("HEADGATE_CONFIG", str(tmp_path / "headgate.toml"))
    monkeypatch.setenv("ACME_SECRET", SECRET)
    return World(tmp_path, store_url)
