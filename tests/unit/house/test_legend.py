"""The stored names: Lua's legend and the types that read them in Python say the same."""

from __future__ import annotations

import re

from tests.support.source import ROOT
from workers.governor import state
from workers.ledger import job, transaction

_ENTRY = re.compile(
    r"^--   (?P<where>\w+)\.(?P<name>\S+) {2,}(?P<full>\S+)(?: {2,}\S.*)?$", re.MULTILINE
)


def legend(where: str) -> dict[str, str]:
    """Stored name → full name, as the prelude has them for one kind of hash."""
    text = (ROOT / "workers/lua/prelude.lua").read_text("utf-8")
    return {
        match["name"]: match["full"] for match in _ENTRY.finditer(text) if match["where"] == where
    }


def test_a_transaction_has_the_same_names_in_both() -> None:
    own_of_scripts = {"r:<n>", "h", "pb"}
    assert {name: full for name, full in legend("tx").items() if name not in own_of_scripts} == {
        name: known.attribute
        for name, known in transaction.FIELDS.items()
        if name not in own_of_scripts
    }


def test_a_job_has_the_same_names_in_both() -> None:
    assert legend("job") == {name: known.attribute for name, known in job.FIELDS.items()}


def test_the_governor_has_the_same_names_in_both() -> None:
    in_lua = {re.sub(r"<.*", "", name) for name in legend("gov")}
    assert in_lua == {*state.FIELDS, *state.PREFIXES}
