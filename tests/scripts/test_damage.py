"""Damaged keys: no script fails between its first and its last write, and others are served."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.damage import GARBAGE, TO_BE_SPLIT, Damage, Ledger
from tests.support.rig import DONE, FAILED, FAILS, GRACE_US, LATER, LEASE_US, MS, REFUSED, RETRY, S
from tests.support.source import ROOT
from workers.answer.quota_headers import Feedback
from workers.answer.verdict import Awaited, Pause, to_json
from workers.errors import HeadgateError
from workers.governor import flows
from workers.governor.grants import Grant, Settled
from workers.ledger import audit
from workers.ledger.transaction import FINAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.answer.verdict import Verdict
    from workers.store.connection import Store

SCRIPTS: Final = {file.stem for file in (ROOT / "workers/lua").glob("*.lua")} - {"prelude"}

MAX_AGE: Final = 9 * 3600 * S
#: A look that was too early, at what another transaction makes.
WAITS: Final = replace(LATER, part_done=True, waits_for=Awaited("j1-007", 1))
HEADERS: Final = Feedback(None, 0, 3.0)


def run(name: str, *args: object) -> Callable[[Ledger], object]:
    """A run of a script; an argument may be made of the ledger."""

    def act(it: Ledger) -> object:
        given = [arg(it) if callable(arg) else arg for arg in args]
        return it.rig.governor._run(name, *given)

    act.__name__ = name
    return act


def settle(verdict: Verdict) -> Callable[[Ledger], object]:
    return run("settle", lambda it: it.sent, 1, "held", to_json(verdict), GRACE_US)


def late(it: Ledger) -> None:
    it.rig.us += LEASE_US
    it.rig.governor.sweep()


def dead(it: Ledger) -> None:
    settle(FAILED)(it)


def dead_and_late(it: Ledger) -> None:
    dead(it)
    it.store.hset(it.rig.keys.transaction(it.sent), "sw", "held 0 0 ")


def set_back(it: Ledger) -> None:
    it.rig.us -= 3600 * S


def back_in_an_outage(it: Ledger) -> None:
    troubled(it)
    probing(it)
    set_back(it)


def split_waits(it: Ledger) -> None:
    settle(TO_BE_SPLIT)(it)
    for _ in range(200):
        it.rig.ring()
        if it.rig.state(it.sent) == "r":
            return
    raise AssertionError("it was not rung")


def ordered_to_wait(it: Ledger) -> None:
    settle(replace(REFUSED, pause=Pause(3600), delay_s=3600))(it)


def nothing(it: Ledger) -> None:
    del it


def last_step(it: Ledger) -> None:
    it.store.hset(it.rig.keys.transaction(it.sent), "n", 1)
    it.store.hset(it.rig.keys.job("j1"), "pages", 2)


def without_guard(it: Ledger) -> None:
    late_of = it.rig.keys.transaction(it.sent)
    it.store.hset(late_of, "g", "n")
    it.rig.us += LEASE_US


def ended_late(it: Ledger) -> None:
    without_guard(it)
    it.rig.governor.sweep()


def letter(it: Ledger) -> str:
    return str(it.store.hget(it.rig.keys.transaction(it.sent), "d"))


def page(it: Ledger) -> list[str]:
    flow = flows.flow(it.rig.client, 2, "-", "POST /x")
    texts = json.dumps(it.rig.definitions(flow)), json.dumps([[it.rung, 0]])
    return [*texts, "j2-000", flow.id, "k", "1", "0", "1"]


def entry(text: str) -> list[str]:
    return [*audit.addition(text)]


def opened(it: Ledger) -> object:
    return it.rig.governor._run("open", "j2", 0, *page(it))


def applied(it: Ledger) -> object:
    known = it.store.hgetall(it.rig.keys.flows)
    flat = [text for pair in known.items() for text in pair]
    return it.rig.governor._run("apply_limits", 0, len(known), "[]", *flat)


def defined(it: Ledger) -> object:
    flow = flows.flow(it.rig.client, 0, "-", "POST /y")
    (pair,) = it.rig.definitions(flow).items()
    return it.rig.governor._run("define", 0, *pair)


def located(it: Ledger) -> object:
    return it.rig.governor._run("locate", *it.keys)


def halved(it: Ledger) -> object:
    halves = ["h1", "0:1:0:1", "1", "h2", "0:1:1:2", "1"]
    return it.rig.governor._run("split", it.sent, 1, 1, *halves)


def locked(it: Ledger) -> None:
    it.rig.governor._run("token_look", "me", 9000, "")


def kept(it: Ledger) -> None:
    locked(it)
    us = it.rig.us
    it.rig.governor._run("token_keep", "me", "token", 1, us, us + S, us + 2 * S)
    it.rig.us += 3 * S
    locked(it)


def refused_once(it: Ledger) -> None:
    kept(it)
    run("token_refuse", 1, S, 9 * S, 60 * S)(it)


def came_back(it: Ledger) -> None:
    refused_once(it)
    run("token_worked", 0, 64)(it)


def recover(it: Ledger) -> object:
    return it.rig.governor._run("recover", "j1", it.rig.us - S, 0, *it.keys)


def us(more: int = 0) -> Callable[[Ledger], int]:
    return lambda it: it.rig.us + more


def rung(it: Ledger) -> str:
    return it.rung


def ring_after(wait_us: int) -> Callable[[Ledger], object]:
    def act(it: Ledger) -> object:
        it.rig.us += wait_us
        return it.rig.governor.ring("w", 20)

    return act


def sweep(it: Ledger) -> object:
    it.rig.us += LEASE_US
    return it.rig.governor._run("sweep", 3, 200)


def troubled(it: Ledger) -> None:
    """Others of the scope failed of late, so that one more bad answer opens its breaker."""
    second = it.rig.us // S
    bad = " ".join(f"{second}-other{number:03}" for number in range(15))
    it.store.hset(it.rig.keys.evidence, it.scope, f"15 {it.rig.us} {bad}\nit failed")
    it.store.hset(it.rig.keys.evidence, "token:", f"3 {it.rig.us} {bad}\nit was refused")


def recovering(it: Ledger) -> None:
    """One more good answer, and all that is known of the scope is good."""
    second = it.rig.us // S
    answers = " ".join([f"{second}-other", *[f"{second}+"] * 31])
    it.store.hset(it.rig.keys.evidence, it.scope, f"0 {it.rig.us} {answers}\nit failed")


def open_breaker(it: Ledger) -> None:
    """The breaker of the scope is open, and a probe may go now."""
    it.store.hset(
        it.rig.keys.breaker(it.scope),
        mapping={
            "cause": "failing",
            "why": "it failed",
            "opened_us": it.rig.us - S,
            "due_us": it.rig.us,
            "every_us": S,
            "probers": "",
            "probes": 1,
            "good": 1,
        },
    )
    opened = {"opened": it.scope, "opened_us": it.rig.us - S}
    it.store.hset(it.rig.keys.governor, mapping={f"k:{it.scope}": it.rig.us, **opened})


def unconnected(it: Ledger) -> None:
    """The only worker that rings, and another one, could not connect of late."""
    troubled(it)
    failed = {"w": it.rig.us, "sick": it.rig.us}
    it.store.hset(f"{it.rig.keys.prefix}unconnected", mapping=failed)


def probe_may_go(it: Ledger) -> None:
    """And no bell of its scope is out."""
    open_breaker(it)
    it.store.hset(it.rig.keys.governor, f"b:{it.scope}", 0)


def other_opened(it: Ledger) -> None:
    """The breaker of another scope is open, so that this one's opens that of the client."""
    troubled(it)
    opened = {"k:other": it.rig.us, "opened": "other", "opened_us": it.rig.us - S}
    it.store.hset(it.rig.keys.governor, mapping=opened)
    it.store.hset(it.rig.keys.breaker("other"), "cause", "failing")


