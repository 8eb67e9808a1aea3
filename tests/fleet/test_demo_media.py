"""The demo of media, with fewer files than it has for people."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from orchestration.cli import demo as shown
from orchestration.demo import media

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = 12


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> media.MediaSummary:
    """What came of one run."""
    folder: Path = tmp_path_factory.mktemp("demo")
    said: list[str] = []
    it = media.run_media(folder, shown.watch_job, said.append, prompts=PROMPTS)
    assert said[-1] == "submitted sounds.csv: 12 prompts in 2 languages"
    return it


def test_the_journal_confirms_that_each_file_is_there_once_and_names_the_one_that_failed(
    summary: media.MediaSummary, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summary.confirmed
    assert (summary.prompts, summary.files) == (PROMPTS, 2 * PROMPTS)
    assert summary.faults["drop_after"] > 0
    shown.show_media(summary)
    text = capsys.readouterr().out
    assert "files       24 read: 23 succeeded, 1 failed" in text
    assert "sounds/11.en-us.wav could not be transcoded" in text
    assert "429s: 0\nlost: 0\nduplicates: 0\n" in text


@pytest.mark.parametrize(
    "wrong",
    [{"throttled": 1}, {"lost": 1}, {"duplicates": 1}, {"prompts": PROMPTS + 1}],
)
def test_one_thing_that_is_wrong_is_told(
    summary: media.MediaSummary, wrong: dict[str, int]
) -> None:
    assert not dataclasses.replace(summary, **wrong).confirmed
