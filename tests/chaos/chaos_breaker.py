"""A storm of 429 without Retry-After on four processes: the breaker, seen from outside.

`python -m tests.bench.storm` prints the figures of such a run.
"""

from __future__ import annotations

import pytest

from tests.bench.storm import storm


@pytest.mark.parametrize("before", [0, 400], ids=["from the first call on", "under full load"])
def test_a_storm_opens_the_breaker_once_and_costs_no_row_anything(before: int) -> None:
    it = storm(before=before)

    (opening,) = it.openings
    assert opening.late() == 0
    assert opening.at_once == 1
    assert opening.closed_us is not None
    assert it.holds == 1 + opening.refused_probes
    assert it.unasked == 0
    assert it.rate_after > 170
    assert it.states == {"succeeded": 2600 + before}
    assert it.attempts == 0
