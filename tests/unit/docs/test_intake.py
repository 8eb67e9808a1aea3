"""The rows that the docs show are accepted as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from orchestration.intake.readers.calls import read_calls
from tests.unit.intake.test_calls import ACME

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
