"""Six days of ageing keys; the long form is tests/chaos/chaos_soak.py."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.support.faults.soak import NEEDED, Soak

if TYPE_CHECKING:
    from workers.store.connection import Store


def test_days_of_holds_retries_and_replays_send_no_old_key_and_double_nothing(store: Store) -> None:
    met = Counter[str]()
    for seed in range(3, 9):  # until all has happened that the run is to have seen
        soak = Soak(store, seed=seed, days=6, rows=60)
        assert soak.run() == []
        met += soak.met
        if all(met[it] for it in NEEDED):
            return

    assert {it: met[it] for it in NEEDED if not met[it]} == {}
