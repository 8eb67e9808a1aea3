"""What Flower's log says of logins that were refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestration.cli import flower_pages

if TYPE_CHECKING:
    import pytest


def test_a_thousand_refused_logins_are_a_line_in_ten_seconds_with_their_number(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    refusals = flower_pages._Refusals()

    for _ in range(1000):
        refusals.add("192.0.2.1")
    now_s += 10.0
    refusals.add("192.0.2.2")

    assert [record.getMessage() for record in caplog.records] == [
        "refused logins: 1, the last from 192.0.2.1",
        "refused logins: 1000, the last from 192.0.2.2",
    ]