def probing(it: Ledger) -> None:
    """What is sent, and the permit, are probes."""
    open_breaker(it)
    probers = f"{it.sent}={it.rig.us + LEASE_US} permit={it.rig.us + LEASE_US}"
    it.store.hset(it.rig.keys.breaker(it.scope), "probers", probers)
    for name in (it.sent, "permit"):
        it.store.hset(it.rig.keys.transaction(name), "pb", it.scope)


def refused_outside(it: Ledger) -> None:
    """A call outside of jobs was refused before, by its flow and by its request."""
    for caller in (it.flow, "digest"):
        it.store.hset(it.rig.keys.transaction(f"caller:{caller}"), "rf", f"0 0 0 0 {it.scope}")


def waited_for(it: Ledger) -> None:
    """Others wait for what is sent: one that waits, and one that went on since."""
    it.store.hset(it.rig.keys.transaction(it.sent), "aw", 1)
    for key in (it.keys[-1], it.rung):
        it.store.sadd(it.rig.keys.waiters(it.sent), f"1 {it.flow} {key}")


def waited_for_in_vain(it: Ledger) -> None:
    without_guard(it)
    waited_for(it)


def late_and_troubled(it: Ledger) -> None:
    late(it)
    troubled(it)


def nothing_out(it: Ledger) -> None:
    keys = it.rig.keys
    it.store.delete(keys.deadlines, keys.retries, keys.quarantine, keys.permits)
    it.store.hset(keys.oauth, "token", "sealed")
    bound(it)


