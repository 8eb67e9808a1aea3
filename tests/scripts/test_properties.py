"""Random operations, by a held clock, on the scripts and on the model: they agree at every step.

The same examples run each time. `HEADGATE_SEED=<number>` explores others, as many as
`HEADGATE_EXAMPLES` says; a failure prints the fewest steps that show it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support import refusal_model
from tests.support.model import MS, Model, S
from tests.support.stored import a_job, transaction_hash
from workers.answer.guards import Memo, NextCall
from workers.answer.outcome import Answer, Health, Outcome
from workers.answer.quota_headers import Feedback
from workers.answer.verdict import (
    UNSENT,
    Advance,
    Awaited,
    Finish,
    GiveUp,
    Pause,
    Reach,
    Requeue,
    Retry,
    continue_step,
)
from workers.governor.flows import POOLS, Flow, flow, of_pool
from workers.governor.governor import Governor
from workers.governor.grants import Grant, Half, Hindrance, KeyExpired, MustSplit
from workers.ledger import audit
from workers.ledger.batch import halves
from workers.ledger.ledger import Ledger, NewTransaction, PageCounts
from workers.ledger.transaction import DEAD, FINAL
from workers.settings.client import ClientSettings, TenantSettings
from workers.settings.limits import LimitSettings
from workers.settings.load import WorkerSettings
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workers.answer.verdict import Verdict
    from workers.store.connection import Store

SEED = os.environ.get("HEADGATE_SEED")
PROFILE = settings(
    max_examples=int(os.environ.get("HEADGATE_EXAMPLES", "18")),
    stateful_step_count=60,
    deadline=None,
    database=None,
    derandomize=SEED is None,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
LIMITS = {
    "app": LimitSettings(name="app", count=20, shape="bucket"),
    "ep": LimitSettings(name="ep", count=5, shape="sliding_window", match="POST /ep*"),
    # So tight that bells ring ahead of its tokens and admit grants moments to come.
    "tight": LimitSettings(name="tight", count=60, shape="fixed_window", match="* /t*"),
    # At most two calls of this route are out at once.
    "few": LimitSettings(name="few", count=2, shape="concurrent", match="POST /ep*"),
    "wide": LimitSettings(name="wide", count=300, window_s=10, shape="fixed_window", match="* /t*"),
}
TENANTS = {"a": TenantSettings(weight=3), "b": TenantSettings(weight=1)}
ROUTES = ("POST /x", "POST /ep/1", "GET /t", "POST /ep/2")

QUIET_S = 20  #: a key is replaced no sooner after its newest send
KEY_LIFE_S = 240  #: a short memory of the provider, so that keys grow old
LEASE_S, LOCAL_LEASE_S = 70, 40
#: Definitions of flows, transactions, and those which further rows join, with the row repeated.
Page = tuple[dict[str, str], list[NewTransaction], list[tuple[str, int]]]

DONE = Advance(outcome=Outcome.EXECUTED, status=200)
#: A 429 that does not say for how long.
REFUSED = Requeue(outcome=Outcome.NOT_EXECUTED, throttled=True, status=429, delay_s=0.04)
SPLIT = Memo(next=NextCall.SPLIT)
#: An outage: it goes again until its attempts or its patience are spent.
GIVE_UP = GiveUp(state="unknown", max_retries=2, patience_s=90)
FAILS = Retry(
    outcome=Outcome.UNKNOWN,
    status=503,
    health=Health.BAD,
    attempt=True,
    is_first=True,
    delay_s=2.0,
    give_up=GIVE_UP,
    error="the provider answered 503",
)
#: A batch of which a row is bad.
TO_BE_SPLIT = Requeue(outcome=Outcome.NOT_EXECUTED, attempt=True, status=400, memo=SPLIT)
MEMOS = (
    None,
    Memo(),
    Memo(waits=1),
    Memo(token_refusals=1),
    Memo(next=NextCall.LOOKUP, lookups=0),
    Memo(next=NextCall.LOOKUP, lookups=1),
    Memo(next=NextCall.FRESH_KEY),
    SPLIT,
)

numbers = st.integers(0, 2**32)


def some_verdict(chance: Random) -> Verdict:
    """Any verdict that a call may come to, successes most often."""
    some = chance.choice
    quota = some([None, None, None, Feedback(None, some([0, 1, 9]), some([0.0, 0.3, 4.0]))])
    kind = chance.choices(["done", "again", "part", "end", "unsent"], [9, 6, 2, 2, 1])[0]
    match kind:
        case "done":
            return Advance(
                outcome=Outcome.EXECUTED,
                status=201,
                values=some(["", '{"id": 1}']),
                provider_id=some(["", "p1"]),
                correlation_id=some(["", "c1"]),
                quota=quota,
            )
        case "again":
            return some_again(chance, quota)
        case "part":
            answer = Answer(status=200, headers=some([{}, {"x-request-id": "c2"}]))
            return replace(continue_step(answer, some([0.0, 0.04, 20.0])), quota=quota)
        case "end":
            return Finish(
                state=some(["failed", "unknown", "cancelled"]),
                outcome=some([*Outcome]),
                status=some([400, 503]),
                health=some([*Health]),
                error="refused",
                memo=some([None, Memo(), Memo(next=NextCall.LOOKUP, lookups=0)]),
            )
    return UNSENT


def some_again(chance: Random, quota: Feedback | None) -> Retry | Requeue:
    """Any verdict on a call that is tried again."""
    some = chance.choice
    pause_s = some([0.0, 0.0, 0.0, 0.7, 3.0])
    reach = some([Reach.SCOPE, Reach.SCOPE, Reach.CLIENT])
    common: dict[str, Any] = {
        "outcome": some([Outcome.UNKNOWN, Outcome.NOT_EXECUTED]),
        "attempt": some([True, False]),
        "status": some([None, 429, 503]),
        "pause": Pause(pause_s, reach, some([0.0, 5.0])) if pause_s else None,
        "error": "the provider answered so",
        "delay_s": some([0.0, 0.04, 2.0, 20.0]),
        "memo": some(MEMOS),
        "quota": quota,
        "health": some([*Health]),
        "is_first": some([True, False]),
        "of_token": some([True, False, False]),
        "retry_after_s": some([0.0, 0.0, 7.0, 90.0]),
        "give_up": some([None, GIVE_UP, replace(GIVE_UP, max_retries=None)]),
    }
    if some([True, False]):
        return Retry(**common)
    return Requeue(throttled=some([True, False]), **common)


def some_local_verdict(chance: Random, step: int, before: Sequence[str]) -> Verdict:
    """Any verdict on a local step, which may wait for one of the transactions before its own."""
    some = chance.choice
    kinds = ["done", "not yet", "back", "again", "failed", "unsent"]
    kind = chance.choices(kinds, [9, 4, 3 if step > 1 else 0, 3, 1, 1])[0]
    no = Requeue(outcome=Outcome.NOT_EXECUTED, error="no", memo=Memo())
    match kind:
        case "done":
            return replace(DONE, status=None, values=some(["", '{"url": 1}']), provider_id="p2")
        case "not yet" if before and chance.random() < 0.7:
            awaited = Awaited(some([*before, "nobody"]), chance.randint(1, 3))
            wait = replace(no, outcome=Outcome.EXECUTED, delay_s=30.0, part_done=True)
            return replace(wait, waits_for=awaited)
        case "not yet":
            delay_s = some([0.0, 0.04, 20.0])
            return replace(no, outcome=Outcome.EXECUTED, delay_s=delay_s, part_done=True)
        case "back":
            return replace(no, step_back=True, attempt=True)
        case "again":
            outcome = some([Outcome.NOT_EXECUTED, Outcome.UNKNOWN])
            common: dict[str, Any] = {"outcome": outcome, "attempt": True}
            common |= {"error": "no", "memo": Memo(), "delay_s": some([0.04, 2.0])}
            common |= {"health": Health.BAD, "give_up": some([None, GIVE_UP])}
            return some([Retry, Requeue])(**common)
        case "failed":
            return Finish(outcome=Outcome.NOT_EXECUTED, error="no", memo=Memo(), state="failed")
    return UNSENT


def dump(store: Store, keys: ClientKeys) -> dict[str, Any]:
    """Everything the store holds of this client, by the name behind its prefix."""
    found: Any = store.keys(keys.prefix + "*")
    names: list[str] = sorted(it.removeprefix(keys.prefix) for it in found)
    pipe = store.pipeline(transaction=False)
    for name in names:
        full = keys.prefix + name
        kind, _, rest = name.partition(":")
        if kind in {"deadlines", "retries", "quarantine"} or rest.endswith(":due"):
            pipe.zrange(full, 0, -1, withscores=True, score_cast_func=int)
        elif kind == "backlog":
            pipe.lrange(full, 0, -1)
        elif kind in {"needs_page", "active", "waiters"}:
            pipe.smembers(full)
        elif kind in {"dead", "audit", "attempts"}:
            pipe.xrange(full)
        elif ":page:" in rest or kind == "jobs":
            pipe.exists(full)
        else:
            pipe.hgetall(full)
    return dict(zip(names, pipe.execute(), strict=True))


def observe(store: Store, keys: ClientKeys, now_us: int) -> dict[str, Any]:
    """Everything that can be seen in the store, in the words of `Model.view`."""
    found = dump(store, keys)
    gov = found.get("gov", {})

    def named(kind: str) -> dict[str, Any]:
        return {it[len(kind) :]: value for it, value in found.items() if it.startswith(kind)}

    def numbers(kind: str) -> dict[str, int]:
        return {it[2:]: int(gov[it]) for it in gov if it.startswith(kind)}

    cells = numbers("c:")
    held_us = max(cells.pop("client", 0) - now_us, 0)
    lines = named("backlog:")
    dead = [it for _, it in found.get("dead", [])]
    return {
        "transactions": {key: _fields(tx) for key, tx in named("tx:").items()},
        "new": {flow: it for flow, it in lines.items() if not flow.endswith(":due")},
        "due": {it.removesuffix(":due"): lines[it] for it in lines if it.endswith(":due")},
        "waiters": {
            key: {(int(it.split(" ")[0]), *it.split(" ")[1:]) for it in members}
            for key, members in named("waiters:").items()
        },
        "quarantine": dict(found.get("quarantine", [])),
        "quarantined": gov.get("quarantined"),
        "deadlines": dict(found.get("deadlines", [])),
        "retries": dict(found.get("retries", [])),
        "bells": {limit: n for limit, n in numbers("b:").items() if n},
        "taken": {limit: n for limit, n in numbers("l:").items() if n},
        "refused": (gov["refused"], int(gov["refused_us"])) if "refused" in gov else None,
        "why": {it[2:]: gov[it] for it in gov if it.startswith("y:")},
        "told": {it[2:]: tuple(map(int, gov[it].split())) for it in gov if it.startswith("z:")},
        "queued": {int(lane): n for lane, n in numbers("q:").items() if n},
        "cells": cells,
        "held_us": held_us,
        "number": int(gov.get("sent", 0)),
        "at": int(gov.get("at", 0)),
        "workers": {it: tuple(map(int, gov[it].split())) for it in gov if it[:2] in {"w:", "m:"}},
        "passes": {_lane_tenant(it): n for it, n in numbers("p:").items()},
        "turns": {(int(it[0]), it[2:]): n for it, n in numbers("s:").items() if n},
        "virtual": {int(lane): n for lane, n in numbers("v:").items()},
        "needs_page": found.get("needs_page", set()),
        "opening": numbers("o:"),
        "jobs": {job: _counters(it) for job, it in named("job:").items() if ":page:" not in job},
        "dead": [(it["key"], it["job"], it["state"], it["why"]) for it in dead],
        "rotations": [
            (it["key"], int(it["generation"]), int(it["attempts"]))
            for _, it in found.get("audit", [])
            if it["action"] == "rotate key"
        ],
        "attempts": [
            (it["key"], int(it["step"]), it["outcome"], it["status"], it["text"])
            for _, it in found.get("attempts", [])
        ],
        "seconds": dict(divmod(it, 100_000) for it in numbers("n:").values()),
        "unsent": dict(divmod(it, 100_000) for it in numbers("u:").values()),
        "turned away": dict(divmod(it, 100_000) for it in numbers("x:").values()),
        "evidence": found.get("evidence", {}),
        "healthy": {
            it: text if it.startswith(refusal_model.REFUSED) else int(text)
            for it, text in found.get("healthy", {}).items()
        },
        "breakers": {
            it: _breaker(fields, gov[f"k:{it}"]) for it, fields in named("breaker:").items()
        },
        "holds ended": numbers("d:"),
        "others gone": {
            it.removeprefix(refusal_model.REFUSED): tuple(map(int, gov[it].split()))
            for it in gov
            if it.startswith(refusal_model.REFUSED)
        },
        "opened": (gov["opened"], int(gov["opened_us"])) if "opened" in gov else None,
    }


def _breaker(fields: dict[str, str], until: str) -> dict[str, Any]:
    probers = (it.split("=") for it in fields.get("probers", "").split())
    numbers = {"opened": "opened_us", "due": "due_us", "every": "every_us"}
    return {
        "cause": fields["cause"],
        "why": fields["why"],
        **{name: int(fields[stored]) for name, stored in numbers.items()},
        "next": int(until),
        "ordered": int(fields.get("ordered_us", 0)),
        "good": int(fields["good"]),
        "probes": int(fields["probes"]),
        "probers": {holder: int(till) for holder, till in probers},
    }


def _lane_tenant(text: str) -> tuple[int, str]:
    lane, tenant = text.split(":")
    return int(lane), tenant


def _fields(tx: dict[str, str]) -> dict[str, Any]:
    return {
        "s": tx["s"],
        "k": int(tx["k"]),
        "pt": int(tx.get("pt", 0)),
        "b": int(tx["b"]) if "b" in tx else None,
        "at": int(tx.get("at", 0)),
        "ns": int(tx.get("ns", 0)),
        "ca": int(tx.get("ca", 0)),
        "t3": int(tx["t3"]) if "t3" in tx else None,
        "t4": int(tx["t4"]) if "t4" in tx else None,
        "pb": tx.get("pb"),
        "th": int(tx.get("th", 0)),
        "rf": tx.get("rf", ""),
        "cr": int(tx.get("cr", 0)),
        "u": tx.get("u", "0") == "1",
        "m": tx.get("m", ""),
        "p": tx["p"],
        "h": tx.get("h"),
        "repeated": {int(it[2:]): int(n) for it, n in tx.items() if it.startswith("r:")},
        "fl": (tx["fl"].split(",") * int(tx["n"]))[int(tx["k"]) - 1],
        "r": int(tx.get("r", 1)),
        "f": tx.get("f"),
        "t1": int(tx["t1"]) if "t1" in tx else None,
        "t2": int(tx.get("t2", 0)),
        "gn": int(tx.get("gn", 1)),
        "g0": int(tx.get("g0", 1)),
        "an": tx["an"].split("\n") if "an" in tx else [],
        "ids": tx["ids"].split("\n") if "ids" in tx else [],
        "d": "d" in tx,
        "aw": int(tx["aw"]) if "aw" in tx else None,
        **{name: tx.get(name, "") for name in ("st", "id", "co", "e")},
    }


def _counters(job: dict[str, str]) -> dict[str, int | None]:
    names = ("ended", "rows", "pages", "next_page", "released", "finished_tx", "throttled", *FINAL)
    finished = {"finished_us": int(job["finished_us"]) if "finished_us" in job else None}
    return {name: int(job.get(name, 0)) for name in names} | finished


class Governed(RuleBasedStateMachine):
    """One client, driven twice: by the scripts and by the model.

    What a step does is drawn from a number, not by hypothesis: its many small choices would all
    be the simplest ones too often. Hypothesis leaves out the steps that a failure does not need.
    """

    def __init__(self, store: Store, limits: str) -> None:
        super().__init__()
        self.store = store
        self.client = ClientSettings(
            name="acme",
            base_url="http://provider",
            limits=tuple(LIMITS[name] for name in limits.split()),
            tenants=TENANTS,
        )
        self.keys = ClientKeys("model", uuid4().hex)
        self.us = 1_790_000_000_000_000
        self.grants: list[Grant] = []
        self.pages: dict[str, list[Page]] = {}
        # The age of a grant is measured by the held clock, too.
        self.held = patch("workers.governor.governor.now_ns", lambda: self.us * 1000)
        self.held.start()

    def clock(self) -> int:
        """The held clock."""
        return self.us

    # The client and its jobs.

    @initialize(number=numbers)
    def submit(self, number: int) -> None:
        """One or two jobs, accepted, and the first pages open."""
        chance = Random(number)
        worker = WorkerSettings(max_crashes=2)
        lives = {"KEY_LIFE_S": KEY_LIFE_S, "QUIET_S": QUIET_S}
        with patch.multiple("workers.governor.governor", **lives):
            self.governor = Governor(self.store, self.keys, self.client, worker, self.clock)
        self.ledger = Ledger(self.store, self.keys, self.clock)
        self.model = Model(
            self.clock,
            beat_us=round(worker.tick_s * S),
            grace_us=round(worker.bell_grace_s * S),
            lease_us=LEASE_S * S,
            local_lease_us=LOCAL_LEASE_S * S,
            max_age_us=(KEY_LIFE_S - 60) * S,
            quiet_us=QUIET_S * S,
            max_crashes=worker.max_crashes,
            margin_us=round(worker.lease_margin_s * S),
        )
        for job in ("j0", "j1")[: chance.randint(1, 2)]:
            self.accept(job, chance)
            self.open(job)
        note(f"pages {self.pages}")
        self.ring("w1", 8)

    def accept(self, job: str, chance: Random) -> None:
        """Submit a job."""
        low = chance.randint(1, 6)
        self.ledger.begin(a_job(job, low=low))
        members: list[tuple[str, int]] = []
        self.pages[job] = []
        for number in range(chance.randint(1, 3)):
            flows: set[Flow] = set()
            opened = [
                self.plan(f"{job}-{number}-{index}", index, flows, chance)
                for index in range(chance.randint(1, 6))
            ]
            members += [(it.key, row) for it in opened for row in range(it.rows)]
            joined = chance.choices(members, k=chance.choice([0, 0, 1, 2, 5]))
            rejected = chance.choice([0, 0, 1])
            definitions = {it.id: it.definition(self.client) for it in flows}
            self.pages[job].append((definitions, opened, joined))
            rows = sum(it.rows for it in opened) + len(joined) + rejected
            self.ledger.accept(job, number, [{}] * rows, PageCounts(rejected=rejected, calls=rows))
            self.model.accept(job, rows, rejected, low)
        self.ledger.start(job)
        self.model.jobs[job].closed = True

    def plan(self, key: str, index: int, flows: set[Flow], chance: Random) -> NewTransaction:
        """A transaction of one to three calls."""
        steps = chance.randint(1, 3)
        lane, tenant = chance.randint(0, 2), chance.choice("ab-")
        routes = chance.choices(ROUTES, k=chance.choice([1, steps])) * steps
        its = [flow(self.client, lane, tenant, it) for it in routes[:steps]]
        guards = "".join(chance.choices("kulnr", k=chance.choice([1, steps])))
        for at, guard in enumerate(guards * steps if len(guards) == 1 else guards):
            if guard == "r" and chance.random() < 0.6:  # it makes no call
                its[at] = of_pool(lane, tenant, chance.choice(POOLS))
        names = [it.id for it in its]
        for at, guard in enumerate(guards * steps if len(guards) == 1 else guards):
            if guard == "l":  # its look-up goes by a flow of its own, or by the same
                other = flow(self.client, lane, tenant, chance.choice(ROUTES))
                its.append(other)
                names[at] += f">{other.id}"
        flows |= set(its)
        line = names[0] if len(set(names)) == 1 and ">" not in names[0] else ",".join(names)
        rows = chance.choice([1, 2, 3, 7]) if steps == 1 else 1
        return NewTransaction(key, line, guards, steps, index, rows)

    # One step of the test, and what it may do.

    @rule(number=numbers)
    def step(self, number: int) -> None:
        """Something happens."""
        chance = Random(number)
        act = chance.choices(list(ACTS), list(ACTS.values()))[0]
        note(f"{(self.us - 1_790_000_000_000_000) / S:.6f} s: {act.__name__}")
        act(self, chance)

    def beat(self, chance: Random) -> None:
        """A pacer rings at its turn."""
        self.us += chance.choice([5, 10, 25, 50, 100, 200]) * MS
        self.ring("w1", 8)

    def ring_at_any_time(self, chance: Random) -> None:
        """A pacer rings whenever it likes."""
        pool = chance.choice(POOLS)
        self.ring(chance.choice(["w1", "w2", "w3"]), chance.choice([0, 1, 4, 8]), pool)

    def beat_for_media(self, chance: Random) -> None:
        """The pacer of a worker for transfers rings at its turn."""
        self.us += chance.choice([5, 25, 100]) * MS
        self.ring("m1", chance.choice([1, 4]), "media")

    def wait(self, chance: Random) -> None:
        """Time goes on; or the clock is corrected, a little back."""
        self.us += chance.choice([chance.randint(-40, 60) * MS, 500 * MS + 1, 3 * S, 5 * S])

    def set_back(self, chance: Random) -> None:
        """The store's clock is set back; a pacer finds out and sweeps."""
        self.us -= chance.choice([S, 2 * S, 90 * S, 3600 * S])
        self.ring("w1", 8)
        self.sweep()
        self.ring("w1", 8)

    def sleep(self, chance: Random) -> None:
        """Nobody does anything for so long, then the pacers are back."""
        self.us += chance.choice([3, LEASE_S, KEY_LIFE_S - 60]) * S
        self.ring("w2", 8)
        self.sweep()
        self.us += 400 * MS
        self.ring("w2", 8)

    def sweep_at_any_time(self, _: Random) -> None:
        """A sweep, asked for or not."""
        self.sweep()

    def open_a_page(self, chance: Random) -> None:
        """The next page of a job, or its last one once more."""
        self.open(chance.choice(list(self.pages)))

    def answer_all_bells(self, chance: Random) -> None:
        """The threads of a worker take all bells at once, ring anew, and are slow."""
        for _ in range(chance.randint(1, 2)):
            for tx in self.model.standing("r"):
                self.admit(tx.key, tx.step)
            self.us += chance.randint(0, 10) * MS
            self.ring("w1", 8)

    def serve_a_bell(self, chance: Random) -> None:
        """A worker takes a bell and, when it may, makes the call."""
        if bells := self.model.standing("r"):
            tx = chance.choice(bells)
            if grant := self.admit(tx.key, tx.step):
                self.us += chance.randint(0, 20) * MS
                self.settle(grant, self.verdict(grant, chance))

    def refuse_a_batch(self, chance: Random) -> None:
        """A batch is refused, and split when it is rung again; time passes between."""
        batches = [
            tx for tx in self.model.standing("r") if tx.batch > 1 and not self.local(tx.key, 1)
        ]
        if batches and (grant := self.admit((tx := chance.choice(batches)).key, 1)):
            self.settle(grant, TO_BE_SPLIT)
            for _ in range(chance.randint(0, 3)):
                self.us += 50 * MS
                self.ring("w1", 8)
            if chance.random() < 0.3:  # not to be split twice
                self.us += LEASE_S * S
                self.sweep()
            self.admit(tx.key, 1)

    def retry_a_call(self, chance: Random) -> None:
        """Celery's countdown ends, about when it should."""
        if counting := self.model.standing("t"):
            tx = chance.choice(counting)
            self.us = max(self.us, (tx.due or 0) - chance.choice([0, 20, 21]) * MS)
            self.ring("w1", chance.choice([1, 8]))
            if grant := self.admit(tx.key, tx.step):
                self.settle(grant, self.verdict(grant, chance))

    def answer_an_old_bell(self, chance: Random) -> None:
        """A bell that was delivered twice, or late, or is none at all."""
        self.admit(chance.choice([*self.model.txs, "nobody"]), chance.randint(1, 3))

    def settle_a_grant(self, chance: Random) -> None:
        """A slow call ends; it may have been settled already, or taken over."""
        if self.grants:
            grant = chance.choice(self.grants[-8:])
            self.settle(grant, self.verdict(grant, chance))

    def take_over(self, chance: Random) -> None:
        """A worker freezes, another takes its place, and then both end."""
        if bells := self.model.standing("r"):
            tx = chance.choice(bells)
            frozen = self.admit(tx.key, tx.step)
            self.us += LEASE_S * S
            self.sweep()
            self.ring("m1", 4, "media")
            for _ in range(3):
                self.us += 400 * MS
                self.ring("w3", 8)
            self.admit(tx.key, tx.step)
            if frozen:
                self.settle(frozen, self.verdict(frozen, chance))

    def answer_late(self, chance: Random) -> None:
        """A clock goes ahead, leases end, and the answers come all the same."""
        granted = [self.admit(tx.key, tx.step) for tx in self.model.standing("r")[:3]]
        self.us += LEASE_S * S
        self.sweep()
        for _ in range(chance.randint(0, 3)):
            self.us += 400 * MS
            self.ring("w3", chance.choice([0, 8]))
        for grant in granted:
            if grant:
                self.settle(grant, self.verdict(grant, chance))
                self.settle(grant, self.verdict(grant, chance))

    def renew(self, chance: Random) -> None:
        """A step that makes no call goes on, or thinks that it does."""
        if self.grants:
            grant = chance.choice(self.grants[-8:])
            assert self.governor.renew(grant) == self.model.renew(grant)

    def requeue(self, chance: Random) -> None:
        """A bell that could not be published or answered, or any other."""
        txs = list(self.model.txs.values())
        tx = chance.choice(chance.choice([self.model.standing("r", "t"), txs]) or txs)
        step, pause_s = chance.choice([tx.step, 1, 2]), chance.choice([0.0, 0.0, 1.5])
        delay_s = chance.choice([0.0, 0.0, 1.2])
        if self.model.flows[tx.flow].pool:
            pause_s = delay_s = 0.0
        away = chance.random() < 0.7  # nobody has a token, and none can be had
        self.store.hset(self.keys.oauth, "failed_until_us", self.us + S if away else 0)
        self.governor.requeue(tx.key, step, Hindrance("nobody is there", pause_s, delay_s))
        self.model.requeue(tx.key, step, pause_s if away else 0.0, "nobody is there", delay_s)

    def replay(self, chance: Random) -> None:
        """Somebody replays a dead letter, or what is none."""
        txs = list(self.model.txs.values())
        tx = chance.choice(self.model.standing(*DEAD) or txs)
        stated, letter = chance.random() < 0.3, transaction_hash(self, tx.key).get("d", "0-1")
        entry = audit.addition("dead replay", key=tx.key)
        answer = self.ledger.replay(tx.key, letter, entry, not_executed=stated)
        assert answer == self.model.replay(tx.key, not_executed=stated)

    def recover(self, chance: Random) -> None:
        """The store came back from a backup, and somebody says so; maybe not the first time."""
        job = chance.choice(list(self.pages))
        its = [tx.key for tx in self.model.txs.values() if tx.job == job]
        keys = [*chance.sample(its, chance.randint(0, len(its))), "nobody"]
        at, dry = self.us - chance.choice([0, S, 60 * S]), chance.random() < 0.2
        at -= at % S
        answer = self.ledger.recover(job, at, keys, dry=dry)
        assert answer == self.model.recover(job, at, keys, dry=dry)

    def refuse_everything(self, chance: Random) -> None:
        """The provider answers 429 to whatever comes, or to most of it, and asks for no pause."""
        for _ in range(chance.choice([10, 30])):
            self.us += 50 * MS
            self.ring("w1", 8)
            for tx in self.model.standing("r"):
                if grant := self.admit(tx.key, tx.step):
                    usual = None if chance.random() < 0.2 else REFUSED
                    self.settle(grant, self.verdict(grant, chance, usual))
        good = chance.choice([0.8, 1])
        for _ in range(chance.choice([0, 15, 30]) if self.model.health.breakers else 0):
            self.us += chance.choice([450 * MS, S])
            self.ring("w1", 8)
            for tx in self.model.standing("r"):
                if grant := self.admit(tx.key, tx.step):
                    usual = DONE if chance.random() < good else None
                    self.settle(grant, self.verdict(grant, chance, usual))

    def refuse_one_row(self, chance: Random) -> None:
        """The provider answers 429 to one row, or to few, while most others go through."""
        refused = replace(
            REFUSED,
            pause=Pause(0.7, most_s=chance.choice([0.0, 5.0])),
            delay_s=chance.choice([0.8, 1.5]),
            give_up=chance.choice([GIVE_UP, replace(GIVE_UP, max_retries=None)]),
            error="the provider answered 429",
        )
        bad = chance.choice(["0", "0", "01"])  # how the keys of these end
        for _ in range(chance.choice([40, 80])):
            self.us += chance.choice([50, 450]) * MS
            self.ring("w1", 8)
            for tx in self.model.standing("r"):
                if grant := self.admit(tx.key, tx.step):
                    usual = refused if tx.key[-1] in bad else DONE
                    self.settle(grant, self.verdict(grant, chance, usual))

    def fail_everything(self, chance: Random) -> None:
        """The provider fails whatever comes, or most of it; then it works again, or mostly."""
        fails = replace(FAILS, of_token=chance.random() < 0.2)
        for good in (chance.choice([0, 0, 0.3]), chance.choice([0.5, 1])):
            for _ in range(chance.choice([5, 20, 40])):
                self.us += chance.choice([50, 50, 450]) * MS
                self.ring("w1", 8)
                for tx in [*self.model.standing("r"), *self.model.standing("t")]:
                    if grant := self.admit(tx.key, tx.step):
                        usual = DONE if chance.random() < good else fails
                        self.settle(grant, self.verdict(grant, chance, usual))

    def pass_over(self, chance: Random) -> None:
        """Many bells of earlier lanes rang for one limit: a later lane has its turn, or nearly."""
        lane, limit = chance.choice([1, 2]), chance.choice(["client", *self.model.buckets])
        if not limit.startswith("r:"):
            turns = chance.choice([18, 19])
            self.model.turns[lane, limit] = turns
            self.store.hset(self.keys.governor, f"s:{lane}:{limit}", turns)

    def lose_a_cell(self, chance: Random) -> None:
        """The state of a limit is lost."""
        if self.model.buckets:
            name = chance.choice(list(self.model.buckets))
            self.store.hdel(self.keys.governor, f"c:{name}")
            self.model.buckets[name].level = None

    # Each script, compared.

    def open(self, job: str) -> None:
        """Open the next page, or the last one once more."""
        page = min(self.model.jobs[job].opened, len(self.pages[job]) - 1)
        definitions, opened, joined = self.pages[job][page]
        answer = self.ledger.open(job, page, definitions, opened, joined)
        assert answer == self.model.open(job, page, definitions, opened, joined)

    def ring(self, worker: str, threads: int, pool: str = "calls") -> None:
        """Ring."""
        active: Any = self.store.smembers(self.keys.active)
        gov: Any = self.store.hgetall(self.keys.governor)
        beat = gov.get(f"{'m' if pool == 'media' else 'w'}:{worker}", "0 0").split()
        is_known = int(beat[0]) >= threads and int(beat[1]) > self.us  # it brings no threads
        answer = self.governor.ring(worker, threads, pool)
        assert answer == self.model.ring(worker, threads, pool, answer, active)
        if is_known and (answer.bells or answer.needs_page):
            assert "next" in gov, "nobody would have rung, and something could go"
            late_us = int(gov["next"]) - self.us
            assert late_us <= 25 * MS, f"something could go {late_us} us earlier"

    def admit(self, key: str, step: int) -> Grant | None:
        """Admit; the fence is the governor's to name."""
        answer = self.governor.admit(key, step, local=self.local(key, step))
        fence = answer.fence if isinstance(answer, Grant) else ""
        assert answer == self.model.admit(key, step, fence)
        if isinstance(answer, KeyExpired):
            word = self.governor.rotate(answer, audit.addition("rotate key", key=key))
            assert word == self.model.rotate(answer)
        if isinstance(answer, MustSplit):
            rows = self.model.txs[key].batch
            names = [f"{key}/{it.first}-{it.end}" for it in halves(answer.place, rows)]
            made = [
                Half(name, it, it.end - it.first)
                for name, it in zip(names, halves(answer.place, rows), strict=True)
            ]
            assert self.governor.split(answer, made) == self.model.split(key, made)
        if not isinstance(answer, Grant):
            return None
        self.grants.append(answer)
        return answer

    def verdict(self, grant: Grant, chance: Random, usual: Verdict | None = None) -> Verdict:
        """What a step comes to: the usual verdict on a call, or any."""
        if self.local(grant.key, grant.step):
            keys = list(self.model.txs)
            return some_local_verdict(chance, grant.step, keys[: keys.index(grant.key)])
        return usual or some_verdict(chance)

    def local(self, key: str, step: int) -> bool:
        """Whether the step makes no call."""
        tx = self.model.txs.get(key)
        if tx is None or step > tx.steps:
            return False
        return bool(self.model.flows[tx.flows[step - 1].split(">")[0]].pool)

    def settle(self, grant: Grant, verdict: Verdict) -> None:
        """Settle; only a batch is ever split."""
        alone = self.model.txs[grant.key].batch == 1
        if alone and not isinstance(verdict, Advance) and verdict.memo == SPLIT:
            verdict = replace(verdict, memo=Memo())
        assert self.governor.settle(grant, verdict) == self.model.settle(grant, verdict)

    def sweep(self) -> None:
        """Sweep."""
        assert self.governor.sweep() == self.model.sweep()

    @invariant()
    def agree(self) -> None:
        """The whole state is the same."""
        if self.pages:
            assert observe(self.store, self.keys, self.us) == self.model.view()

    def teardown(self) -> None:
        """Whatever happened, every row ends when workers serve on."""
        try:
            if self.pages and sys.exception() is None:
                self.us += 80 * S
                self.serve_all()
                self.agree()
        finally:
            self.held.stop()
            self.store.unlink(*self.store.keys(self.keys.prefix + "*"))

    def serve_all(self) -> None:
        """Open, ring, sweep and serve until nothing is left."""
        for _ in range(400):
            self.us += 450 * MS
            self.ring("w1", 8)
            self.ring("m1", 4, "media")
            self.sweep()
            for job in sorted(self.model.needs_page()):
                self.open(job)
            for tx in self.model.standing("r"):
                if grant := self.admit(tx.key, tx.step):
                    self.settle(grant, DONE)
            jobs = self.model.jobs.values()
            if all(job.finished_us is not None and job.opened == job.pages for job in jobs):
                return
        raise AssertionError("a row never ended")


