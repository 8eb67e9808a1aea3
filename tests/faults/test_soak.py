"""Six days of ageing keys; the long form is tests/chaos/chaos_soak.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.soak import NEEDED, Soak

if TYPE_CHECKING:
    from workers.store import Store


def test_days_of_holds_retries_and_replays_send_no_old_key_and_double_nothing(store: Store) -> None:
    soak = Soak(store, seed=3, days=6, rows=60)

    assert soak.run() == []

    assert {it: soak.met[it] for it in NEEDED if not soak.met[it]} == {}