def begun(it: Ledger) -> None:
    run("begin_write", "task", "w1", "ab", MAX_AGE, 60)(it)


bound = run("bind", "account", "one")


def rebound(it: Ledger) -> object:
    before, after = json.dumps({"account": "one"}), json.dumps({"account": "two"})
    return it.rig.governor._run("rebind", before, after, *entry("rebind"))


def reclaim(key: Callable[[Ledger], str], step: int) -> Callable[[Ledger], object]:
    return lambda it: it.rig.governor._run(
        "reclaim", key(it), "j1", step, "forgotten", it.rig.us, LEASE_US
    )


def renamed(it: Ledger) -> object:
    """The limits are others: the scope of the flows is the client from now on."""
    known = it.store.hkeys(it.rig.keys.flows)
    text = json.dumps({**it.definition, "scope": "client"})
    flat = [part for name in known for part in (name, text)]
    change = json.dumps([["app", "{}", entry("limit")]])
    return it.rig.governor._run("apply_limits", 0, len(known), change, *flat)


NOT_BEGUN: Final = ("requeue", rung, 1, 0, "no connection", S, "calls", "client")
OF_TOKEN: Final = replace(FAILS, status=401, of_token=True)

#: What goes before, and the run of one script.
RUNS: Final[dict[str, list[tuple[Callable[[Ledger], object], Callable[[Ledger], object]]]]] = {
    "accept": [(nothing, run("accept", "j3", 0, 1, 0, 1, "body"))],
    "acquire": [
        (before, run("acquire", "next", lambda it: it.flow, LEASE_US, S))
        for before in (nothing, open_breaker)
    ],
    "admit": [
        (before, run("admit", rung, 1, "fence", LEASE_US, MAX_AGE, "calls", "client"))
        for before in (nothing, open_breaker)
    ],
    "apply_limits": [(nothing, applied), (open_breaker, renamed)],
    "begin": [(nothing, run("begin", "j9", "kind", "calls"))],
    "begin_write": [
        (nothing, run("begin_write", "task", "w1", "ab", MAX_AGE, 60)),
        (begun, run("begin_write", "task", "w1", "ab", MAX_AGE, 60)),
    ],
    "bind": [(nothing, bound)],
    "breaker_left": [(open_breaker, run("breaker_left", lambda it: it.flow))],
    "connected": [(unconnected, run("connected", "sick"))],
    "check_counters": [(nothing, run("check_counters"))],
    "clock_rollback": [
        (set_back, run("clock_rollback")),
        (back_in_an_outage, run("clock_rollback")),
    ],
    "define": [(nothing, defined)],
    "discard": [
        (
            dead_and_late,
            lambda it: it.rig.governor._run("discard", it.sent, letter(it), *entry("x")),
        )
    ],
    "distrust": [(nothing, run("distrust", 1))],
    "fails_alone": [(unconnected, run("fails_alone", "sick"))],
    "forget_write": [(begun, run("forget_write", "task", "w1"))],
    "step_down": [(nothing, run("step_down", "w", "calls"))],
    "locate": [(nothing, located)],
    "open": [(nothing, opened)],
    "pause": [(nothing, lambda it: it.rig.governor._run("pause", S, "why", *entry("pause")))],
    "rebind": [(nothing_out, rebound)],
    "reclaim": [
        (nothing, reclaim(rung, 1)),
        (nothing, reclaim(lambda it: it.keys[6], 1)),
        (nothing, reclaim(rung, 2)),
        (nothing, reclaim(lambda _: "on-a-page", 1)),
    ],
    "recover": [(nothing, recover)],
    "release": [
        (nothing, run("release", "permit", "refused", 9 * S, "no", "", 0)),
        (nothing, run("release", "permit", "refused", 9 * S, "no", "", 0, 0, 1, "digest")),
        (refused_outside, run("release", "permit", "refused", 9 * S, "no", "", 0, 0, 1, "digest")),
        (refused_outside, run("release", "permit", "good", 0, "", "", 0, 0, 1, "digest")),
        (nothing, run("release", "permit", "good", 0, "", "0", S)),
        (troubled, run("release", "permit", "bad", 0, "it failed", "", 0)),
        (probing, run("release", "permit", "good", 0, "", "", 0)),
    ],
    "renew": [(nothing, run("renew", lambda it: it.sent, "held", LEASE_US))],
    "replay": [
        (dead, lambda it: it.rig.governor._run("replay", it.sent, letter(it), 0, *entry("x")))
    ],
    "requeue": [
        (nothing, run("requeue", rung, 1, 9 * S, "nobody is there", 0, "calls", "client")),
        (troubled, run(*NOT_BEGUN)),
        (open_breaker, run(*NOT_BEGUN)),
        (troubled, run(*NOT_BEGUN, "sick", S)),
        (open_breaker, run(*NOT_BEGUN, "sick", S)),
        (unconnected, run(*NOT_BEGUN, "well", S)),
    ],
    "resume": [
        (
            run("pause", S, "why", *entry("p")),
            lambda it: it.rig.governor._run("resume", 0, *entry("r")),
        ),
        (open_breaker, lambda it: it.rig.governor._run("resume", 0, *entry("r"))),
        (ordered_to_wait, lambda it: it.rig.governor._run("resume", 1, *entry("r"))),
    ],
    "ring": [
        (nothing, ring_after(2 * S)),  # a countdown is over, and a page is to be opened
        (nothing, ring_after(100 * MS)),
        (probe_may_go, ring_after(100 * MS)),
    ],
    "rotate": [
        (nothing, lambda it: it.rig.governor._run("rotate", it.rung, 1, 1, 1, 3, *entry("r"))),
        (nothing, lambda it: it.rig.governor._run("rotate", it.rung, 1, 1, 1, 1, *entry("r"))),
    ],
    "settle": [
        (nothing, settle(DONE)),
        (last_step, settle(replace(DONE, provider_id="p", values='{"id": 1}', quota=HEADERS))),
        (last_step, settle(FAILED)),
        (nothing, settle(LATER)),
        (nothing, settle(RETRY)),
        (nothing, settle(WAITS)),
        (waited_for, settle(DONE)),
        (waited_for, settle(FAILED)),
        (nothing, settle(replace(REFUSED, pause=Pause(9)))),
        (late, settle(DONE)),
        (ended_late, settle(RETRY)),
        (troubled, settle(FAILS)),
        (troubled, settle(DONE)),
        (recovering, settle(DONE)),
        (other_opened, settle(FAILS)),
        (troubled, settle(OF_TOKEN)),
        (probing, settle(DONE)),
        (probing, settle(FAILS)),
        (late_and_troubled, settle(FAILS)),
    ],
    "split": [(split_waits, halved)],
    "start": [(run("accept", "j3", 0, 1, 0, 1, "body"), run("start", "j3"))],
    "start_load": [(run("accept", "j3", 0, 1, 0, 1, "body"), run("start_load", "j3", "list", 1))],
    "sweep": [(nothing, sweep), (waited_for_in_vain, sweep), (probing, sweep)],
    "token_keep": [(kept, run("token_keep", "me", "token", 2, us(), us(S), us(2 * S)))],
    "token_look": [(kept, run("token_look", "you", 9000, ""))],
    "token_refuse": [(kept, run("token_refuse", 1, S, 9 * S, 60 * S))],
    "token_release": [(kept, run("token_release", "me", "no", 0, S))],
    "token_worked": [
        (refused_once, run("token_worked", 0, 64)),
        (came_back, run("token_worked", 64, 64)),
    ],
    "trust": [(run("distrust", 1), run("trust"))],
    "undo": [(nothing, lambda it: it.rig.governor._run("undo", rung(it), "late"))],
}


