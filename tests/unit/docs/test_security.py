"""The tables of SECURITY.md and of docs/reference/asvs.md leave nothing out and name what is there.

The numbers are those of OWASP ASVS 5.0.0, levels 1 and 2.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
SECURITY = (ROOT / "SECURITY.md").read_text("utf-8")
ASVS = (ROOT / "docs/reference/asvs.md").read_text("utf-8")
#: Every requirement of the two levels: chapter.section.first-last.
REQUIREMENTS: Final = """
1.1.1-2 1.2.1-9 1.3.1-11 1.4.1-3 1.5.1-2 2.1.1-3 2.2.1-3 2.3.1-4 2.4.1 3.2.1-2 3.3.1-4 3.4.1-6
3.5.1-5 3.7.1-2 4.1.1-3 4.2.1 4.3.1-2 4.4.1-4 5.1.1 5.2.1-3 5.3.1-2 5.4.1-3 6.1.1-3 6.2.1-12
6.3.1-4 6.4.1-4 6.5.1-5 6.6.1-3 6.8.1-4 7.1.1-3 7.2.1-4 7.3.1-2 7.4.1-5 7.5.1-2 7.6.1-2 8.1.1-2
8.2.1-3 8.3.1 8.4.1 9.1.1-3 9.2.1-4 10.1.1-2 10.2.1-2 10.3.1-4 10.4.1-11 10.5.1-5 10.6.1-2
10.7.1-3 11.1.1-2 11.2.1-3 11.3.1-3 11.4.1-4 11.5.1 11.6.1 12.1.1-3 12.2.1-2 12.3.1-4 13.1.1
13.2.1-5 13.3.1-2 13.4.1-5 14.1.1-2 14.2.1-4 14.3.1-3 15.1.1-3 15.2.1-3 15.3.1-7 16.1.1 16.2.1-5
16.3.1-4 16.4.1-3 16.5.1-3 17.1.1 17.2.1-4 17.3.1-2
"""
#: What may stand in the column "is": what is met is shown, what is not is explained.
STATUSES: Final = {"met", "in part", "not met"}
_NUMBER: Final = r"\d+\.\d+\.\d+(?:-\d+)?"
_ROW: Final = re.compile(rf"^\| *({_NUMBER}(?:, {_NUMBER})*) *\|(.*)\|$", re.MULTILINE)
_SPAN: Final = re.compile(
    r"`((?:tests|workers|tasks|orchestration|compose|docs|\.ci)/[^`]*|[A-Z]\w+\.md)`"
)


def _expand(numbers: str) -> Iterator[str]:
    """1.2.3-5 is 1.2.3, 1.2.4 and 1.2.5."""
    for one in re.split(r"[,\s]+", numbers.strip()):
        section, _, within = one.rpartition(".")
        first, _, last = within.partition("-")
        yield from (f"{section}.{each}" for each in range(int(first), int(last or first) + 1))


def _rows(text: str) -> dict[str, list[str]]:
    """Number or numbers → the other cells."""
    return {
        match[1]: [cell.strip() for cell in match[2].split("|")] for match in _ROW.finditer(text)
    }


@lru_cache
def _tests_of(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def _missing(text: str) -> list[str]:
    """The tests and files that a page names and that are not there."""
    missing = []
    for name in _SPAN.findall(text):
        place, _, test = name.partition("::")
        file = ROOT / place
        if not file.exists() or (test and test not in _tests_of(file)):
            missing.append(name)
    return missing


@pytest.mark.parametrize("page", [SECURITY, ASVS], ids=["SECURITY.md", "asvs.md"])
def test_every_test_and_file_that_shows_something_is_there(page: str) -> None:
    assert len(re.findall(r"::test_", page)) > 10
    assert _missing(page) == []


def test_what_is_not_there_would_be_seen() -> None:
    named = "`tests/unit/docs/test_security.py::test_none` `workers/none.py` `SECURITY.md`"

    assert _missing(named) == [
        "tests/unit/docs/test_security.py::test_none",
        "workers/none.py",
    ]


def test_every_requirement_of_both_levels_stands_once_on_the_page() -> None:
    stated = Counter(number for numbers in _rows(ASVS) for number in _expand(numbers))
    required = Counter(_expand(REQUIREMENTS))

    assert sum(required.values()) == 253
    assert sorted((required - stated) + (stated - required)) == []


def test_each_requirement_that_applies_says_whether_it_is_met_and_what_shows_it() -> None:
    applying = {number: cells for number, cells in _rows(ASVS).items() if len(cells) == 4}

    assert len(applying) > 100
    for number, (asks, status, how, shown) in applying.items():
        assert asks, number
        assert status in STATUSES, number
        assert how, number
        assert _SPAN.search(shown) or (status == "not met" and shown == "-"), number


def test_each_requirement_that_does_not_apply_says_why() -> None:
    rows = [cells for cells in _rows(ASVS).values() if len(cells) != 4]

    assert rows
    assert all(len(cells) == 1 and len(cells[0]) > 5 for cells in rows)


def test_the_page_says_how_many_are_met() -> None:
    counts = Counter[str]()
    for numbers, cells in _rows(ASVS).items():
        if len(cells) == 4:
            counts[cells[1]] += len(list(_expand(numbers)))

    whole = len(list(_expand(REQUIREMENTS)))
    assert (
        f"{counts.total()} of {whole} apply: {counts['met']} are met, "
        f"{counts['in part']} in part, {counts['not met']} are not"
    ) in " ".join(ASVS.split())


def test_each_row_of_the_threat_model_says_what_stops_it_and_names_a_test() -> None:
    table = SECURITY.split("## Who can do what")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|") and not set(line) <= set("|- ")
    ][1:]

    assert len(rows) >= 9
    for row in rows:
        assert len(row) == 5, row
        assert all(row), row
        assert "::test_" in row[4], row[0]
