"""`headgate audit` of a job, a line or a key: what happened to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.world import SECRET, WHY, die, one_dead

if TYPE_CHECKING:
    from tests.support.world import World


def test_the_story_of_a_key_is_its_attempts_and_what_was_done_to_it_and_its_client(
    world: World,
) -> None:
    key = one_dead(world)
    world.run("client", "pause", "acme", "--reason", "lunch", "--by", "ana")
    world.run("dead", "replay", key, *WHY)

    head, sent, paused, replay = world.run("audit", key).stdout.splitlines()

    assert head == f"transaction {key}  job j1  waiting"
    assert "  send of step 2  not executed 4" in sent
    assert key not in sent
    assert paused.endswith("  ana  client pause  acme  - → until it is resumed  lunch")
    assert replay.endswith("  the list is there now")


def test_a_line_is_its_transaction_and_a_job_is_all_of_them(world: World) -> None:
    keys = die(world, 2)
    lines = {row["line"]: row["id"] for row in world.client.ledger.page("j1", 0)}
    line, row = next(iter(lines.items()))
    its = world.client.key("j1", row)

    assert world.run("audit", f"j1:{line}").stdout == world.run("audit", its).stdout
    whole = world.run("audit", "j1").stdout.splitlines()
    assert [key in it for key, it in zip(keys, whole[1:], strict=True)] == [True, True]


def test_programs_get_the_events_of_a_key(world: World) -> None:
    key = one_dead(world)

    found = json.loads(world.run("audit", key, "--json").stdout)

    assert (found["client"], found["job"], found["key"]) == ("acme", "j1", key)
    (sent,) = found["events"]
    assert (sent["step"], sent["what"], sent["outcome"]) == (2, "send", "not_executed")
    assert SECRET not in json.dumps(found)


def test_nothing_worth_telling_says_so_and_what_is_nothing_is_exit_2(world: World) -> None:
    world.submit(1, "j1")

    assert "nothing happened but plain successes" in world.run("audit", "j1").stdout
    for nothing in ("j2", "j2:3", "j1:99", "0b9c1b7e-0000-8000-8000-000000000001", "nobody", ":"):
        result = world.run("audit", nothing)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "there is no" in result.stderr or "has no transaction for line" in result.stderr


@pytest.mark.parametrize("line", ["9" * 5000, "9" * 20, "\N{SUPERSCRIPT TWO}", "-1"])
def test_a_line_that_no_file_has_is_one_sentence_and_exit_2(world: World, line: str) -> None:
    world.submit(1)

    result = world.run("audit", f"j1:{line}")

    assert result.exit_code == 2
    assert "there is no client, job or transaction" in result.output
