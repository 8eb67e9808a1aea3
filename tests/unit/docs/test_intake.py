"""The rows that the docs show are accepted as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from orchestration.intake.readers.calls import read_calls
from orchestration.kinds import all_kinds
from tests.support.desk import ACME

DOCS = Path(__file__).parents[3] / "docs"
#: Its row is a campaign: `tests.unit.intake.test_campaigns` reads it.
OTHER = DOCS / "how-to/genesys.md"
SHOWN = [
    row
    for page in sorted(DOCS.rglob("*.md"))
    if page != OTHER
    for row in re.findall(r"```json\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
]


@pytest.mark.parametrize("text", SHOWN)
def test_a_row_in_the_docs_is_a_good_one(text: str) -> None:
    line = json.dumps(json.loads(text))

    (row,) = read_calls([(1, line)], ACME)

    assert "error" not in row


def test_the_docs_show_rows() -> None:
    assert len(SHOWN) >= 6


def field_table() -> set[str]:
    """The fields of the table of every field, in docs/reference/rows.md."""
    text = (DOCS / "reference/rows.md").read_text("utf-8")
    table = text.partition("## Every field\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("|")]
    return {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}


def accepted_fields(*, whole_rows: bool) -> set[str]:
    """The fields that the kinds accept: those of a row as it is submitted, or all."""
    return {
        field
        for kind in all_kinds().values()
        for place, fields in kind.fields.items()
        if not whole_rows or place.startswith(("row", "line"))
        for field in fields
    }


def test_the_table_of_fields_has_each_field_that_a_row_may_have_and_no_other() -> None:
    assert field_table() == accepted_fields(whole_rows=True)


def test_the_page_of_rows_names_each_field_that_is_accepted_anywhere() -> None:
    text = (DOCS / "reference/rows.md").read_text("utf-8")

    missing = {name for name in accepted_fields(whole_rows=False) if f"`{name}`" not in text}

    assert missing == set()
