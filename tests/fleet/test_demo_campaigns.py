"""The demo of campaigns, with fewer contacts than it has for people."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from orchestration.cli import demo as shown
from orchestration.demo import campaigns

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.world import World


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> campaigns.CampaignsSummary:
    """What came of one run."""
    folder: Path = tmp_path_factory.mktemp("demo")
    said: list[str] = []
    it = campaigns.run_campaigns(folder, shown.watch_all, said.append, contacts=10)
    assert "submitted campaigns.jsonl: 10 campaigns, 100 contacts, " in said[-1]
    return it


def test_the_journal_confirms_that_all_was_made_once_although_answers_were_lost(
    summary: campaigns.CampaignsSummary, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summary.confirmed
    assert summary.executed == {"contactlists": 10, "campaigns": 10, "starts": 10}
    assert (summary.contacts, summary.queued) == (100, 100)
    assert summary.faults["drop_after"] > 0
    shown.show_campaigns(summary)
    text = capsys.readouterr().out
    assert "campaigns   10 read: 10 succeeded, with 100 contacts" in text
    assert "429s: 0\nlost: 0\nduplicates: 0\n" in text


@pytest.mark.parametrize(
    "wrong",
    [
        {"throttled": 1},
        {"lost": 1},
        {"duplicates": 1},
        {"queued": 99},
        {"executed": {"contactlists": 10, "campaigns": 11, "starts": 10}},
    ],
)
def test_a_journal_that_tells_another_story_does_not_confirm(
    summary: campaigns.CampaignsSummary, wrong: dict[str, object]
) -> None:
    assert not dataclasses.replace(summary, **wrong).confirmed  # type: ignore[arg-type]


def test_an_option_before_the_name_is_not_lost_in_silence(world: World) -> None:
    result = world.run("demo", "--keep", "x", "campaigns")

    assert result.exit_code == 2
    assert "options of demo campaigns come behind its name" in result.stderr
