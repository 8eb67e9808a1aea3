"""`headgate limits` and `headgate client`: changes for the whole fleet, each with a reason."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.cli.progress_display import explain_still
from orchestration.operate import limits
from orchestration.views.status import status
from workers.answer.outcome import Outcome
from workers.answer.verdict import Pause, Requeue
from workers.ledger import audit

if TYPE_CHECKING:
    from tests.support.world import World

WHY = ("--reason", "maintenance", "--by", "maria")

WHOLE = ("--count", "5", "--shape", "bucket", "--match", "* *")


def listed(world: World) -> dict[str, Any]:
    found = json.loads(world.run("limits", "list", "--json").stdout)["clients"]["acme"]
    return {it["name"]: it for it in found}


def done(world: World) -> list[tuple[str, str, str, str]]:
    found = audit.read(world.client.store, world.client.keys)
    return [(it.action, it.subject, it.by, it.reason) for it in found]


def test_a_limit_that_is_set_stands_above_the_configuration_until_it_is_unset(
    world: World,
) -> None:
    configured = listed(world)

    result = world.run("limits", "set", "acme", "app", "--count", "500", *WHY)
    assert result.exit_code == 0
    assert "500 per 1 s, bucket, guide, * *" in result.stdout
    it = listed(world)["app"]
    assert (it["count"], it["burst"], round(it["rate_per_s"])) == (500, 400, 450)
    assert it["live"] == {
        "values": {"count": 500}, "instead_of": {"count": 1000}, "by": "maria",
        "reason": "maintenance",
    }  # fmt: skip
    assert "set live by maria: count 500 instead of count 1000 (maintenance)" in (
        world.run("limits").stdout
    )

    assert world.run("limits", "unset", "acme", "app", *WHY).exit_code == 0
    assert listed(world) == configured
    assert done(world) == [
        ("limits unset", "app", "maria", "maintenance"),
        ("limits set", "app", "maria", "maintenance"),
    ]


def test_a_limit_that_the_provider_turned_out_to_have_is_added(world: World) -> None:
    whole = ("--count", "100", "--window", "60", "--shape", "fixed_window", "--match", "POST /x")

    assert world.run("limits", "set", "acme", "posts", *whole, *WHY).exit_code == 0
    assert listed(world)["posts"]["match"] == "POST /x"
    assert "set live by maria: count 100" in world.run("limits", "list", "acme").stdout

    assert "posts is gone" in world.run("limits", "unset", "acme", "posts", *WHY).stdout
    assert list(listed(world)) == ["app"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("set", "acme", "ap", "--count", "5", *WHY), "no limit 'ap' (known: app)"),
        (("set", "acmee", "app", "--count", "5", *WHY), "known: acme"),
        (("set", "acme", "app", "--count", "0", *WHY), "limit app.count: "),
        (("set", "acme", "app", "--rate", "5000", *WHY), "lower rate or burst"),
        (("set", "acme", "app", "--window", "nan", *WHY), "limit app.window_s: "),
        (("set", "acme", "app", "--match", "all", *WHY), "method and a path"),
        (("set", "acme", "app", "--shape", "leaky", *WHY), "leaky"),
        (("set", "acme", "app", *WHY), "nothing to set"),
        (("set", "acme", "/app", "--count", "5", *WHY), "limit /app is not in the configuration"),
        (("set", "acme", "emea/new", *WHOLE, *WHY), "changed live but not added"),
        (("set", "acme", "a/b/c", "--count", "5", *WHY), "changed live but not added"),
        (("set", "acme", "app", "--count", "5"), "--reason"),
        (("set", "acme", "app", "--count", "5", "--reason", " "), "--reason"),
        (("unset", "acme", "app", *WHY), "set live are: none"),
        (("list", "nobody"), "known: acme"),
    ],
)
def test_what_cannot_be_set_is_one_sentence_and_exit_2_and_changes_nothing(
    world: World, args: tuple[str, ...], said: str
) -> None:
    result = world.run("limits", *args)

    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert list(world.client.store.scan_iter(f"{world.namespace}:*")) == []


def test_a_second_name_of_a_limit_that_got_into_the_store_lets_nothing_pass(world: World) -> None:
    it = json.dumps({"values": {"count": 5}, "by": "maria", "reason": "maintenance"})
    world.client.store.hset(world.client.keys.overrides, "/app", it)

    result = world.run("limits", "list")

    assert result.exit_code == 2
    assert "headgate limits unset acme /app" in result.stderr


@pytest.mark.parametrize(
    "values", [{"count": 5}, {"count": 5, "shape": "bucket"}, {"count": 5, "match": "* *"}]
)
def test_a_part_of_a_limit_that_the_configuration_renamed_adds_none(
    world: World, values: dict[str, Any]
) -> None:
    limits.set_limit(world.client, "app", values, by="maria", reason="maintenance")
    world.config.write_text(world.config.read_text().replace('"app"', '"main"'))

    result = world.run("limits", "list")

    assert result.exit_code == 2
    assert "headgate limits unset acme app" in result.stderr


def test_a_limit_that_is_named_twice_is_unset_and_told_once(world: World) -> None:
    world.run("limits", "set", "acme", "app", "--count", "500", *WHY)

    result = world.run("limits", "unset", "acme", "app", "app", *WHY)

    assert result.exit_code == 0
    assert result.stdout.count("limit app") == 1


GOOD = {"values": {"count": 5}, "by": "maria", "reason": "maintenance"}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("app", json.dumps({**GOOD, "until": 7})),
        ("app", json.dumps({"values": {"count": 5}})),
        ("app", json.dumps({**GOOD, "values": 5})),
        ("app", "[]"),
        ("app", "no json"),
        ("#", "many"),
    ],
)
@pytest.mark.parametrize(
    "args",
    [
        ("limits", "list"),
        ("limits", "set", "acme", "app", "--count", "5", *WHY),
        ("limits", "unset", "acme", "app", *WHY),
        ("status",),
    ],
    ids=lambda args: " ".join(args[:2]),
)
def test_what_another_version_set_live_is_one_sentence_with_its_place(
    world: World, args: tuple[str, ...], field: str, text: str
) -> None:
    world.client.store.hset(world.client.keys.overrides, field, text)

    result = world.run(*args)

    assert result.exit_code == 2
    assert f"field {field!r} of the hash {world.client.keys.overrides}" in result.stderr
    assert world.client.store.hgetall(world.client.keys.overrides) == {field: text}


@pytest.mark.parametrize(
    "args",
    [
        ("client", "pause", "acme"), ("client", "resume", "acme"),
        ("limits", "set", "acme", "app", "--count", "5"),
    ],
    ids=lambda args: " ".join(args[:2]),
)  # fmt: skip
def test_a_reason_of_any_bytes_is_kept_as_plain_text(world: World, args: tuple[str, ...]) -> None:
    world.run("client", "pause", "acme", *WHY)
    odd = b"caf\xff \x1b[31mred\x01\n now".decode(errors="surrogateescape")

    result = world.run(*args, "--reason", odd, "--by", odd)

    assert result.exit_code == 0
    assert done(world)[0][2:] == ("caf? [31mred now", "caf? [31mred now")
    for field in (
        f"{world.client.store.hgetall(it)}" for it in (world.gov, world.client.keys.overrides)
    ):
        assert "\\x1b" not in field
        assert "u001b" not in field


def test_whoever_runs_the_command_did_it_unless_it_says_who(world: World) -> None:
    world.run("client", "pause", "acme", "--reason", "lunch")

    ((_, _, by, _),) = done(world)
    assert by == audit.user()


def test_a_client_is_paused_and_goes_on(world: World) -> None:
    world.submit(3)

    result = world.run("client", "pause", "acme", "--for", "2h", *WHY)
    assert "client acme is paused until 2" in result.stdout
    (hold,) = status(world.client).holds
    assert 7190 < hold.left_s <= 7200
    assert (hold.scope, hold.why) == ("client", "paused by maria: maintenance")
    assert not world.client.governor().ring("w1", 64).bells

    assert world.run("client", "resume", "acme", *WHY).stdout == (
        "client acme goes on; held were: client\n"
    )
    assert status(world.client).holds == []
    assert "nothing held" in world.run("client", "resume", "acme", *WHY).stdout
    assert world.bells(1)
    assert [it[0] for it in done(world)] == ["client resume", "client pause"]


def test_a_resume_of_all_ends_a_long_wait_of_a_route_and_names_it(world: World) -> None:
    world.submit(2)
    governor = world.client.governor()
    (bell, *others) = world.bells(2)
    grant = world.admit(bell)
    day = Requeue(
        outcome=Outcome.NOT_EXECUTED,
        status=429,
        throttled=True,
        pause=Pause(86_400),
        delay_s=86_401,
    )
    governor.settle(grant, day)
    for other in others:
        governor.requeue(other.key, other.step)
    (hold,) = status(world.client).holds

    kept = world.run("client", "resume", "acme", *WHY).stdout
    assert kept.startswith("nothing held client acme that this ends\nPOST /")
    assert kept.endswith("; --all ends this too\n")
    result = world.run("client", "resume", "acme", "--all", *WHY)

    assert result.exit_code == 0
    assert result.stdout == (
        f"client acme goes on; held were: {hold.scope}, 1 row that waits alone\n"
    )
    assert status(world.client).holds == []
    assert "nothing held" in world.run("client", "resume", "acme", *WHY).stdout
    assert len(world.bells(2)) == 2


def test_a_pause_without_an_end_says_what_ends_it(world: World) -> None:
    result = world.run("client", "pause", "acme", *WHY)

    assert (
        result.stdout == 'client acme is paused until: headgate client resume acme --reason "…"\n'
    )
    assert [it.scope for it in status(world.client).holds] == ["client"]
    shown = "client is paused until it is resumed: paused by maria: maintenance"
    assert shown in world.run("status").stdout
    assert explain_still(world.client).startswith("client is paused until it is resumed: ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("pause", "acmee", *WHY), "known: acme"),
        (("pause", "acme", "--for", "2", *WHY), "is no time"),
        (("pause", "acme", "--for", "0h", *WHY), "is no time"),
        (("pause", "acme"), "--reason"),
        (("resume", "acmee", *WHY), "known: acme"),
    ],
)
def test_a_pause_that_is_wrong_is_one_sentence_and_exit_2(
    world: World, args: tuple[str, ...], said: str
) -> None:
    result = world.run("client", *args)

    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("limits", "list"), ("limits", "set", "acme", "app", "--count", "5", *WHY),
        ("client", "pause", "acme", *WHY), ("client", "resume", "acme", *WHY),
    ],
)  # fmt: skip
def test_without_a_store_nothing_changes_and_the_exit_is_1(
    world: World, args: tuple[str, ...]
) -> None:
    text = world.config.read_text().replace(world.store_url, "redis://127.0.0.1:1/0")
    world.config.write_text(text)

    result = world.run(*args)

    assert result.exit_code == 1
    assert result.stderr.startswith("headgate: the store did not answer")
