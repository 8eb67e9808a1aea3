"""Months of ageing keys: holds, retries, deaths and replays, by clocks that are moved."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.support.faults.soak import NEEDED, Soak

if TYPE_CHECKING:
    from workers.store.connection import Store

SEEDS = [random.SystemRandom().randrange(10**6) for _ in range(3)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_month_sends_no_old_key_and_doubles_nothing(store: Store, seed: int) -> None:
    soak = Soak(store, seed, days=30, rows=300)

    assert soak.run() == []

    assert {it: soak.met[it] for it in NEEDED if not soak.met[it]} == {}
