"""One configured client in a namespace of its own, and the files that are submitted for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import hide_settings
from tests.support.desk import Desk

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk of its own; the user's variables are hidden."""
    hide_settings(monkeypatch)
    monkeypatch.setenv("HEADGATE_CONFIG", str(tmp_path / "headgate.toml"))
    return Desk(tmp_path, store_url)
