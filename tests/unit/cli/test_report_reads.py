"""The report reads few transactions at a time, for each may hold large answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestration.views import pages
from orchestration.views.pages import AT_ONCE, transactions_of
from orchestration.views.report import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from tests.support.world import World


def test_report_and_doctor_hold_few_transactions_of_a_page_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit(2 * AT_ONCE + 1, more=[{"line": 102, "id": "bad", "error": "is bad"}])
    ledger, asked = world.client.ledger, list[int]()
    read = ledger.transactions

    def count(keys: Sequence[str]) -> Any:
        asked.append(len(keys))
        return read(keys)

    monkeypatch.setattr(ledger, "transactions", count)
    lines = [status.line for status in report(world.client, "j1")]
    seen = [one.row["line"] for one in transactions_of(world.client, "j1", 0)]

    assert lines == list(range(1, 2 * AT_ONCE + 3))
    assert seen == lines[:-1]
    assert max(asked) == AT_ONCE == pages.AT_ONCE
