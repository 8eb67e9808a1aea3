"""A store that goes back in time, is emptied or replaced under real workers at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.faults.stores import ROWS, MovingFleet, run_failover, run_loss, swap, wipe

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("demoted", [False, True], ids=["cut", "demoted"])
def test_after_a_failover_to_a_copy_that_lags_every_row_ends_and_none_has_two_effects(
    *, demoted: bool
) -> None:
    run = run_failover(0.3, demoted=demoted)

    assert sum(sum(it.values()) for it in run["counts"].values()) == 3 * ROWS
    assert "the store had forgotten" in run["log"]


@pytest.mark.parametrize("lose", [wipe, swap])
def test_a_store_that_was_lost_under_load_stops_all_and_nothing_is_sent_any_more(
    lose: Callable[[MovingFleet], None],
) -> None:
    run_loss(lose)