#: Those that write nothing.
READS: Final = {
    *("breaker_left", "check_counters", "fails_alone", "located", "renew", "token_look"),
}


def test_every_script_is_run_on_damaged_keys() -> None:
    assert {*RUNS} == SCRIPTS


@pytest.mark.parametrize(
    ("before", "act"),
    [
        pytest.param(*pair, id=f"{name}{number}")
        for name, pairs in RUNS.items()
        for number, pair in enumerate(pairs)
    ],
)
def test_no_script_fails_between_its_first_and_its_last_write(
    store: Store,
    before: Callable[[Ledger], object],
    act: Callable[[Ledger], object],
) -> None:
    it = Ledger(store)
    before(it)
    whole, at_us = it.snapshot(), it.rig.us
    good = it.content()
    act(it)
    assert it.content() != good or getattr(act, "__name__", "") in READS
    after = it.fields()
    it.restore(whole, at_us)
    half_done = []
    for what in [*it.damages(after)]:
        it.damage(what)
        damaged = it.content()
        try:
            act(it)
        except HeadgateError as error:
            now = it.content()
            if changed := [key for key in {*now, *damaged} if now.get(key) != damaged.get(key)]:
                names = " ".join(sorted(key.removeprefix(it.prefix) for key in changed))
                half_done.append(f"{what} -> {names}: {error}")
        except Exception as error:  # noqa: BLE001 -- any other failure is one of the process
            half_done.append(f"{what} -> {error!r}")
        it.restore(whole, at_us)
    assert not half_done, "\n".join([f"{len(half_done)} of them", *half_done])


