"""The lines that `make chaos` breaks are there to be broken, in every room of the product."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.mutants import MUTANTS, ROOMS, Mutant

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda it: it.name)
def test_each_line_to_be_broken_stands_once_in_its_file(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text("utf-8").count(mutant.old) == 1


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda it: it.name)
def test_each_broken_line_names_tests_that_are_there(mutant: Mutant) -> None:
    for tests in mutant.tests.split():
        file, _, test = tests.partition("::")
        assert (ROOT / file).exists()
        assert not test or f"def {test}(" in (ROOT / file).read_text("utf-8")


def test_lines_are_broken_in_every_room_and_each_has_a_name_of_its_own() -> None:
    assert {mutant.room for mutant in MUTANTS} == {*ROOMS.values()}
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40
