"""What a store that is slow, or away for a while, changes: no grant is younger, no answer lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scripts.test_limiter import entry, gate, until_entry
from tests.support.endpoint import an_endpoint
from tests.support.fleet import port_of, until
from tests.support.rig import APP, DONE, Rig, S
from workers.errors import StoreAway
from workers.governor import governor
from workers.governor.grants import Denied, Settled
from workers.session import limiter
from workers.store.connection import connect

if TYPE_CHECKING:
    from tests.support.endpoint import Endpoint
    from workers.store.connection import Store

SLOW_NS = 5_000_000_000


class SlowStore:
    """The scripts, each of whose answers takes 5 s by a clock of the test's own."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self.ns = 1_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def __call__(self, name: str, *args: Any) -> Any:
        reply = self._run(name, *args)
        self.ns += SLOW_NS
        return reply


@pytest.mark.parametrize("who", ["job", "session"])
def test_a_grant_grows_old_while_the_store_takes_its_time_to_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    rig = Rig(store, APP)
    rig.line_up(1)
    rig.fill()
    it = gate(rig)
    asked = rig.governor if who == "job" else it
    slow = SlowStore(asked._run)
    (key,) = rig.ring()
    until_entry(rig, it)  # which defines its flow
    rig.us += 200_000
    asked._run = slow  # type: ignore[assignment]
    for module in (governor, limiter):
        monkeypatch.setattr(module, "now_ns", slow.now_ns)
    before_ns = slow.ns

    stale_at_ns = rig.grant(key).stale_at_ns if who == "job" else entry(it).stale_at_ns

    assert slow.ns == before_ns + SLOW_NS
    spread_ns = stale_at_ns - before_ns
    assert 0 < spread_ns < SLOW_NS  # so it is not used: its answer came too late


def test_an_answer_is_offered_until_the_store_takes_it_or_the_lease_is_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(store, APP)
    rig.line_up(1)
    rig.fill()
    (key,) = rig.ring()
    grant = rig.grant(key)
    run, away = rig.governor._run, [StoreAway("away")] * 3
    clock = SlowStore(run)

    def run_later(name: str, *args: Any) -> Any:
        clock.ns += 1_000_000_000
        if away:
            raise away.pop()
        return run(name, *args)

    rig.governor._run = run_later  # type: ignore[assignment]
    monkeypatch.setattr(governor, "now_ns", clock.now_ns)
    monkeypatch.setattr(governor, "wait", lambda _: None)

    assert rig.governor.settle(grant, DONE) is Settled.END
    away += [StoreAway("away")] * 1000
    with pytest.raises(StoreAway):
        rig.governor.settle(grant, DONE)
    assert 0 < len(away) < 1000


def rung_through(endpoint: Endpoint) -> tuple[Rig, str]:
    """A client that reaches its store by this endpoint, and the key of its only call, rung."""
    rig = Rig(connect(endpoint.url, timeout_s=0.5), APP)
    (key,) = rig.line_up(1, guards="n")
    rig.fill()
    assert rig.ring() == [key]
    return rig, key


def test_a_question_that_arrives_after_its_asker_gave_it_up_grants_nothing(
    store: Store, store_url: str
) -> None:
    with an_endpoint(port_of(store_url)) as endpoint:
        rig, key = rung_through(endpoint)
        endpoint.hold_requests()
        assert isinstance(rig.governor.admit(key, 1), Denied)  # by another connection it was undone
        before = calls_of_scripts(store)

        endpoint.let_go()
        until(lambda: calls_of_scripts(store) > before, what="the question")

        assert rig.state(key) == "r"
        rig.us += 4 * S
        assert rig.governor.sweep() == (1, 0, 0)
        rig.fill()
        assert rig.ring() == [key]
        assert rig.serve(key) is Settled.END


def test_a_question_that_was_answered_to_nobody_is_settled_as_not_sent(
    store: Store, store_url: str
) -> None:
    with an_endpoint(port_of(store_url)) as endpoint:
        rig, key = rung_through(endpoint)
        endpoint.hold()
        rig.store = store

        assert isinstance(rig.governor.admit(key, 1), Denied)

        assert rig.state(key) == "w"
        assert rig.ring() == [key]
        assert rig.serve(key) is Settled.END


def calls_of_scripts(store: Store) -> int:
    """How many scripts the server has run."""
    return int(store.info("commandstats")["cmdstat_fcall"]["calls"])


def test_a_call_that_no_limit_binds_starts_before_it_could_outlive_its_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(store)
    (key,) = rig.line_up(1)
    rig.fill()
    assert rig.ring() == [key]
    monkeypatch.setattr(governor, "now_ns", lambda: 0)

    margin_s = rig.governor._worker.lease_margin_s
    assert rig.grant(key).stale_at_ns == margin_s * 1e9
