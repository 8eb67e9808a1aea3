"""The store is lost or goes back under load: nothing is lost or doubled, or all stop and say so."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.support.faults.stores import ROWS, MovingFleet, run_failover, run_loss, swap, wipe

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = [random.SystemRandom().randrange(10**6) for _ in range(4)]


@pytest.mark.parametrize("demoted", [False, True], ids=["cut", "demoted"])
@pytest.mark.parametrize("seed", SEEDS)
def test_failover_to_an_old_copy(seed: int, *, demoted: bool) -> None:
    chance = random.Random(seed)
    run = run_failover(chance.uniform(0.05, 1.0), demoted=demoted, broker=chance.random() < 0.5)
    assert sum(sum(it.values()) for it in run["counts"].values()) == 3 * ROWS


@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize("lose", [wipe, swap])
def test_a_store_that_is_lost(lose: Callable[[MovingFleet], None], seed: int) -> None:
    del seed  # how the processes interleave is chance enough
    run_loss(lose)
