"""The store's clock steps by hours under load: nothing is lost, nothing is done twice."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls
from workers.store.scripts import library

if TYPE_CHECKING:
    from workers.store.connection import Store

ROWS: Final = 1500
HOURS: Final = 5
#: Where the scripts read the clock, and the same with the step that the test asks for.
CLOCK: Final = "now = time[1] * 1000000 + time[2]\n"
STEPPED: Final = CLOCK.rstrip() + ' + (tonumber(redis.call("GET", "clock step")) or 0)\n'


def load_stepped_library(store: Store) -> None:
    """Load the scripts of this release, by their own name, with a clock that can be stepped."""
    _, text = library()
    assert text.count(CLOCK) == 1
    store.ask("FUNCTION", "LOAD", "REPLACE", text.replace(CLOCK, STEPPED))


@pytest.mark.parametrize("guard", ["key", "upsert", "lookup"])
@pytest.mark.parametrize("seed", [random.SystemRandom().randrange(10**6)])
def test_a_clock_that_steps_five_hours_loses_and_doubles_nothing(guard: str, seed: int) -> None:
    chance = random.Random(seed)
    with Fleet() as fleet:
        store = fleet.client.store
        load_stepped_library(store)
        fleet.submit(calls(ROWS, guard=guard))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(100)
        for step in [HOURS, 0, -HOURS, 0, *chance.sample(range(-HOURS, HOURS + 1), 4), 0]:
            store.set("clock step", step * 3600 * 10**6)
            time.sleep(0.3 + chance.random())
        assert fleet.wait(timeout_s=120) == {"succeeded": ROWS}
        check_all(fleet)
