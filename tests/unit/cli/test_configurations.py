"""Live processes with different configurations, and what a person sees and does of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.views.status import status
from tests.support.world import one_dead
from workers.answer.outcome import Outcome
from workers.answer.verdict import Finish, Requeue
from workers.errors import ConfigError
from workers.governor import flows
from workers.governor.registry import LIVES_S, Registry
from workers.ledger import audit
from workers.settings.limits import bucket_of
from workers.store import keys
from workers.store.many import ManyScripts

if TYPE_CHECKING:
    from orchestration.dispatch.presence import Presence
    from tests.support.world import World

WHY = ("--reason", "the contract says so", "--by", "maria")
UNKNOWN = Finish(state="unknown", outcome=Outcome.UNKNOWN, error="no answer came back")
REPORTS = "\n[[clients.acme.limits]]\nname = 'reports'\ncount = 5\nmatch = 'GET /reports'"


def start(world: World, name: str, limits: str) -> Presence:
    """A worker process with these limits comes to life."""
    world.configure(limits=limits)
    return world.start_heartbeat(f"{name}@here", worker_id=name)


def holding(world: World) -> dict[str, int]:
    """Limit → how many calls per second it lets through, by the store."""
    return {
        limit.name: round(bucket_of(limit).rate or 0) for limit in world.client.look()[1].limits
    }


def die(world: World, presence: Presence, ago_s: float = LIVES_S + 1) -> None:
    """The process was killed: its heartbeat ages."""
    name = keys.registry(world.namespace)
    entry = json.loads(str(world.client.store.hget(name, presence.process.id)))
    entry["at_us"] -= round(ago_s * 1e6)
    world.client.store.hset(name, presence.process.id, json.dumps(entry))


def age(world: World, ago_s: float = LIVES_S + 2) -> None:
    """So much time passes in which nobody reaches the store."""
    for name in (keys.registry(world.namespace), keys.configurations(world.namespace)):
        for field, text in world.client.store.hgetall(name).items():
            entry = json.loads(text)
            for moment in ("at_us", "newest_us", "until_us"):
                if isinstance(entry, dict) and moment in entry:
                    entry[moment] -= round(ago_s * 1e6)
            world.client.store.hset(name, field, json.dumps(entry))


def agreed(world: World) -> list[tuple[str, str]]:
    """The audited changes, the oldest first: before and after, without digests."""
    entries = audit.read(world.client.store, world.client.keys)
    return [
        (entry.before.partition(": ")[2], entry.after.partition(": ")[2])
        for entry in reversed(entries)
        if entry.action == "limits agreed"
    ]


def test_a_call_obeys_every_limit_that_any_live_process_has(world: World) -> None:
    start(world, "w1", "count = 100" + REPORTS)
    start(world, "w2", "count = 400\nburst = 10")

    assert holding(world) == {"app": 90, "reports": 4}
    (app, _) = world.client.look()[1].limits
    assert bucket_of(app).burst == 10


def test_of_one_name_that_counts_other_calls_both_limits_hold(world: World) -> None:
    start(world, "w1", "count = 100")
    start(world, "w2", "count = 400\nmatch = 'POST /x'")
    names = {limit.match: limit for limit in world.client.look()[1].limits}

    assert {match: round(bucket_of(limit).rate or 0) for match, limit in names.items()} == {
        "* *": 90,
        "POST /x": 360,
    }
    assert len({limit.name for limit in names.values()}) == 2


def test_the_breaker_opens_by_the_rule_of_any_live_process(world: World) -> None:
    own = "count = 100\n[clients.acme.breaker]\npercent = 30\nmin_calls = 50"
    strict, usual = start(world, "w1", own), start(world, "w2", "count = 100")
    flow = flows.flow(world.client.settings(), 1, "-", "POST /x")

    def rules() -> list[list[int]]:
        found: list[list[int]] = json.loads(
            flow.definition(world.client.look()[1]).partition("\n")[0]
        )["breaker"]
        return found

    assert rules() == [[60, 10, 20], [30, 10, 50]]
    die(world, strict)
    usual.keep(now=True)
    assert rules() == [[60, 10, 20]]
    one, both = "above 30 % of at least 50 calls in 10 s", "above 60 % of at least 20 calls in 10 s"
    assert agreed(world) == [
        (
            f"app 89.993/s burst 80, breaker {one}",
            f"app 89.993/s burst 80, breaker {both} or {one}",
        ),
        (f"app 89.993/s burst 80, breaker {both} or {one}", "app 89.993/s burst 80"),
    ]


def test_a_dead_process_counts_until_its_heartbeat_has_ended(world: World) -> None:
    low = start(world, "w1", "count = 100")
    high = start(world, "w2", "count = 400")
    high.keep(now=True)
    assert holding(world) == {"app": 90}

    die(world, low)
    high.keep(now=True)

    assert holding(world) == {"app": 360}
    assert agreed(world) == [("app 89.993/s burst 80", "app 359.97/s burst 320")]


def test_a_heartbeat_from_before_the_clock_was_set_back_counts_as_dead(world: World) -> None:
    low = start(world, "w1", "count = 100")
    high = start(world, "w2", "count = 400")

    die(world, low, -3600)
    high.keep(now=True)

    assert holding(world) == {"app": 360}


@pytest.mark.parametrize(
    "away_s", [LIVES_S + 2, 7200, -3600], ids=["12 s", "two hours", "the clock was set back"]
)
def test_a_store_that_comes_back_lets_no_limit_hold_alone_before_the_others_had_time_to_return(
    world: World, away_s: float
) -> None:
    low, high = start(world, "w1", "count = 100"), start(world, "w2", "count = 400")
    age(world, away_s)

    for presence in (high, high, low, high):
        presence.keep(now=True)
        assert holding(world) == {"app": 90}

    age(world, LIVES_S - 1)
    for presence in (low, high):
        presence.keep(now=True)
    assert holding(world) == {"app": 90}
    assert agreed(world) == []


def test_who_does_not_return_with_the_store_counts_as_dead_in_the_end(world: World) -> None:
    start(world, "w1", "count = 100")
    high, other = start(world, "w2", "count = 400"), start(world, "w3", "count = 400")
    age(world)
    high.keep(now=True)
    other.keep(now=True)
    high.end()  # what it knows of the absence stays known
    other.keep(now=True)
    assert holding(world) == {"app": 90}

    age(world, LIVES_S - 1)
    other.keep(now=True)
    age(world, 2)
    other.keep(now=True)

    assert holding(world) == {"app": 360}


def test_who_was_dead_before_the_store_was_away_is_not_waited_for(world: World) -> None:
    low, high = start(world, "w1", "count = 100"), start(world, "w2", "count = 400")
    die(world, low)
    age(world)

    high.keep(now=True)

    assert holding(world) == {"app": 360}


def test_a_process_that_decides_while_another_one_joins_decides_anew(world: World) -> None:
    low = start(world, "w1", "count = 100")
    high = start(world, "w2", "count = 400")
    die(world, low)
    joined: list[str] = []

    class LateScripts(ManyScripts):
        def __call__(self, name: str, calls: Any) -> Any:
            if name == "apply_limits" and not joined:
                joined.append(name)
                low.keep(now=True)
            return super().__call__(name, calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestration.dispatch.presence.ManyScripts", LateScripts)
        high.keep(now=True)

    assert joined
    assert holding(world) == {"app": 90}


def test_a_process_that_was_taken_for_dead_has_its_limits_back_at_its_next_heartbeat(
    world: World,
) -> None:
    low = start(world, "w1", "count = 100")
    high = start(world, "w2", "count = 400")
    die(world, low)
    high.keep(now=True)

    low.keep(now=True)

    assert holding(world) == {"app": 90}


def test_where_nobody_lives_what_holds_stays_until_a_process_starts(world: World) -> None:
    low = start(world, "w1", "count = 100")
    low.end()
    world.configure(limits="count = 400")

    assert holding(world) == {"app": 90}

    world.start_heartbeat("w2@here", worker_id="w2")

    assert holding(world) == {"app": 360}


def test_a_command_never_changes_which_limits_hold(world: World) -> None:
    start(world, "w1", "count = 100")
    before = world.client.store.hgetall(world.client.keys.overrides)
    world.configure(limits="count = 400")

    for command in (("status",), ("limits",), ("doctor",), ("config", "check"), ("jobs",)):
        world.run(*command)

    assert world.client.store.hgetall(world.client.keys.overrides) == before


def test_a_command_works_where_no_limits_were_agreed_on_yet(world: World) -> None:
    assert world.run("limits", "set", "acme", "app", "--count", "50", *WHY).exit_code == 0
    assert holding(world) == {"app": 45}
    assert world.run("status").exit_code == 0


def test_what_was_set_live_stands_above_each_configuration(world: World) -> None:
    start(world, "w1", "count = 100")
    start(world, "w2", "count = 400")

    world.run("limits", "set", "acme", "app", "--count", "50", *WHY)
    assert holding(world) == {"app": 45}

    world.run("limits", "unset", "acme", "app", *WHY)
    assert holding(world) == {"app": 90}


def test_apply_ends_the_difference_and_the_other_file_stays_overruled(world: World) -> None:
    start(world, "w1", "count = 100")
    high = start(world, "w2", "count = 400")
    (problem,) = status(world.client).problems
    assert high.process.digest in problem

    result = world.run("limits", "apply", high.process.digest, *WHY)

    assert result.exit_code == 0
    assert holding(world) == {"app": 360}
    assert agreed(world) == [("app 89.993/s burst 80", "app 359.97/s burst 320")]
    high.end()
    start(world, "w3", "count = 100")  # yesterday's file comes back
    assert holding(world) == {"app": 360}
    start(world, "w4", "count = 200")  # a file of which nobody knew
    assert holding(world) == {"app": 180}


def test_what_no_live_worker_has_and_nobody_applied_does_not_hold(world: World) -> None:
    low = start(world, "w1", "count = 100")
    chosen = start(world, "w2", "count = 400")
    world.run("limits", "apply", chosen.process.digest, *WHY)
    later = start(world, "w3", "count = 100" + REPORTS)
    chosen.end()
    later.keep(now=True)
    assert holding(world) == {"app": 90, "reports": 4}
    (problem,) = status(world.client).problems
    assert f"those of {later.process.digest} hold" in problem
    assert chosen.process.digest not in problem

    later.end()
    low.keep(now=True)

    assert holding(world) == {"app": 360}
    (problem,) = status(world.client).problems
    assert low.process.title in problem
    assert f"those of {chosen.process.digest} hold" in problem
    low.end()
    start(world, "w4", "count = 100" + REPORTS)  # the one that was seen later proposes again
    assert holding(world) == {"app": 90, "reports": 4}


def test_a_limit_of_which_configurations_say_different_things_shows_what_each_says(
    world: World,
) -> None:
    start(world, "w1", "count = 100")
    start(world, "w2", "count = 400")

    shown = [" ".join(world.run(*command).stdout.split()) for command in (("limits",), ("status",))]

    for text in shown:
        assert "400 per 1 s, bucket" in text
        assert "another configuration says 100 per 1 s, bucket" in text
    (limit,) = json.loads(world.run("limits", "list", "--json").stdout)["clients"]["acme"]
    assert (limit["count"], limit["also"]) == (400, ["100 per 1 s, bucket, guide"])


def test_a_rate_that_is_set_live_stands_beside_the_one_that_followed_from_count_and_window(
    world: World,
) -> None:
    start(world, "w1", "count = 400")
    world.run("limits", "set", "acme", "app", "--rate", "90", *WHY)

    shown = world.run("limits", "list").stdout

    assert "rate 90.0 instead of rate 359.971 " in shown


def test_the_audit_names_who_applied_also_where_a_worker_follows_first(world: World) -> None:
    start(world, "w1", "count = 100")
    high = start(world, "w2", "count = 400")
    registry = Registry(world.client.store, world.namespace)

    registry.apply(high.process.digest, by="maria", reason="the contract says so")
    high.keep(now=True)

    assert holding(world) == {"app": 360}
    (entry, *_) = audit.read(world.client.store, world.client.keys)
    assert (entry.by, entry.reason) == ("maria", "the contract says so")


def test_apply_refuses_a_configuration_that_no_live_worker_has(world: World) -> None:
    start(world, "w1", "count = 100")

    result = world.run("limits", "apply", "0123456789ab", *WHY)

    assert result.exit_code == 2
    assert "no live worker has configuration 0123456789ab" in result.output


def test_two_workers_of_one_name_are_counted_and_named(world: World) -> None:
    world.start_heartbeat("w1@here", threads=8, worker_id="one")
    world.start_heartbeat("w1@here", threads=4, worker_id="other")

    assert (status(world.client).workers, status(world.client).threads) == (2, 12)
    assert "have one name" in world.run("status").stdout
    result = world.run("doctor")
    assert result.exit_code == 1
    assert "have one name" in result.stdout


def test_a_worker_that_does_not_know_a_new_client_is_named(world: World) -> None:
    world.start_heartbeat("w1@here")
    text = world.config.read_text()
    world.config.write_text(f"{text}\n[clients.later]\nbase_url = 'http://127.0.0.1:9'\n")

    result = world.run("status", "--json")

    later = next(it for it in json.loads(result.stdout)["clients"] if it["client"] == "later")
    assert later["workers"] == 0
    assert "w1@here" in later["problems"][0]
    assert "later" in later["problems"][0]
    assert world.run("doctor").exit_code == 1


@pytest.mark.parametrize("more", ["key_scope = 'step'", "idempotency_header = 'X-Key'"])
def test_a_ledger_of_another_account_is_refused_until_the_client_is_bound_anew(
    world: World, more: str
) -> None:
    world.client.require_bound()
    world.configure(more=more)

    with pytest.raises(ConfigError, match="headgate client rebind acme"):
        world.client.require_bound()

    assert world.run("client", "rebind", "acme", *WHY).exit_code == 0
    world.client.require_bound()
    (entry,) = audit.read(world.client.store, world.client.keys)
    assert (entry.action, entry.by) == ("client rebind", "maria")
    world.configure()
    with pytest.raises(ConfigError, match="another account"):
        world.client.require_bound()


def test_the_refusal_names_what_differs_and_never_the_id(world: World) -> None:
    world.client.require_bound()
    text = world.config.read_text().replace('client_id = "demo"', 'client_id = "other-id"')
    world.config.write_text(text.replace("http://127.0.0.1:9", "http://127.0.0.1:8"))

    result = world.run("submit", "calls", str(rows(world)), "--client", "acme")

    assert result.exit_code == 2
    assert "base_url http://127.0.0.1:9, not http://127.0.0.1:8" in result.output
    assert "another client_id" in result.output
    assert "other-id" not in result.output
    assert "demo" not in str(world.client.store.hgetall(world.client.keys.bound))


@pytest.mark.parametrize(
    "what",
    ["a bell", "an unknown row", "an unknown answer", "a worker", "a step", "a letter with a step"],
)
def test_a_client_is_not_bound_anew_while_anything_is_out_or_in_doubt(
    world: World, what: str
) -> None:
    world.client.require_bound()
    match what:
        case "a bell":
            world.submit(1)
            world.bells(1)
        case "an unknown answer":
            world.submit(1)
            grant = world.admit(world.bells(1)[0])
            later = Requeue(outcome=Outcome.UNKNOWN, status=503, attempt=True, delay_s=3600)
            world.client.governor().settle(grant, later)
        case "an unknown row":
            one_dead(world, UNKNOWN)
        case "a worker":
            world.start_heartbeat("w1@here")
        case "a step" | "a letter with a step":
            world.submit(1)
            grant = world.admit(world.bells(1)[0])
            later = Requeue(outcome=Outcome.NOT_EXECUTED, delay_s=3600)
            failed = Finish(state="failed", outcome=Outcome.NOT_EXECUTED, error="no")
            world.client.governor().settle(grant, later if what == "a step" else failed)
            key = world.client.keys.transaction(grant.key)  # as if it were its second step
            world.client.store.hset(key, mapping={"n": 2, "k": 2})
    before = world.client.store.hgetall(world.client.keys.bound)
    world.configure(more="key_scope = 'step'")

    result = world.run("client", "rebind", "acme", *WHY)

    assert result.exit_code == 1
    assert world.client.store.hgetall(world.client.keys.bound) == before


@pytest.mark.parametrize("damage", ["a field more", "a field less"])
def test_a_binding_that_was_damaged_is_named_and_whole_after_a_rebind(
    world: World, damage: str
) -> None:
    world.client.require_bound()
    whole = world.client.store.hgetall(world.client.keys.bound)
    if damage == "a field more":
        world.client.store.hset(world.client.keys.bound, "no_such", "x")
    else:
        world.client.store.hdel(world.client.keys.bound, "key_scope")
    named = "no_such" if damage == "a field more" else "key_scope none, not transaction"
    world.configure()  # as a new process
    with pytest.raises(ConfigError, match=named):
        world.client.require_bound()

    result = world.run("client", "rebind", "acme", *WHY)

    assert result.exit_code == 0
    assert world.client.store.hgetall(world.client.keys.bound) == whole
    world.client.require_bound()
    assert "bound to this account already" in world.run("client", "rebind", "acme", *WHY).stderr


def test_a_client_with_an_unknown_row_is_bound_anew_once_the_row_is_settled(world: World) -> None:
    world.client.require_bound()
    key = one_dead(world, UNKNOWN)
    world.configure(more="key_scope = 'step'")

    refused = world.run("client", "rebind", "acme", *WHY)
    assert "headgate dead discard KEY" in refused.stderr
    assert world.run("dead", "discard", key, *WHY).exit_code == 0

    assert world.run("client", "rebind", "acme", *WHY).exit_code == 0
    world.client.require_bound()
    assert world.client.ledger.transaction(key).state == "unknown"


def test_a_worker_with_another_account_serves_its_other_clients_only(world: World) -> None:
    world.client.require_bound()
    world.configure(more="key_scope = 'step'")

    presence = world.start_heartbeat("w1@here")

    with pytest.raises(ConfigError, match="another account"):
        presence.require_agreed("acme")
    shown = status(world.client)
    assert shown.workers == 0
    assert "another account" in shown.problems[0]


def rows(world: World) -> object:
    """A file with one row."""
    path = world.config.with_name("rows.jsonl")
    path.write_text('{"id": "a", "method": "POST", "path": "/x", "body": {}, "guard": "key"}\n')
    return path


@pytest.mark.parametrize(
    "damage",
    [
        {"at_us": "soon"},
        {"at_us": True},
        {"threads": "many"},
        {"name": None},
        {"digest": []},
        {"obstacles": 3},
    ],
    ids=str,
)
def test_an_entry_of_the_registry_that_is_damaged_stops_nobody(
    world: World, damage: dict[str, Any]
) -> None:
    presence = start(world, "w1", "count = 100")
    name = keys.registry(world.namespace)
    entry = json.loads(str(world.client.store.hget(name, "w1")))
    world.client.store.hset(name, "w2", json.dumps({**entry, "id": "w2", **damage}))

    presence.keep()

    assert list(Registry(world.client.store, world.namespace).look().live) == ["w1"]
    for command in ("status", "doctor", "jobs"):
        assert isinstance(world.run(command).exception, SystemExit | None), command


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("#", "garbage"),
        ("#applied", '{"digest": "x", "until": "soon", "by": 1, "reason": 2}'),
        ("#applied", "["),
        ("#away", '{"newest_us": [], "until_us": 1}'),
        ("3f9c0a52be71", '{"serial": "first", "clients": {}}'),
    ],
)
def test_what_is_damaged_beside_the_configurations_stops_no_new_worker_and_no_apply(
    world: World, field: str, text: str
) -> None:
    start(world, "w1", "count = 100")
    before = Registry(world.client.store, world.namespace).configurations()
    name = keys.configurations(world.namespace)
    world.client.store.hset(name, field, text)

    second = start(world, "w2", "count = 400")
    applied = world.run("limits", "apply", second.process.digest, *WHY)

    assert applied.exit_code == 0, applied.stderr
    after = Registry(world.client.store, world.namespace).configurations()
    assert after[second.process.digest].serial > max(one.serial for one in before.values())
    assert holding(world) == {"app": 360}


def test_a_configuration_whose_record_is_damaged_is_recorded_anew(world: World) -> None:
    first = start(world, "w1", "count = 100")
    name = keys.configurations(world.namespace)
    world.client.store.hset(name, first.process.digest, "garbage")

    start(world, "w2", "count = 400")
    start(world, "w3", "count = 100")

    known = Registry(world.client.store, world.namespace).configurations()
    assert known[first.process.digest].serial > 0
