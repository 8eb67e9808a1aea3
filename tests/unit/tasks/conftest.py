"""Each test begins with a process that has warned of nothing."""

from __future__ import annotations

import pytest

from tasks.steps import call


@pytest.fixture(autouse=True)
def no_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "_warned", {})
