from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.views import invariants
from orchestration.views.invariants import check_ledger
from tests.support.world import DONE, FAILED
from workers.answer.outcome import Outcome
from workers.answer.verdict import Requeue, Retry
from workers.store import releases

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.world import World

BAD = {"line": 99, "error": "there are 4 cells for 5 columns"}
LATER = Requeue(outcome=Outcome.UNKNOWN, status=503, attempt=True, delay_s=3600)
RETRY = Retry(outcome=Outcome.UNKNOWN, status=503, attempt=True, delay_s=3600)


def in_every_place(world: World) -> dict[str, str]:
    """A job with a transaction in each place; returns their keys by place."""
    joins = {"line": 50, "id": "j1-0", "joins": 1}
    world.submit(8, more=[BAD, joins])
    ended, failed, due, retry, sent, rung = world.bells(6)
    world.client.governor().settle(world.admit(ended), DONE)
    world.client.governor().settle(world.admit(failed), FAILED)
    world.client.governor().settle(world.admit(due), LATER)
    world.client.governor().settle(world.admit(retry), RETRY)
    world.admit(sent)
    waiting = world.client.key("j1", "j1-7")
    return {"due": due.key, "sent": sent.key, "rung": rung.key, "retry": retry.key, "new": waiting}


def test_what_was_set_aside_as_damaged_is_shown(world: World) -> None:
    world.submit(1)
    world.client.store.hset(world.client.keys.damaged, "tx:k1", "1790000000000000 it is missing")

    done = world.run("doctor", "--json")

    (shown,) = [
        line
        for check in json.loads(done.stdout)["checks"]
        for line in check["violations"]
        if line.startswith("tx:k1")
    ]
    assert shown.startswith("tx:k1: it is missing, seen 2026-")
    assert done.exit_code == 1


def violations(world: World) -> list[str]:
    return [line for lines in check_ledger(world.client).values() for line in lines]


def test_a_ledger_with_something_in_every_place_is_sound(world: World) -> None:
    keys = in_every_place(world)
    states = {place: world.client.ledger.transaction(key).state for place, key in keys.items()}

    assert states.pop("new") in {"w", "r"}
    assert states == {"due": "w", "sent": "s", "rung": "r", "retry": "t"}
    assert violations(world) == []


def test_doctor_says_ok_line_by_line_and_exits_0(world: World) -> None:
    world.submit(2, more=[BAD])
    world.work()

    result = world.run("doctor")

    assert result.exit_code == 0
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"ok"}
    assert "appendfsync everysec" in result.stdout
    it = json.loads(world.run("doctor", "--json").stdout)
    assert it["ok"] is True
    assert [check["name"] for check in it["checks"]][:4] == [
        *("store", "clock", "installation", "broker")
    ]


def test_doctor_fails_when_work_waits_and_no_worker_is_alive(world: World) -> None:
    world.submit(1)

    result = world.run("doctor")

    assert result.exit_code == 1
    assert "no worker is alive" in result.stdout


def test_doctor_lists_what_is_wrong_and_exits_1(world: World) -> None:
    world.submit(1)
    world.work()
    world.client.store.hincrby(world.client.keys.job("j1"), "failed", 1)

    result = world.run("doctor")

    assert result.exit_code == 1
    assert "FAIL" in result.stdout
    assert "job j1: 1 rows are counted as failed, a recount finds 0" in result.stdout
    assert json.loads(world.run("doctor", "--json").stdout)["ok"] is False


def test_doctor_names_a_broker_that_is_away_without_its_password(world: World) -> None:
    text = world.config.read_text()
    broker = 'broker_url = "redis://:canary-password@127.0.0.1:9/1"'
    world.config.write_text(text.replace("[store]", f"[store]\n{broker}"))

    result = world.run("doctor")

    assert result.exit_code == 1
    assert "the broker did not answer" in result.stdout
    assert "canary" not in result.output


def test_doctor_says_whether_the_broker_is_another_server_than_the_store(world: World) -> None:
    text = world.config.read_text()
    assert "answers, the store's server" in world.run("doctor").stdout
    other_user = world.store_url.replace("redis://", "redis://default@").replace("/0", "/1")

    world.config.write_text(text.replace("[store]", f'[store]\nbroker_url = "{other_user}"'))

    assert "answers, the store's server" in world.run("doctor").stdout


def test_doctor_names_the_commands_that_the_user_of_the_broker_lacks(world: World) -> None:
    rules = "reset on nopass ~* &* +@all -watch -unwatch -zrange"
    world.client.store.execute_command("ACL", "SETUSER", "bells", *rules.split())
    text = world.config.read_text()
    bells = world.store_url.replace("redis://", "redis://bells:x@")
    world.config.write_text(text.replace("[store]", f'[store]\nbroker_url = "{bells}"'))

    result = world.run("doctor")

    assert result.exit_code == 1
    assert "the broker refuses its user WATCH, UNWATCH, ZRANGE for" in result.stdout