#: What a client cannot do without: there is one of each.
GLOBAL: Final = ("gov", "flows", "active", "deadlines", "retries", "quarantine", "permits", "dead")
#: Counters and moments of gov that are tried here; the others are of the same kinds.
OF_GOV: Final = (
    "b:client",
    "b:app",
    "b:few",
    "l:few",
    "q:1",
    "c:app",
    "w:w",
    "next",
    "owner",
    "p:1:-",
)


def is_of_interest(what: Damage) -> bool:
    """Whether a damage is tried: of each kind one, for each takes some time."""
    if what.kind == "unknown member":
        return True
    if what.key == "gov":
        return what.kind == "garbage" and what.field in OF_GOV
    if what.key.startswith("tx:j1-00"):
        return what.key in {"tx:j1-000", "tx:j1-001"} or not what.field
    return bool(what.field) and what.key == "flows"


def serve_all(it: Ledger) -> None:
    """Ring, sweep and serve; leases end in between."""
    for turn in range(24):
        it.rig.us += LEASE_US if turn in {8, 16} else 400 * MS
        answer = it.rig.governor.ring("w", 200)
        for bell in answer.bells:
            with suppress(HeadgateError):
                grant = it.rig.governor.admit(bell.key, bell.step)
                while isinstance(grant, Grant):
                    if it.rig.governor.settle(grant, DONE) is not Settled.RING:
                        break
                    grant = it.rig.governor.admit(bell.key, grant.step + 1)
        if answer.sweep:
            it.rig.governor.sweep()


def test_a_damaged_key_stops_none_of_the_other_transactions(store: Store) -> None:
    it = Ledger(store)
    whole, at_us = it.snapshot(), it.rig.us
    stopped, lost = [], []
    damages = [what for what in it.damages({}) if is_of_interest(what)]
    for what in damages:
        it.damage(what)
        own = what.key.removeprefix("tx:")
        serve_all(it)
        states = it.rig.states([key for key in it.keys if key != own])
        if {*states} != {"succeeded"} and what.key != "flows":
            stopped.append(f"{what} -> {states}")
        if own in it.keys and not is_accounted_for(it, own):
            lost.append(str(what))
        counters = it.rig.governor._run("check_counters")
        if counters and what.key != "flows":  # what waits in a flow that is lost cannot be counted
            stopped.append(f"{what} -> {counters}")
        it.restore(whole, at_us)
    assert not stopped, "\n".join(stopped)
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize("harm", [GARBAGE, "nan", "1e400"])
def test_a_bucket_that_cannot_be_read_starts_empty_once(store: Store, harm: str) -> None:
    it = Ledger(store)
    it.store.hset(it.rig.keys.governor, "c:app", harm)

    assert it.rig.ring() == []

    assert it.rig.ring_on(S)


def test_a_damaged_transaction_behind_an_open_breaker_holds_back_no_probe(store: Store) -> None:
    it = Ledger(store)
    serve_all(it)
    keys = it.rig.line_up(4, "POST /x", guards="k")
    for key in keys[:3]:
        store.delete(it.rig.keys.transaction(key))
    store.set(it.rig.keys.transaction(keys[0]), "of another kind")
    store.hset(it.rig.keys.transaction(keys[1]), "g", "k")
    open_breaker(it)
    store.delete(it.rig.keys.breaker(it.scope))
    store.set(it.rig.keys.breaker(it.scope), "of another kind")

    serve_all(it)

    assert it.rig.state(keys[3]) == "succeeded"
    assert all(is_accounted_for(it, key) for key in keys[:3])


def is_accounted_for(it: Ledger, key: str) -> bool:
    """Whether a transaction ended where its job counts it, or stands among what is damaged."""
    noted = bool(it.store.hexists(it.rig.keys.damaged, f"tx:{key}"))
    if it.store.type(it.rig.keys.transaction(key)) != "hash":
        return noted
    return noted != (it.store.hget(it.rig.keys.transaction(key), "s") in FINAL)
