"""The invariants that hold the ledger against a provider's journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import journal
from tests.support.journal import Transaction
from workers.ledger.identity import step_key
from workers.settings.limits import LimitSettings

if TYPE_CHECKING:
    from tests.support.world import World

ROUTES = ("POST /things?queue=no", "POST /things/{make.id}/start")
KEY = "0b9c1b7e-0000-8000-8000-000000000001"
OTHER = "0b9c1b7e-0000-8000-8000-000000000002"


def tx(
    state: str = "succeeded", *, key: str = KEY, step: int = 2, guards: str = "kk"
) -> Transaction:
    return Transaction(key, state, step, ROUTES, guards)


def effect(seq: int, path: str = "/things", name: str = "", key: str = KEY) -> dict[str, Any]:
    name = name or f"{key}{path}"
    return {
        "seq": seq, "t_us": seq, "method": "POST", "path": path, "business_id": name, "key": key
    }  # fmt: skip


MADE, STARTED = effect(1), effect(2, "/base/things/7/start")


def test_one_effect_a_step_is_right_and_a_second_one_is_found_under_any_key() -> None:
    assert journal.at_most_one_effect([MADE, STARTED]) == []
    assert journal.at_most_one_effect([MADE, {**MADE, "seq": 3, "key": OTHER}]) == [
        f"POST /things had 2 effects on {MADE['business_id']}"
    ]


@pytest.mark.parametrize(
    ("it", "effects", "sound"),
    [
        (tx(), [MADE, STARTED], True),
        (tx(), [MADE], False),
        (tx(), [], False),
        (tx(guards="kr"), [MADE], True),  # a read has no effect
        (tx("failed"), [MADE], True),
        (tx("failed"), [MADE, STARTED], False),
        (tx("failed", step=1), [], True),
        (tx("failed", step=1), [MADE], False),
        (tx("unknown"), [MADE, STARTED], True),
        (tx("unknown"), [MADE], True),
        (tx("unknown"), [], False),  # its first step is done, says the ledger
        (tx("w"), [], True),
    ],
)
def test_states_tell_no_lies_about_effects(
    it: Transaction,
    effects: list[dict[str, Any]],
    sound: bool,  # noqa: FBT001
) -> None:
    assert (journal.effects_match_states([it], effects) == []) is sound


def test_steps_are_told_by_their_own_keys_where_the_provider_wants_them_apart() -> None:
    effects = [effect(k, "/elsewhere", key=step_key(KEY, k)) for k in (1, 2)]

    assert journal.effects_match_states([tx()], effects) == []
    assert journal.effects_match_states([tx()], effects[1:]) != []


def test_a_step_before_the_one_ahead_of_it_is_found() -> None:
    assert journal.steps_in_order([tx()], [MADE, STARTED]) == []
    assert journal.steps_in_order([tx("w")], [MADE]) == []
    assert journal.steps_in_order([tx()], [STARTED, {**MADE, "seq": 3}]) == [
        f"{KEY}: step 2 before step 1"
    ]
    assert journal.steps_in_order([tx()], [STARTED]) != []


def request(key: str = KEY, kind: str = "effect", t_us: int = 0, **more: Any) -> dict[str, Any]:
    return {"t_us": t_us, "method": "POST", "path": "/things", "key": key, "kind": kind, **more}


def test_a_key_that_no_transaction_has_is_found() -> None:
    steps = [request(step_key(KEY, k)) for k in (1, 2)]
    token = {"t_us": 0, "method": "POST", "path": "/oauth/token", "kind": "token"}

    assert journal.one_key_per_transaction([tx()], [request(), *steps, token]) == []
    assert journal.one_key_per_transaction([tx()], [request(OTHER)]) != []
    assert journal.one_key_per_transaction([tx()], [request("")]) != []


def test_a_thing_that_sees_two_keys_is_found() -> None:
    both = [tx(), tx(key=OTHER)]
    mine = request(created=["a"])

    assert journal.one_key_per_transaction(both, [mine, request(repeated=["a"])]) == []
    assert journal.one_key_per_transaction(both, [mine, request(OTHER, repeated=["a"])]) == [
        "POST /things acted on a under 2 keys"
    ]


def report(arrived: int, refused: int = 0) -> dict[str, Any]:
    window = {"name": "app", "count": 200, "window_s": 1.0, "max_arrived": arrived}
    return {"windows": [window], "refused_429": refused}


def test_windows_are_held_to_the_count_and_buckets_to_what_the_governor_promises() -> None:
    bucket = LimitSettings(name="app", count=200)
    window = LimitSettings(name="app", count=200, shape="sliding_window")

    assert journal.within_limits(report(200)) == []
    assert journal.within_limits(report(201)) != []
    assert journal.within_limits(report(350), [bucket]) == []
    assert journal.within_limits(report(201), [window]) != []


def test_a_refusal_is_found_even_within_the_limit() -> None:
    assert journal.nothing_refused(report(100)) == []
    assert journal.nothing_refused(report(100, 1)) == ["1 requests were refused with 429"]


def test_a_request_inside_a_pause_is_found_but_not_what_was_under_way() -> None:
    refused = request(kind="refused", t_us=10_000_000)
    s = 1_000_000

    def with_one_at(t_s: float) -> list[str]:
        return journal.quiet_in_pauses([refused, request(t_us=int(t_s * s))], 5.0)

    assert with_one_at(9.0) == with_one_at(10.4) == with_one_at(15.0) == []
    assert with_one_at(10.6) == ["a request 4.400 s before the end of a pause"]
    assert with_one_at(14.9) != []


def test_a_run_in_which_little_succeeds_proves_nothing() -> None:
    assert journal.mostly_succeeded([tx()] * 95 + [tx("failed")] * 5) == []
    assert journal.mostly_succeeded([tx()] * 94 + [tx("failed")] * 6) == [
        "only 94 of 100 transactions succeeded"
    ]


def test_transactions_are_read_from_the_ledger_with_what_they_were_to_send(world: World) -> None:
    world.submit(2, more=[{"line": 3, "id": "j1-0", "joins": 1}, {"line": 4, "error": "bad"}])
    world.work()

    found = list(journal.transactions(world.client, "j1"))

    assert [it.key for it in found] == [world.client.key("j1", f"j1-{n}") for n in (0, 1)]
    assert {it.routes for it in found} == {("POST /things", "POST /things/{make.id}/start")}
    assert {(it.state, it.step, it.guards) for it in found} == {("succeeded", 2, "kk")}
