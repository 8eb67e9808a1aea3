"""One configured client with work in the store and no worker, and looks for its notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import hide_settings
from tests.support.notices import Looks
from tests.support.world import SECRET, World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world of its own; the user's variables are hidden."""
    hide_settings(monkeypatch)
    monkeypatch.setenv("HEADGATE_CONFIG", str(tmp_path / "headgate.toml"))
    monkeypatch.setenv("ACME_SECRET", SECRET)
    return World(tmp_path, store_url)


@pytest.fixture
def looks(world: World) -> Looks:
    """What workers with [notify] see of that world."""
    return Looks(world)