def test_doctor_says_of_both_servers_that_they_are_known_to_be_unsafe(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = world.store_url.replace("127.0.0.1", "localhost")  # as if it were another one
    text = world.config.read_text()
    world.config.write_text(text.replace("[store]", f'[store]\nbroker_url = "{other}"'))
    for server in releases.LEAST_SAFE:
        monkeypatch.setitem(releases.LEAST_SAFE, server, ((250, 1, 2),))

    result = world.run("doctor")

    assert result.exit_code == 0
    lines = {line.split()[1]: line for line in result.stdout.splitlines()}
    for name in ("store", "broker"):
        assert "is known to be unsafe" in lines[name]
        assert lines[name].endswith("use 250.1.2 or a newer one")


def _break(name: str) -> Callable[[World, dict[str, str]], Any]:
    """A way to damage the store, by its name."""
    return {
        "a counter of rows": lambda w, _: w.client.store.hincrby(w.job, "succeeded", 1),
        "a row not counted": lambda w, _: w.client.store.hset(
            w.job, mapping={"failed": 0, "ended": 1}
        ),
        "the sum": lambda w, _: w.client.store.hincrby(w.job, "ended", 1),
        "the number of rows": lambda w, _: w.client.store.hincrby(w.job, "rows", 1),
        "an end that was not": lambda w, _: w.client.store.hset(w.job, "finished_us", 1),
        "a state": lambda w, k: w.client.store.hset(w.tx(k["due"]), "s", "x"),
        "a page": lambda w, _: w.client.store.set(w.client.keys.page("j1", 0), "junk"),
        "a random key": lambda w, k: w.client.store.rename(w.tx(k["due"]), w.tx("random")),
        "a key of another row": lambda w, k: w.client.store.hset(w.tx(k["due"]), "p", "0:0"),
        "a transaction too many": lambda w, _: w.client.store.hincrby(w.job, "released", 1),
        "the installation": lambda w, _: w.client.store.delete(f"{w.namespace}:installation"),
        "a lost place in the line": lambda w, k: w.client.store.zrem(w.due(k["due"]), k["due"]),
        "a lost bell": lambda w, k: w.client.store.zrem(w.client.keys.deadlines, k["rung"]),
        "a lost lease": lambda w, k: w.client.store.zrem(w.client.keys.deadlines, k["sent"]),
        "a lost countdown": lambda w, k: w.client.store.zrem(w.client.keys.deadlines, k["retry"]),
        "two places": lambda w, k: w.client.store.zadd(w.client.keys.quarantine, {k["due"]: 1}),
        "a line that is not rung": lambda w, _: w.client.store.delete(w.client.keys.active),
        "bells that are not out": lambda w, _: w.client.store.hincrby(w.gov, "b:app", 1),
        "bells nobody counts": lambda w, _: w.client.store.hdel(w.gov, "b:app"),
        "waiting that is not there": lambda w, _: w.client.store.hincrby(w.gov, "q:1", -1),
    }[name]


@pytest.mark.parametrize(
    ("damage", "found_by"),
    [
        ("a counter of rows", "rows_are_accounted_for"),
        ("a row not counted", "rows_are_accounted_for"),
        ("the sum", "rows_are_accounted_for"),
        ("the number of rows", "rows_are_accounted_for"),
        ("an end that was not", "rows_are_accounted_for"),
        ("a state", "rows_are_accounted_for"),
        ("a page", "rows_are_accounted_for"),
        ("a random key", "keys_are_derived"),
        ("a key of another row", "keys_are_derived"),
        ("a transaction too many", "keys_are_derived"),
        ("the installation", "keys_are_derived"),
        ("a lost place in the line", "nothing_is_stranded"),
        ("a lost bell", "nothing_is_stranded"),
        ("a lost lease", "nothing_is_stranded"),
        ("a lost countdown", "nothing_is_stranded"),
        ("two places", "nothing_is_stranded"),
        ("a line that is not rung", "nothing_is_stranded"),
        ("bells that are not out", "counters_match"),
        ("bells nobody counts", "counters_match"),
        ("waiting that is not there", "counters_match"),
    ],
)
def test_every_kind_of_damage_is_found(world: World, damage: str, found_by: str) -> None:
    keys = in_every_place(world)
    world.client.ledger._pages.clear()
    before = len(list(world.client.store.scan_iter(f"{world.namespace}:*")))
    _break(damage)(world, keys)
    there = before - len(list(world.client.store.scan_iter(f"{world.namespace}:*")))

    assert check_ledger(world.client)[found_by]
    # And looking repairs nothing.
    assert before - len(list(world.client.store.scan_iter(f"{world.namespace}:*"))) == there


def test_a_ledger_at_work_shows_no_violation_that_is_none(world: World) -> None:
    world.submit(250)
    found: list[str] = []
    fleet = threading.Thread(target=world.work)
    fleet.start()
    looks = 0
    while fleet.is_alive() or not looks:
        found += violations(world)
        looks += 1
    fleet.join()

    assert found == []
    assert violations(world) == []
    assert invariants.everything_ended(world.client, "j1") == []


def test_rows_that_have_not_ended_are_lost_when_all_is_over(world: World) -> None:
    world.submit(2)

    assert invariants.everything_ended(world.client, "j1") == ["job j1: 2 rows have not ended"]
