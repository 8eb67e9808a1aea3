"""Limits and pauses that are set live, on real workers: both obey at once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from click.testing import CliRunner

from orchestration.cli import main
from orchestration.views.status import status
from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls, until
from workers.ledger import audit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest


WHY = ("--reason", "maintenance", "--by", "maria")


def test_two_workers_obey_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Fleet(limits=[{"name": "app", "count": 100}]) as fleet:
        _environment(monkeypatch, fleet.environment)
        fleet.submit(calls(450))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        until(lambda: status(fleet.client).workers == 2, what="two workers", fleet=fleet)
        fleet.wait_for(150)

        lowered_us = _headgate("limits", "set", "acme", "app", "--count", "50")
        _wait_until_us(lowered_us + 3_000_000)
        paused_us = _headgate("client", "pause", "acme")
        _wait_until_us(paused_us + 2_000_000)
        resumed_us = _headgate("client", "resume", "acme")
        assert fleet.wait() == {"succeeded": 450}

        arrivals = [it["t_us"] for it in fleet.requests()]

        def seen(from_us: int, to_us: int) -> int:
            return sum(from_us <= it < to_us for it in arrivals)

        # At most a burst of 40 and 45 a second: 90 a second would be 180.
        assert 0 < seen(lowered_us + 1_000_000, lowered_us + 3_000_000) <= 40 + 45 * 2.1
        assert seen(paused_us + 1_000_000, resumed_us - 500_000) == 0
        assert seen(resumed_us - 500_000, resumed_us + 1_000_000) <= 45 * 1.6  # from empty
        entries = audit.read(fleet.client.store, fleet.client.keys)
        assert [it.action for it in entries] == ["client resume", "client pause", "limits set"]
        check_all(fleet)


def _environment(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    for name in ("HEADGATE_CONFIG", "ACME_SECRET"):
        monkeypatch.setitem(os.environ, name, environment[name])


def _headgate(*args: str) -> int:
    """Run a command that changes something; returns when it was done."""
    result = CliRunner().invoke(main, [*args, *WHY], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return time.time_ns() // 1000


def _wait_until_us(moment_us: int) -> None:
    until(lambda: time.time_ns() // 1000 >= moment_us, what="the moment")
