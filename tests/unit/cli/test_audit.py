"""`headgate audit`: what was done, by whom and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from workers.ledger import audit

if TYPE_CHECKING:
    from tests.support.world import World


def changed(world: World) -> None:
    said = ("--reason", "asked for less", "--by", "maria")
    world.run("limits", "set", "acme", "app", "--count", "500", *said)
    world.run("limits", "set", "acme", "app", "--count", "400", *said)
    world.run("client", "pause", "acme", "--for", "2h", "--reason", "lunch", "--by", "ana")


def test_what_was_done_is_one_line_each_the_newest_last(world: World) -> None:
    changed(world)

    result = world.run("audit", "acme")

    assert result.exit_code == 0
    head, first, second, third = result.stdout.splitlines()
    assert head == "client acme"
    assert first.endswith("  maria  limits set  app  - → count 500  asked for less")
    assert second.endswith("  maria  limits set  app  count 500 → count 400  asked for less")
    assert third.endswith("  ana  client pause  acme  - → for 7200 s  lunch")
    assert first.split("  ")[1].startswith("20")


def test_programs_get_the_same_entries(world: World) -> None:
    changed(world)

    entries = json.loads(world.run("audit", "--json").stdout)["clients"]["acme"]

    assert [it["action"] for it in entries] == ["limits set", "limits set", "client pause"]
    assert json.loads(entries[1]["before"]) == {"count": 500}
    assert entries[0]["at_ms"] <= entries[2]["at_ms"]


def test_only_the_newest_entries_are_shown(world: World) -> None:
    for number in range(101):
        audit.record(world.client.store, world.client.keys, "rotated", key=f"k{number}")

    lines = world.run("audit").stdout.splitlines()

    assert (len(lines), lines[1].split("  ")[-1], lines[-1].split("  ")[-1]) == (101, "k1", "k100")


def test_an_entry_of_another_version_is_shown_as_far_as_it_is_known(world: World) -> None:
    world.client.store.xadd(world.client.keys.audit, {"by": "maria", "ticket": "7"})

    assert world.run("audit").stdout.splitlines()[1].endswith("  maria  ticket 7")


def test_a_client_to_which_nothing_was_done_says_so_and_an_unknown_one_is_exit_2(
    world: World,
) -> None:
    assert "nothing was done" in world.run("audit").stdout

    result = world.run("audit", "acmee")
    assert result.exit_code == 2
    assert "there is no client, job or transaction 'acmee'" in result.stderr
