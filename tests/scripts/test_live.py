"""Limits and pauses that change while the fleet runs, on a real store by a held clock."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from orchestration.dispatch import pages
from orchestration.operate import limits as operate_limits
from tests.support.rig import (
    APP,
    BURSTY,
    DONE,
    EP,
    FAILS,
    HELD,
    LEASE_US,
    LEAST,
    MS,
    REFUSED,
    SAID,
    STEADY,
    Rig,
    S,
    breaker,
    change,
    client_of,
    grants,
    pause,
    resume,
    spent,
)
from tests.support.stored import a_job
from workers.answer.guards import Memo, NextCall
from workers.answer.outcome import Outcome
from workers.answer.verdict import Pause, Reach, Requeue
from workers.clients import Client
from workers.errors import ConfigError, LedgerDamaged, UsageError
from workers.governor import flows, overrides
from workers.governor.grants import Settled
from workers.ledger import audit
from workers.ledger.ledger import PageCounts
from workers.settings.client import ClientSettings, TenantSettings
from workers.settings.limits import LimitSettings
from workers.settings.load import Settings, StoreSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workers.store.connection import Store

HOUR_US = 3600 * S


def done(rig: Rig) -> list[dict[str, Any]]:
    return [it.as_dict() for it in audit.read(rig.store, rig.keys)]


# Limits


def test_a_rate_that_is_set_lower_holds_from_the_next_ring_on(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(200)
    rig.fill()
    before = len(spent(rig, 10 * S))

    change(rig, APP.model_copy(update={"rate": 4.0}))
    after = len(spent(rig, 10 * S))

    assert before == 5 + 79
    assert after == 40


def test_tokens_are_kept_when_the_rate_changes_and_are_never_more(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(99)
    rig.fill()
    for key in rig.ring(after_us=0)[:3]:
        rig.grant(key)  # 2 of 5 tokens are left

    change(rig, APP.model_copy(update={"rate": 1.0}))

    assert rig.governed("c") == {"app": rig.us + 3 * S}


def test_a_larger_burst_has_to_fill_first(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(99)
    rig.fill()

    change(rig, APP.model_copy(update={"burst": 9}))

    assert len(rig.ring(after_us=0)) == 5


def test_a_smaller_burst_is_not_overfull(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(99)
    rig.fill()

    change(rig, APP.model_copy(update={"burst": 2}))

    assert len(rig.ring(after_us=0)) == 2


@pytest.mark.parametrize(("first", "then"), [(BURSTY, STEADY), (STEADY, BURSTY)])
@pytest.mark.parametrize("after_s", [1, 30, 90])
def test_a_window_that_sees_two_calibrations_of_a_limit_is_kept(
    store: Store, first: LimitSettings, then: LimitSettings, after_s: int
) -> None:
    rig = Rig(store, first)
    rig.line_up(400)
    rig.fill()

    moments = spent(rig, after_s * S, 200 * MS)
    change(rig, then)
    moments += spent(rig, 150 * S, 200 * MS)

    widest = max(sum(0 <= it - start < 100 * S for it in moments) for start in moments)
    assert 40 <= widest <= 100


def test_a_pause_outlasts_a_change_of_its_limit_to_the_microsecond(store: Store) -> None:
    rig = Rig(store, APP, EP)
    keys = rig.line_up(9, "POST /ep")
    rig.fill()
    rig.ring(after_us=0)
    rig.governor.settle(rig.grant(keys[0]), replace(HELD, pause=Pause(60.0)))

    change(rig, APP, EP.model_copy(update={"rate": 2.0}))

    assert rig.governed("c")["ep"] == rig.us + 60 * S + 2 * 500 * MS


def test_a_limit_that_is_put_back_starts_empty_for_it_did_not_count(store: Store) -> None:
    rig = Rig(store, APP, EP)
    rig.line_up(9, "POST /ep")
    rig.fill()

    change(rig, APP)
    rig.us += S
    change(rig, APP, EP)

    assert rig.governed("c")["ep"] == rig.us + 2 * 250 * MS
    assert rig.ring(after_us=0) == []


def test_a_limit_that_comes_to_further_calls_starts_empty(store: Store) -> None:
    rig = Rig(store, APP, EP)
    rig.line_up(9, "POST /ep")
    rig.line_up(9, "POST /other")
    rig.fill()

    change(rig, APP, EP.model_copy(update={"match": "POST *"}))

    assert rig.ring(after_us=0) == []


def test_a_change_is_there_whole_with_its_entry_or_not_at_all(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    client = client_of(rig)
    before = rig.dump()

    with pytest.raises(ConfigError, match=r"limit app: .* lower rate or burst \(set live: rate 90"):
        operate_limits.set_limit(client, "app", {"rate": 90.0}, **SAID)
    with pytest.raises(ConfigError, match=r"limit app\.count: .* greater than or equal to 1"):
        operate_limits.set_limit(client, "app", {"count": 0}, **SAID)
    with pytest.raises(UsageError, match=r"no limit 'apq' \(known: app\)"):
        operate_limits.set_limit(client, "apq", {"count": 9}, **SAID)
    with pytest.raises(UsageError, match="set live are: none"):
        operate_limits.unset_limits(client, ["app"], **SAID)
    assert rig.dump() == before

    operate_limits.set_limit(client, "app", {"count": 5, "burst": 2, "rate": 3.0}, **SAID)
    operate_limits.set_limit(client, "app", {"rate": 4.0}, **SAID)
    operate_limits.unset_limits(client, ["app"], **SAID)

    newest, second, first = done(rig)
    assert (first["action"], first["subject"], first["by"]) == ("limits set", "app", "maria")
    assert json.loads(second["before"]) == {"count": 5, "burst": 2, "rate": 3.0}
    assert json.loads(second["after"]) == {"count": 5, "burst": 2, "rate": 4.0}
    assert (newest["action"], newest["after"]) == ("limits unset", "")
    assert client.look() == (3, rig.client)


def test_a_limit_that_is_added_charges_what_waits_from_empty(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(50, "POST /x")
    rig.fill()
    slow = LimitSettings(name="slow", count=2, window_s=10.0, shape="fixed_window", match="POST /x")

    change(rig, APP, slow)

    assert len(spent(rig, 10 * S)) == 0
    assert 1 <= len(spent(rig, 10 * S)) <= 2


def test_a_tenants_own_limit_can_be_changed_and_none_be_added(store: Store) -> None:
    rig = Rig(store, APP)
    cap = LimitSettings(name="cap", count=5)
    client = client_of(
        rig, rig.client.model_copy(update={"tenants": {"emea": TenantSettings(limits=(cap,))}})
    )

    operate_limits.set_limit(client, "emea/cap", {"count": 3}, **SAID)
    whole = {"count": 1, "shape": "bucket", "match": "* *"}
    with pytest.raises(ConfigError, match=r"emea/new .* not in the configuration"):
        operate_limits.set_limit(client, "emea/new", whole, **SAID)

    assert client.look()[1].tenants["emea"].limits[0].count == 3


def test_what_is_set_live_of_a_limit_that_the_configuration_lost_lets_nothing_pass(
    store: Store,
) -> None:
    rig = Rig(store, APP, EP)
    for limit in ("app", "ep"):
        operate_limits.set_limit(client_of(rig), limit, {"rate": 1.0}, **SAID)
    later = client_of(rig, rig.client.model_copy(update={"limits": ()}))

    with pytest.raises(ConfigError, match="headgate limits unset acme app"):
        later.routes()
    operate_limits.unset_limits(later, ["app", "ep"], **SAID)

    assert later.routes() == set()
    assert later.settings().limits == ()


def cells(rig: Rig) -> list[dict[str, list[int]]]:
    """Interval and burst of each limit in each flow."""
    lines = [str(it).partition("\n")[0] for it in rig.store.hvals(rig.keys.flows)]  # type: ignore[union-attr]
    return [{row[0]: row[1:3] for row in json.loads(it)["limits"]} for it in lines]


def once(monkeypatch: pytest.MonkeyPatch, of: Any, name: str, act: Callable[[], object]) -> None:
    """Let something happen right after the first call of a function."""
    function = getattr(of, name)

    def first(*args: Any) -> Any:
        monkeypatch.setattr(of, name, function)
        found = function(*args)
        act()
        return found

    monkeypatch.setattr(of, name, first)


def test_changes_that_meet_are_all_made(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    one, other = client_of(rig), client_of(rig)
    meanwhile = partial(operate_limits.set_limit, other, "app", {"burst": 3}, **SAID)
    once(monkeypatch, overrides, "read", meanwhile)

    operate_limits.set_limit(one, "app", {"rate": 1.0}, **SAID)

    assert overrides.read(store, rig.keys).limits["app"].values == {"burst": 3, "rate": 1.0}
    assert [it["app"] for it in cells(rig)] == [[1_000_000, 3]]
    assert [json.loads(it["before"] or "{}") for it in done(rig)] == [{"burst": 3}, {}]


def test_a_flow_that_comes_while_limits_change_is_changed_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    once(monkeypatch, flows, "read", lambda: rig.line_up(9, "POST /new"))

    operate_limits.set_limit(client_of(rig), "app", {"rate": 1.0}, **SAID)

    assert [it["app"] for it in cells(rig)] == [[1_000_000, 5], [1_000_000, 5]]


def test_a_page_that_was_planned_under_other_limits_is_planned_anew(
    store_url: str, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stored = StoreSettings(url=store_url, namespace=uuid4().hex, data_dir=tmp_path)  # type: ignore[arg-type]
    fleet = Settings(store=stored)
    configured = ClientSettings(name="acme", base_url="http://provider", limits=(APP,))
    worker, operator = (Client(configured, fleet, store) for _ in range(2))
    step = {"name": "make", "method": "POST", "path": "/new", "body": {}}
    worker.ledger.begin(a_job("j1"))
    worker.ledger.accept("j1", 0, [{"line": 1, "id": "a", "steps": [step]}], PageCounts(calls=1))
    worker.ledger.start("j1")
    change_it = partial(operate_limits.set_limit, operator, "app", {"rate": 1.0}, **SAID)
    once(monkeypatch, Client, "look", change_it)

    assert not pages.open_next_page(worker, "j1")
    assert pages.open_next_page(worker, "j1")
    (definition,) = store.hvals(worker.keys.flows)
    assert '["app",1000000,5,' in str(definition)


# Pauses


def test_a_paused_client_sends_nothing_and_bells_that_are_out_go_back(store: Store) -> None:
    rig = Rig(store, APP)
    keys = rig.line_up(20)
    rig.fill()
    rung = rig.ring(after_us=0)
    flying = rig.grant(rung[0])

    assert pause(rig, for_s=7200) == rig.us + 2 * HOUR_US

    assert rig.word(rung[1]).startswith("wait")
    assert rig.governor.settle(flying, DONE) is Settled.END
    assert rig.ring_on(30 * S) == []
    assert rig.states(keys)["succeeded"] == 1
    why = store.hget(rig.keys.governor, "y:client")
    assert why == "paused by maria: maintenance at the provider"


def test_a_pause_ends_by_itself_and_what_waited_is_paced_after_a_resume(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(90)
    rig.fill()
    pause(rig, for_s=60)
    assert spent(rig, 59 * S) == []
    assert spent(rig, 2 * S) != []

    pause(rig)
    assert spent(rig, 60 * S) == []
    assert resume(rig)
    began = rig.us

    moments = spent(rig, 2 * S)
    assert moments[0] >= began + 125 * MS
    assert len(moments) == 16
    assert [it["action"] for it in done(rig)] == ["client resume", "client pause", "client pause"]


def test_nothing_shortens_an_operators_pause(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(20)
    rig.fill()
    grant = rig.grant(rig.ring(after_us=0)[0])
    end_us = pause(rig, for_s=3600)

    rig.governor.settle(grant, replace(HELD, pause=Pause(5.0, Reach.CLIENT)))
    assert pause(rig, for_s=60) == end_us

    assert store.hget(rig.keys.governor, "c:client") == str(end_us)


def test_a_resume_leaves_the_providers_hold_of_the_client_unless_all_is_to_end(
    store: Store,
) -> None:
    rig = Rig(store, APP, EP)
    rig.line_up(20, "POST /ep")
    rig.fill()
    grant = rig.grant(rig.ring(after_us=0)[0])
    rig.governor.settle(grant, replace(HELD, pause=Pause(3600.0, Reach.CLIENT)))
    pause(rig)
    assert rig.ring_on(S) == []

    assert resume(rig) == ["client"]
    assert rig.ring_on(2 * S) == []
    assert store.hget(rig.keys.governor, "y:client") == "the provider asked to wait"

    assert resume(rig, everything=True)
    assert len(spent(rig, 2 * S)) == 7  # paced by the limit ep, from empty


def test_a_resume_leaves_what_the_provider_ordered_during_the_pause(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(20)
    rig.fill()
    grant = rig.grant(rig.ring(after_us=0)[0])
    pause(rig, for_s=7200)
    rig.governor.settle(grant, replace(HELD, pause=Pause(3600.0, Reach.CLIENT), delay_s=1))

    assert resume(rig) == ["client"]

    assert rig.ring_on(3598 * S, 10 * S) == []
    rig.us += 10 * S
    assert spent(rig, 2 * S)


def test_a_resume_of_all_ends_the_hold_of_a_limit_that_the_provider_holds_for_itself(
    store: Store,
) -> None:
    rig = Rig(store, APP, EP)
    rig.line_up(9, "POST /ep")
    others = rig.line_up(20, "POST /x")
    rig.fill()
    rung = rig.ring(after_us=0)
    held = next(key for key in rung if key not in others)
    rig.governor.settle(rig.grant(held), replace(HELD, pause=Pause(3600.0)))
    for key in set(rung) - {held}:
        rig.governor.requeue(key, 1)
    pause(rig, for_s=7200)

    assert resume(rig) == ["client"]
    went = rig.ring_on(S)
    assert went
    assert not set(went) - set(others)
    for key in went:
        rig.governor.requeue(key, 1)
    assert resume(rig, everything=True)

    assert rig.governed("c")["ep"] == rig.us + 2 * 250 * MS  # empty, and held no more
    assert set(rig.ring_on(S)) - set(others)


def test_a_resume_of_all_ends_waits_of_rows_that_the_provider_ordered_and_no_others(
    store: Store,
) -> None:
    rig = Rig(store, APP)
    ordered, looked, again = rig.line_up(3)
    rig.fill()
    waits = {
        ordered: Requeue(outcome=Outcome.NOT_EXECUTED, retry_after_s=3600, delay_s=3600),
        looked: Requeue(
            outcome=Outcome.UNKNOWN,
            retry_after_s=60,
            delay_s=3600,
            memo=Memo(next=NextCall.LOOKUP, lookups=0),
        ),
        again: Requeue(outcome=Outcome.NOT_EXECUTED, delay_s=3600),
    }
    for key in rig.ring(after_us=0):
        rig.governor.settle(rig.grant(key), waits[key])

    assert resume(rig) == []
    assert resume(rig, everything=True) == ["1 row that waits alone"]

    assert rig.ring_on(2 * S) == [ordered]
    assert resume(rig, everything=True) == []


def test_a_resume_of_all_ends_the_ordered_wait_of_a_row_in_quarantine(store: Store) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1)
    rig.fill()
    assert rig.ring() == [key]
    rig.grant(key)
    rig.us += LEASE_US  # its worker died
    rig.governor.sweep()
    rig.fill()
    assert rig.ring() == [key]
    hour = Requeue(outcome=Outcome.NOT_EXECUTED, retry_after_s=3600, delay_s=3600)
    rig.serve(key, verdict=hour)

    assert resume(rig, everything=True) == ["1 row that waits alone"]

    assert rig.ring_on(2 * S) == [key]


@pytest.mark.parametrize("garbage", ["inf", "nan", "1e400", "-inf"])
def test_a_pause_holds_whatever_stood_there_before(store: Store, garbage: str) -> None:
    rig = Rig(store, APP)
    rig.line_up(5)
    store.hset(rig.keys.governor, "c:client", garbage)

    assert pause(rig, for_s=60) == rig.us + 60 * S

    assert rig.ring_on(59 * S) == []


@pytest.mark.parametrize("verdict", [REFUSED, FAILS], ids=["throttled", "failing"])
def test_a_resume_closes_each_breaker(store: Store, verdict: Requeue) -> None:
    rig = Rig(store, APP)
    rig.line_up(80)
    for grant in grants(rig, LEAST):
        rig.governor.settle(grant, verdict)
    rig.us += 40 * S
    (scope,) = [it[2:] for it in store.hkeys(rig.keys.governor) if it.startswith("k:")]  # type: ignore[union-attr]

    assert resume(rig)

    assert not breaker(rig, scope)
    assert len(spent(rig, S)) > 1


def test_a_resume_of_what_is_not_held_changes_nothing(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    rig.fill()
    before = rig.dump()

    assert not resume(rig)

    assert rig.dump() == before


@pytest.mark.parametrize(
    ("act", "name"),
    [
        *((pause, it) for it in ("gov", "audit")),
        *((resume, it) for it in ("gov", "flows", "audit")),
        *((change, it) for it in ("gov", "flows", "deadlines", "overrides", "audit")),
    ],
)
def test_a_key_of_a_wrong_type_stops_a_change_before_its_first_write(
    store: Store, act: Any, name: str
) -> None:
    rig = Rig(store, APP)
    rig.line_up(9)
    pause(rig)
    store.delete(rig.keys.prefix + name)
    store.set(rig.keys.prefix + name, "of another kind")
    before = rig.dump()

    with pytest.raises(LedgerDamaged):
        act(rig) if act is not change else change(rig, APP)

    assert rig.dump() == before


def test_the_audit_is_read_from_its_newest_entry_on_and_forgets_after_its_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(store, APP)
    for number in range(300):
        audit.record(store, rig.keys, "rotated", key=f"k{number}", by="headgate")

    newest = audit.read(store, rig.keys, most=2)
    older = audit.read(store, rig.keys, most=1, before=newest[1].id)
    assert [it.key for it in [*newest, *older]] == ["k299", "k298", "k297"]

    monkeypatch.setattr(audit, "KEPT_S", -60)
    audit.record(store, rig.keys, "rotated", key="last", by="headgate")
    assert len(audit.read(store, rig.keys, most=1000)) <= 101  # a block of the stream at a time
