"""Each test begins as a process that takes bells, and that was never started again."""

from __future__ import annotations

from collections import deque

import pytest

from orchestration.dispatch.restarts import restarts
from workers.broker.reception import Reception, reception


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in vars(Reception()).items():
        monkeypatch.setattr(reception, name, value)
    monkeypatch.setattr(restarts, "_ends", deque(maxlen=100))
    monkeypatch.setattr(restarts, "last_words", "")
