"""All guards in one job under every fault: each mode of keys, each failpoint, seeds of chance.

`python -m tests.support.faults.guards --write` makes such a run and writes the table
of docs/reference/guard-proof.md.
"""

from __future__ import annotations

import random

import pytest

from tests.support.faults.guards import DEATHS, run
from tests.support.faults.mixed import DEFAULT, KEYLESS, MODES, Mode

SEEDS = [random.SystemRandom().randrange(10**6) for _ in range(3)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES, ids=lambda it: it.sandbox)
def test_faults(mode: Mode, seed: int) -> None:
    run(mode, seed, times=10)


@pytest.mark.parametrize("seed", SEEDS[:1])
@pytest.mark.parametrize("mode", [DEFAULT, KEYLESS], ids=lambda it: it.sandbox)
@pytest.mark.parametrize("deaths", DEATHS, ids=lambda it: it[-1])
def test_kills_under_faults(deaths: tuple[str, ...], mode: Mode, seed: int) -> None:
    run(mode, seed, times=10, deaths=deaths)
