"""How often a worker reads which breakers are open."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from orchestration.dispatch import breaker_log
from orchestration.dispatch.breaker_log import BreakerLog
from workers.governor.failures import Failure

if TYPE_CHECKING:
    import pytest


def test_breakers_of_a_client_and_of_its_scope_are_read_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads: list[str] = []
    of_client = Failure(
        scope="client", cause="failing", since_us=0, why="", seen_us=0, probe_us=1
    )  # it covers all scopes

    def read(*_: object) -> list[Failure]:
        reads.append("read")
        return [of_client]

    monkeypatch.setattr(breaker_log, "failures", read)
    monkeypatch.setattr(breaker_log.flows, "spans", lambda *_: {})
    monkeypatch.setattr(breaker_log.GovernorState, "read", lambda *_: None)
    client: Any = SimpleNamespace(name="acme", store=None, keys=None)
    log = BreakerLog()
    monkeypatch.setattr(breaker_log.time, "monotonic", lambda: 100.0)

    for _ in range(5):
        log.note(client, 2)
    assert len(reads) == 1

    log.note(client, 1)
    assert len(reads) == 2
    monkeypatch.setattr(breaker_log.time, "monotonic", lambda: 101.0)
    log.note(client, 1)
    assert len(reads) == 3
