"""Random operations, by a held clock, on the scripts and on the model: they agree at every step.

The same examples run each time. `HEADGATE_SEED=<number>` explores others; a failure prints the
shortest list of operations that shows it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from uuid import uuid4

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model import MS, Model, S

from workers.flows import definition, flow_name
from workers.governor import Go, Governor
from workers.keys import ClientKeys
from workers.ledger import FINAL, Ledger, Opened
from workers.outcome import Outcome
from workers.settings import ClientSettings, LimitSettings, TenantSettings, WorkerSettings
from workers.verdict import UNSENT, Verdict

if TYPE_CHECKING:
    from workers.store import Store

SEED = os.environ.get("HEADGATE_SEED")
PROFILE = settings(
    max_examples=int(os.environ.get("HEADGATE_EXAMPLES", "80")),
    stateful_step_count=50,
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
    "tight": LimitSettings(name="tight", count=100, shape="fixed_window", match="* /t*"),
    "wide": LimitSettings(name="wide", count=300, window_s=10, shape="fixed_window", match="* /t*"),
}
TENANTS = {"a": TenantSettings(weight=3), "b": TenantSettings(weight=1)}
ROUTES = ("POST /x", "POST /ep/1", "GET /t", "POST /ep/2")

KEY_LIFE_S = 100  #: a short memory of the provider, so that keys grow old
LEASE_S = 70

picks = st.integers(0, 10**6)
waits_us = st.one_of(
    st.integers(0, 60 * MS),
    st.sampled_from([500 * MS + 1, 3 * S, 5 * S]),
    st.integers(-40 * MS, 0),  # a clock that is corrected
)
steps = st.lists(
    st.tuples(st.sampled_from(ROUTES), st.sampled_from("kunr")), min_size=1, max_size=3
)
rows = st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", "-"]), steps)
pages = st.tuples(
    st.lists(rows, min_size=1, max_size=5),
    st.lists(picks, max_size=2),  # rows that join earlier ones
    st.integers(0, 2),  # rejected rows
)
jobs = st.lists(
    st.tuples(st.lists(pages, min_size=1, max_size=3), st.integers(1, 6)), min_size=1, max_size=2
)
verdicts = st.one_of(
    st.builds(
        Verdict,
        kind=st.just("NEXT"),
        outcome=st.just(Outcome.EXECUTED),
        status=st.just(201),
        text=st.sampled_from(["", '{"id": 1}']),
        provider_id=st.sampled_from(["", "p1"]),
        correlation_id=st.sampled_from(["", "c1"]),
    ),
    st.builds(
        Verdict,
        kind=st.just("AGAIN"),
        outcome=st.sampled_from([Outcome.UNKNOWN, Outcome.NOT_EXECUTED]),
        attempt=st.booleans(),
        throttled=st.booleans(),
        status=st.sampled_from([None, 429, 503]),
        pause_s=st.sampled_from([0.0, 0.0, 0.7, 3.0]),
        text=st.just("the provider answered so"),
        delay_s=st.sampled_from([0.0, 0.04, 2.0, 20.0]),
        how=st.sampled_from(["retry", "line"]),
    ),
    st.builds(
        Verdict,
        kind=st.just("END"),
        outcome=st.sampled_from(Outcome),
        text=st.just("refused"),
        how=st.sampled_from(["failed", "unknown", "cancelled"]),
    ),
    st.just(UNSENT),
)


def dump(store: Store, keys: ClientKeys) -> dict[str, Any]:
    """Everything the store holds of this client, by the name behind its prefix."""
    found: Any = store.keys(keys.prefix + "*")
    names: list[str] = sorted(it.removeprefix(keys.prefix) for it in found)
    pipe = store.pipeline(transaction=False)
    for name in names:
        full = keys.prefix + name
        kind, _, rest = name.partition(":")
        if kind in {"touch", "retries", "suspects"} or rest.endswith(":due"):
            pipe.zrange(full, 0, -1, withscores=True, score_cast_func=int)
        elif kind == "line":
            pipe.lrange(full, 0, -1)
        elif kind in {"hungry", "active"}:
            pipe.smembers(full)
        elif kind == "dead":
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
    lines = named("line:")
    dead = [it for _, it in found.get("dead", [])]
    seconds = {int(second): int(n) for second, n in found.get("seconds", {}).items()}
    return {
        "transactions": {key: _fields(tx) for key, tx in named("tx:").items()},
        "new": {flow: it for flow, it in lines.items() if not flow.endswith(":due")},
        "due": {it.removesuffix(":due"): lines[it] for it in lines if it.endswith(":due")},
        "suspects": dict(found.get("suspects", [])),
        "suspect": gov.get("suspect"),
        "touch": dict(found.get("touch", [])),
        "retries": dict(found.get("retries", [])),
        "bells": {limit: n for limit, n in numbers("b:").items() if n},
        "queued": {int(lane): n for lane, n in numbers("q:").items() if n},
        "cells": cells,
        "held_us": held_us,
        "active": found.get("active", set()),
        "beat": int(gov.get("beat", 0)),
        "workers": {it[2:]: tuple(map(int, gov[it].split())) for it in gov if it.startswith("w:")},
        "passes": {_lane_tenant(it): n for it, n in numbers("p:").items()},
        "virtual": {int(lane): n for lane, n in numbers("v:").items()},
        "hungry": found.get("hungry", set()),
        "jobs": {job: _counters(it) for job, it in named("job:").items() if ":page:" not in job},
        "dead": [(it["key"], it["job"], it["state"], it["why"]) for it in dead],
        "seconds": {second: n for second, n in seconds.items() if second > now_us // S - 60},
    }


def _lane_tenant(text: str) -> tuple[int, str]:
    lane, tenant = text.split(":")
    return int(lane), tenant


def _fields(tx: dict[str, str]) -> dict[str, Any]:
    return {
        "s": tx["s"],
        "k": int(tx["k"]),
        "at": int(tx.get("at", 0)),
        "th": int(tx.get("th", 0)),
        "cr": int(tx.get("cr", 0)),
        "u": tx.get("u", "0") == "1",
        "r": int(tx.get("r", 1)),
        "f": tx.get("f"),
        "t1": int(tx["t1"]) if "t1" in tx else None,
        "an": tx["an"].split("\n") if "an" in tx else [],
        **{name: tx.get(name, "") for name in ("st", "id", "co", "e")},
    }


def _counters(job: dict[str, str]) -> dict[str, int | None]:
    names = ("ended", "rows", "pages", "opened", "released", "finished_tx", "throttled", *FINAL)
    finished = {"finished_us": int(job["finished_us"]) if "finished_us" in job else None}
    return {name: int(job.get(name, 0)) for name in names} | finished


class Governed(RuleBasedStateMachine):
    """One client, driven twice: by the scripts and by the model."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.keys = ClientKeys("model", uuid4().hex)
        self.us = 1_790_000_000_000_000
        self.grants: list[Go] = []
        self.pages: dict[str, list[tuple[dict[str, str], list[Opened], list[str]]]] = {}
        # The age of a grant is measured by the held clock, too.
        self.held = patch("workers.governor.now_ns", lambda: self.us * 1000)
        self.held.start()

    @initialize(limits=st.sets(st.sampled_from(sorted(LIMITS))), jobs=jobs)
    def submit(self, limits: set[str], jobs: list[tuple[list[Any], int]]) -> None:
        """A client with some of the limits, and one or two jobs."""
        self.client = ClientSettings(
            name="acme",
            base_url="http://provider",
            limits=tuple(it for name, it in LIMITS.items() if name in limits),
            tenants=TENANTS,
        )
        worker = WorkerSettings()
        with patch("workers.governor.KEY_LIFE_S", KEY_LIFE_S):
            self.governor = Governor(self.store, self.keys, self.client, worker, self.clock)
        self.ledger = Ledger(self.store, self.keys, self.clock)
        self.model = Model(
            self.clock,
            beat_us=round(worker.beat_s * S),
            grace_us=round(worker.bell_grace_s * S),
            lease_us=LEASE_S * S,
            max_age_us=(KEY_LIFE_S - 60) * S,
            max_crashes=worker.max_crashes,
        )
        for number, (parts, low) in enumerate(jobs):
            self.accept(f"j{number}", parts, low)
            self.open(number)
        self.ring("w1", 8)

    def clock(self) -> int:
        """The held clock."""
        return self.us

    def accept(self, job: str, parts: list[Any], low: int) -> None:
        """Submit a job; its pages are opened later."""
        self.ledger.begin(job, {"low": low})
        keys: list[str] = []
        self.pages[job] = []
        for page, (planned, joins, rejected) in enumerate(parts):
            flows: set[str] = set()
            opened = []
            for index, (lane, tenant, calls) in enumerate(planned):
                names = [flow_name(self.client, lane, tenant, route) for route, _ in calls]
                guards = "".join(guard for _, guard in calls)
                flows |= set(names)
                keys.append(f"{job}-{page}-{index}")
                one_flow, one_guard = len(set(names)) == 1, len(set(guards)) == 1
                opened.append(
                    Opened(
                        keys[-1],
                        names[0] if one_flow else ",".join(names),
                        guards[0] if one_guard else guards,
                        len(calls),
                        index,
                    )
                )
            joined = [keys[pick % len(keys)] for pick in joins]
            definitions = {name: definition(self.client, name) for name in flows}
            self.pages[job].append((definitions, opened, joined))
            count = len(planned) + len(joins) + rejected
            self.ledger.accept(job, page, [{}] * count, rejected=rejected, calls=count)
            self.model.accept(job, count, rejected, low)
        self.ledger.close(job)
        self.model.jobs[job].closed = True

    @rule(pick=picks)
    def open(self, pick: int) -> None:
        """A page of any job: the next one, or one that is open already."""
        job, parts = sorted(self.pages.items())[pick % len(self.pages)]
        page = min(self.model.jobs[job].opened, len(parts) - 1)
        definitions, opened, joined = parts[page]
        answer = self.ledger.open(job, page, definitions, opened, joined)
        assert answer == self.model.open(job, page, definitions, opened, joined)

    @rule(us=waits_us)
    def wait(self, us: int) -> None:
        """Time goes on, or a little back."""
        self.us += us

    @rule(worker=st.sampled_from(["w1", "w2", "w3"]), threads=st.sampled_from([0, 1, 4, 8]))
    def ring(self, worker: str, threads: int) -> None:
        """A pacer rings whenever it likes."""
        answer = self.governor.ring(worker, threads)
        assert answer == self.model.ring(worker, threads, answer)

    @rule(beats=st.integers(1, 8))
    def beat(self, beats: int) -> None:
        """A pacer rings at its turn."""
        self.us += beats * 25 * MS
        self.ring("w1", 8)

    @rule(pause_s=st.sampled_from([3, LEASE_S, KEY_LIFE_S]))
    def sleep(self, pause_s: int) -> None:
        """Nobody does anything for so long, then the pacers are back."""
        self.us += pause_s * S
        self.ring("w2", 8)
        self.sweep()
        self.us += 400 * MS
        self.ring("w2", 8)

    @rule()
    def sweep(self) -> None:
        """A sweep, asked for or not."""
        assert self.governor.sweep() == self.model.sweep()

    def out(self) -> list[str]:
        """Keys of the bells that are out, and of the countdowns."""
        return [tx.key for tx in self.model.standing("r", "t")]

    def admit(self, key: str, step: int) -> Go | None:
        """One admit, compared; the fence is the governor's to name."""
        answer = self.governor.admit(key, step)
        fence = answer.fence if isinstance(answer, Go) else ""
        assert answer == self.model.admit(key, step, fence)
        if not isinstance(answer, Go):
            return None
        self.grants.append(answer)
        return answer

    @precondition(lambda self: self.out())
    @rule(pick=picks)
    def answer_a_bell(self, pick: int) -> None:
        """A worker takes a bell."""
        key = self.out()[pick % len(self.out())]
        self.admit(key, self.model.txs[key].step)

    @precondition(lambda self: self.out())
    @rule(pick=picks, verdict=verdicts)
    def serve_a_bell(self, pick: int, verdict: Verdict) -> None:
        """A worker takes a bell and, when it may, makes the call."""
        key = self.out()[pick % len(self.out())]
        if grant := self.admit(key, self.model.txs[key].step):
            self.us += 5 * MS
            self.settle(grant, verdict)

    @precondition(lambda self: self.model.txs)
    @rule(pick=picks, step=st.integers(1, 3))
    def answer_an_old_bell(self, pick: int, step: int) -> None:
        """A bell that was delivered twice, or late, or is none at all."""
        keys = [*self.model.txs, "nobody"]
        self.admit(keys[pick % len(keys)], step)

    def settle(self, grant: Go, verdict: Verdict) -> None:
        """One settle, compared."""
        assert self.governor.settle(grant, verdict) == self.model.settle(grant, verdict)

    @precondition(lambda self: self.grants)
    @rule(pick=picks, verdict=verdicts)
    def settle_a_grant(self, pick: int, verdict: Verdict) -> None:
        """One of the newest grants, settled already or not."""
        newest = self.grants[-4:]
        self.settle(newest[pick % len(newest)], verdict)

    @precondition(lambda self: self.model.txs)
    @rule(pick=picks, step=st.integers(1, 2), pause_s=st.sampled_from([0.0, 1.5]))
    def give_back(self, pick: int, step: int, pause_s: float) -> None:
        """A bell that could not be published or answered, or any other."""
        keys = self.out() if pick % 4 and self.out() else list(self.model.txs)
        key = keys[pick % len(keys)]
        self.governor.give_back(key, step, pause_s)
        self.model.give_back(key, step, pause_s)

    @precondition(lambda self: self.model.buckets)
    @rule(pick=picks)
    def lose_a_cell(self, pick: int) -> None:
        """The state of a limit is lost."""
        name = sorted(self.model.buckets)[pick % len(self.model.buckets)]
        self.store.hdel(self.keys.governor, f"c:{name}")
        self.model.buckets[name].level = None

    @invariant()
    def agree(self) -> None:
        """The whole state is the same."""
        if self.pages:
            assert observe(self.store, self.keys, self.us) == self.model.view()

    def teardown(self) -> None:
        """Whatever happened, every row ends, once, when workers serve on."""
        try:
            if self.pages and sys.exception() is None:
                self.us += 80 * S
                self.serve_all()
                self.agree()
        finally:
            self.held.stop()
            self.store.unlink(*self.store.keys(self.keys.prefix + "*"))

    def serve_all(self) -> None:
        """Open, ring, sweep and serve until nothing is left; the clock may not be lost."""
        done = Verdict(kind="NEXT", outcome=Outcome.EXECUTED, status=200)
        for _ in range(400):
            self.us += 450 * MS
            self.ring("w1", 8)
            self.sweep()
            for job in sorted(self.model.hungry()):
                self.open(sorted(self.pages).index(job))
            for tx in self.model.standing("r"):
                if grant := self.admit(tx.key, tx.step):
                    self.settle(grant, done)
            jobs = self.model.jobs.values()
            if all(job.finished_us is not None and job.opened == job.pages for job in jobs):
                return
        raise AssertionError("a row never ended")


def test_every_answer_and_the_whole_state_are_those_of_the_model(store: Store) -> None:
    def machine() -> Governed:
        return Governed(store)

    chosen = seed(int(SEED))(machine) if SEED else machine
    run_state_machine_as_test(chosen, settings=PROFILE)  # type: ignore[arg-type]