#: What happens in a step, and how often.
ACTS: dict[Callable[[Governed, Random], None], int] = {
    Governed.serve_a_bell: 30,
    Governed.beat: 25,
    Governed.beat_for_media: 12,
    Governed.renew: 3,
    Governed.retry_a_call: 10,
    Governed.refuse_a_batch: 6,
    Governed.answer_all_bells: 8,
    Governed.settle_a_grant: 15,
    Governed.wait: 5,
    Governed.open_a_page: 5,
    Governed.ring_at_any_time: 4,
    Governed.answer_an_old_bell: 4,
    Governed.requeue: 4,
    Governed.take_over: 3,
    Governed.answer_late: 3,
    Governed.sweep_at_any_time: 2,
    Governed.sleep: 2,
    Governed.set_back: 1,
    Governed.lose_a_cell: 1,
    Governed.pass_over: 6,
    Governed.refuse_one_row: 2,
    Governed.refuse_everything: 2,
    Governed.fail_everything: 3,
    Governed.replay: 3,
    Governed.recover: 1,
}


@pytest.mark.parametrize("limits", ["", "app", "app ep", "tight", "wide tight ep", "app few"])
def test_every_answer_and_the_whole_state_are_those_of_the_model(store: Store, limits: str) -> None:
    def machine() -> Governed:
        return Governed(store, limits)

    chosen = seed(int(SEED))(machine) if SEED else machine
    run_state_machine_as_test(chosen, settings=PROFILE)  # type: ignore[arg-type]
