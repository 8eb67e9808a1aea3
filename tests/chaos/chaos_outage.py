"""A provider that goes down under four clients at once, one a guard; it stores no 5xx.

Each run prints its table. The short form is tests/fleet/test_outage.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from orchestration.views.invariants import check_ledger, everything_ended
from tests.support.faults.checks import assert_nothing_left
from tests.support.faults.outage import (
    GUARDS,
    RECOVERY_S,
    Figures,
    Outage,
    fault,
    figures,
    rows_of,
    table,
)
from tests.support.fleet import Fleet
from workers.settings.limits import LimitSettings, bucket_of

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A call that hangs is over in seconds; all else is as the product has it.
TIMEOUTS: Final = {
    "connect_timeout_s": 2.0,
    "read_timeout_s": 5.0,
    "total_timeout_s": 10.0,
    "backoff_base_s": 1.0,
}
WORKERS: Final = ("w1", "w2")
THREADS_EACH: Final = 16
#: Of each client, before its outage begins.
ROWS_BEFORE: Final = 30


@pytest.mark.parametrize("shape", ["503", "resets", "hangs", "proxy page", "half"])
def test_an_outage_of_a_minute_ends_no_row_and_little_goes_into_it(
    shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clients = {guard: (shape, guard, 60.0) for guard in GUARDS}

    lines = run(clients, rows=750, count=30)

    assert_kept(lines, capsys)


def test_outages_of_5_and_10_minutes_end_no_row_and_little_goes_into_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All at once: what one client meets is nothing to another."""
    clients = {
        f"{shape}-{minutes}-{guard}": (shape, guard, 60.0 * minutes)
        for shape in ("503", "hangs")
        for minutes in (5, 10)
        for guard in GUARDS
    }

    lines = run(clients, rows=150, count=6)

    assert_kept(lines, capsys)


def assert_kept(lines: list[Figures], capsys: pytest.CaptureFixture[str]) -> None:
    """Print the table, which is what the run is for, and hold it against the outage rules."""
    with capsys.disabled():
        print(f"\n{table(lines)}")
    broken = [text for line in lines for text in line.violations()]
    assert broken == [], "\n".join(broken)


def run(clients: Mapping[str, tuple[str, str, float]], rows: int, count: int) -> list[Figures]:
    """Let each client meet its outage in the middle of its rows; the figures when all have ended.

    Args:
        clients: Name → shape, guard, and seconds of the outage.
        rows: Of each client.
        count: Calls a second that the provider allows each client.
    """
    limit = {"name": "app", "count": count}
    rate = bucket_of(LimitSettings(**limit)).rate
    with Fleet([limit], client=TIMEOUTS, names=clients) as fleet:
        for name, (_, guard, _) in clients.items():
            # Names of its own: an object that another client made would be found, not sent.
            fleet.of(name).submit(rows_of(guard, rows, prefix=name))
        for name in WORKERS:
            fleet.start_worker(name, THREADS_EACH)
        for name in clients:
            fleet.of(name).wait_for(ROWS_BEFORE, timeout_s=60)
        orders = [fault(shape, seconds, name) for name, (shape, _, seconds) in clients.items()]
        fleet.sandbox.post("faults", orders)
        began_us = fleet.sandbox.get("health")["t_us"]
        longest_s = max(seconds for _, _, seconds in clients.values())
        for name in clients:
            fleet.of(name).wait(timeout_s=longest_s + 2 * RECOVERY_S + 2 * rows / rate)
        requests = fleet.requests()
        lines = []
        for name, (shape, guard, seconds) in clients.items():
            outage = Outage(
                shape=shape,
                guard=guard,
                seconds=seconds,
                ended_us=began_us + round(seconds * 1e6),
                threads=len(WORKERS) * THREADS_EACH,
                rate=rate,
            )
            lines.append(figures(fleet.of(name), outage, requests))
            _assert_whole(fleet.of(name))
        return lines


def _assert_whole(fleet: Fleet) -> None:
    """The ledger of one client agrees with itself, and nothing is left of its run."""
    broken = [text for texts in check_ledger(fleet.client).values() for text in texts]
    assert [*broken, *everything_ended(fleet.client, "job")] == []
    assert_nothing_left(fleet)
