"""The bench writes its figures as a page, as it prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import measure

if TYPE_CHECKING:
    import pytest


def test_a_run_is_a_page_with_a_table_for_each_block_as_it_was_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "SHOWN", [])

    measure.show("200/s bucket", {"of the governed rate": 0.99871, "answers of 429": 0})
    page = measure.page_of(measure.SHOWN, "Python 3, two cores.")

    assert page.startswith("# Figures\n")
    assert page.endswith(
        "\nPython 3, two cores.\n\n## 200/s bucket\n\n| figure | value |\n| --- | --- |\n"
        "| of the governed rate | 0.9987 |\n| answers of 429 | 0 |\n"
    )
    assert "0.9987" in capsys.readouterr().out
