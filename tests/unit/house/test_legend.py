"""The stored names: Lua's legend and the types that read them in Python say the same."""

from __future__ import annotations

import re

from tests.support.lua_legend import read_legend
from workers.governor import state
from workers.ledger import job, transaction


def test_a_transaction_has_the_same_names_in_both() -> None:
    in_python = {name: known.attribute for name, known in transaction.FIELDS.items()}
    assert read_legend()["tx"] == {**in_python, transaction.REPEATS: "repeats"}


def test_a_job_has_the_same_names_in_both() -> None:
    assert read_legend()["job"] == {name: known.attribute for name, known in job.FIELDS.items()}


def test_the_governor_has_the_same_names_in_both() -> None:
    in_lua = {re.sub(r"<.*", "", name) for name in read_legend()["gov"]}
    assert in_lua == {*state.FIELDS, *state.PREFIXES}
