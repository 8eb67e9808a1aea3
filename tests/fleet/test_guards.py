"""All guards in one job, under every fault and killed; and the table in the docs says how it ends.

The long form is tests/chaos/chaos_guards.py.
"""

from __future__ import annotations

import re

import pytest

from tests.support.faults.guards import DEATHS, Run, run
from tests.support.faults.mixed import DEFAULT, KEYLESS, MODES, Mode
from tests.support.faults.tables import DOCS, rendered, tables_of, with_tables
from tests.support.faults.tally import Tally

SEED = 4711


@pytest.mark.parametrize("mode", MODES[1:], ids=lambda it: it.sandbox)
def test_faults_double_and_lose_nothing_and_leave_unknown_what_cannot_be_known(mode: Mode) -> None:
    it = run(mode, SEED).tallies

    # Each guard did what it is for.
    assert it["upsert"].again > 5
    assert (it["upsert"].repeats > 5) is not mode.honours  # a key that is honoured comes first
    assert it["lookup"].looks > it["lookup"].again > 5
    assert it["read"].again > 5
    assert it["none"].again == 0
    assert it["none"].states["unknown"] > 5


@pytest.mark.parametrize(
    ("mode", "deaths"),
    [(DEFAULT, ("admitted", "answer_read")), (KEYLESS, ("first_byte", "settled"))],
    ids=lambda it: getattr(it, "sandbox", None),
)
def test_kills_under_faults_double_and_lose_nothing_whatever_the_guard(
    mode: Mode, deaths: tuple[str, ...]
) -> None:
    it = run(mode, SEED, deaths=deaths).tallies

    assert sum(one.out for one in it.values()) > 2
    assert it["upsert"].again > 5
    assert it["upsert"].states["unknown"] == it["upsert"].met["5xx_stored"] * mode.honours


def test_the_table_in_the_docs_is_one_that_a_run_writes_and_says_0_doubled_and_0_lost() -> None:
    runs = [Run(it, 0, {guard: Tally() for guard in it.guards}) for it in MODES]
    runs += [Run(it.mode, len(DEATHS), it.tallies) for it in runs if it.mode in (DEFAULT, KEYLESS)]
    text = DOCS.read_text("utf-8")
    tables = tables_of(text)

    assert re.sub(r"\d+", "0", tables) == re.sub(r"\d+", "0", rendered(runs, 0))
    assert with_tables(text, tables) == text
    assert f"`kill -9` at {len(DEATHS)} failpoints" in tables
    first, _ = tables.split("\n\nHow many")
    columns, _, *lines = [
        line.strip("| ").split(" | ") for line in first.splitlines() if line.startswith("|")
    ]
    for line in lines:
        it = dict(zip(columns, line, strict=True))
        assert (it["doubled"], it["lost"]) == ("0", "0")
        assert int(it["unknown"]) + int(it["succeeded"]) == int(it["transactions"]) > 0
        assert it["guard"] not in {"lookup", "read"} or it["unknown"] == "0"
