"""A governor and a ledger for tests of the scripts: the store is real, time is held."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from orchestration.operate import limits as operate_limits
from tests.support.apart import settings_apart
from tests.support.stored import a_job, transaction_hash
from workers.answer.guards import Memo, NextCall
from workers.answer.outcome import Health, Outcome
from workers.answer.verdict import Advance, Finish, GiveUp, Pause, Requeue, Retry, Verdict
from workers.clients import Client
from workers.governor import flows
from workers.governor.governor import Governor
from workers.governor.grants import Denied, Grant, KeyExpired, Settled
from workers.ledger import audit
from workers.ledger.ledger import Ledger, NewTransaction, PageCounts, Replayed
from workers.settings.client import ClientSettings, TenantSettings
from workers.settings.limits import LimitSettings
from workers.settings.load import WorkerSettings
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from workers.ledger.ledger import Row
    from workers.store.connection import Store


MS, S = 1_000, 1_000_000


TICK_US = 25 * MS


GRACE_US = 3 * S


LEASE_US = 70 * S


#: 5 tokens, one every 125 ms.
APP = LimitSettings(name="app", count=10, burst=5, rate=8, reserve=0)


#: 2 tokens, one every 250 ms, for some of the calls.
EP = LimitSettings(name="ep", count=10, burst=2, rate=4, match="POST /ep")


DONE = Advance(outcome=Outcome.EXECUTED, status=200)


FAILED = Finish(state="failed", outcome=Outcome.NOT_EXECUTED, status=400, error="no")


LATER = Requeue(outcome=Outcome.NOT_EXECUTED, delay_s=2)


RETRY = Retry(outcome=Outcome.UNKNOWN, delay_s=2, attempt=True)


HELD = Requeue(pause=Pause(2), outcome=Outcome.NOT_EXECUTED, throttled=True, delay_s=2)


class Rig:
    """One client on a real store, with a clock that moves only when a test says so."""

    def __init__(self, store: Store, *limits: LimitSettings, **tenants: int) -> None:
        self.store = store
        self.us = 1_790_000_000_000_000
        self.keys = ClientKeys("rig", uuid4().hex)
        self.client = ClientSettings(
            name="acme",
            base_url="http://provider",
            limits=limits,
            tenants={name: TenantSettings(weight=weight) for name, weight in tenants.items()},
        )
        self.governor = Governor(store, self.keys, self.client, WorkerSettings(), self.clock)
        self.ledger = Ledger(store, self.keys, self.clock)
        self._jobs = itertools.count(1)

    def move(self, store: Store) -> None:
        """The same process goes on with another server, on which the client's keys are too."""
        self.store = store
        self.governor._run._store = store
        self.ledger = Ledger(store, self.keys, self.clock)

    def clock(self) -> int:
        """The held clock."""
        return self.us

    def line_up(
        self,
        count: int,
        *routes: str,
        lane: int = 1,
        tenant: str = "-",
        guards: str = "k",
        joined: tuple[str, ...] = (),
        rejected: int = 0,
    ) -> list[str]:
        """A job of `count` transactions, opened; returns their keys.

        A route that is the name of a pool stands for a step that makes no call.
        """
        job = self.accept(count + len(joined) + rejected, rejected=rejected)
        steps = routes or ("POST /x",)
        its = [
            flows.of_pool(lane, tenant, route)
            if route in flows.POOLS
            else flows.flow(self.client, lane, tenant, route)
            for route in steps
        ]
        names = [it.id for it in its]
        line = ",".join(names) if len(set(names)) > 1 else names[0]
        opened = [
            NewTransaction(f"{job}-{i:03}", line, guards, len(names), i) for i in range(count)
        ]
        assert self.ledger.open(
            job, 0, self.definitions(*its), opened, [(key, 0) for key in joined]
        )
        return [it.key for it in opened]

    def accept(self, rows: int, *, rejected: int = 0, pages: int = 1) -> str:
        """A job whose pages wait to be opened; returns its name."""
        job = f"j{next(self._jobs)}"
        self.ledger.begin(a_job(job))
        for page in range(pages):
            body: list[Row] = [{}] * rows
            self.ledger.accept(job, page, body, PageCounts(rejected=rejected, calls=rows))
        self.ledger.start(job)
        return job

    def definitions(self, *its: flows.Flow) -> dict[str, str]:
        """The flows as the scripts read them."""
        return {it.id: it.definition(self.client) for it in its}

    def fill(self) -> None:
        """All limits are full, as after a quiet while with pacers at work."""
        names = [f"c:{limit.name}" for limit in self.client.limits]
        for name in (*names, "next"):
            self.store.hset(self.keys.governor, name, self.us)

    def ring(self, threads: int = 100, worker: str = "w", after_us: int = TICK_US) -> list[str]:
        """The keys that are rung, one beat later, by this worker and no other one."""
        self.us += after_us
        self.free(worker)
        return [bell.key for bell in self.governor.ring(worker, threads).bells]

    def free(self, worker: str = "") -> None:
        """Nobody else than this worker is the one that rings."""
        owner = str(self.store.hget(self.keys.governor, "owner") or "").partition(" ")[0]
        if owner != worker:
            self.store.hdel(self.keys.governor, "owner")

    def ring_all(self, threads: int) -> list[str]:
        """The keys that are rung at one moment, by as many rings as that takes."""
        rung = self.ring(threads=threads)
        while more := self.ring(threads=threads, after_us=0):
            rung += more
        return rung

    def ring_on(self, us: int, beat_us: int = TICK_US) -> list[str]:
        """The keys that are rung in so many us, beat by beat."""
        return [key for _ in range(us // beat_us) for key in self.ring(after_us=beat_us)]

    def grant(self, key: str, step: int = 1) -> Grant:
        """A grant for a bell that may go."""
        answer = self.governor.admit(key, step)
        assert isinstance(answer, Grant), answer
        return answer

    def serve(self, key: str, step: int = 1, verdict: Verdict = DONE) -> Settled:
        """One whole call."""
        return self.governor.settle(self.grant(key, step), verdict)

    def word(self, key: str, step: int = 1) -> str:
        """Why a call may not leave."""
        answer = self.governor.admit(key, step)
        assert isinstance(answer, Denied), answer
        if answer.short_us is not None:
            return f"{answer.kind}: {answer.short_us}"
        return f"{answer.kind}: {answer.reason}"

    def rotate(self, key: str, step: int = 1) -> str:
        """Take a bell whose key is too old, and have the key replaced if that may be."""
        aged = self.governor.admit(key, step)
        assert isinstance(aged, KeyExpired)
        return self.governor.rotate(aged, audit.addition("rotate key", key=key))

    def state(self, key: str) -> str:
        """A transaction's state."""
        return transaction_hash(self, key)["s"]

    def states(self, keys: list[str]) -> Counter[str]:
        """How many of these are in which state."""
        return Counter(transaction_hash(self, key)["s"] for key in keys)

    def governed(self, kind: str) -> dict[str, int]:
        """The governor's numbers of one kind, without zeros and routes.

        c = cells, b = bells, l = places part_of, q = queued.
        """
        gov: Any = self.store.hgetall(self.keys.governor)
        found = {it[2:]: int(gov[it]) for it in gov if it.startswith(f"{kind}:")}
        return {it: n for it, n in found.items() if n and not it.startswith("r:")}

    def dead(self) -> list[dict[str, str]]:
        """The dead letters."""
        letters: Any = self.store.xrange(self.keys.dead)
        return [fields for _, fields in letters]

    def dump(self) -> dict[str, bytes]:
        """Everything the store holds of this client."""
        names: Any = self.store.keys(self.keys.prefix + "*")
        return {it: self.store.execute_command("DUMP", it, NEVER_DECODE=True) for it in names}


#: From the moment when a breaker opens to its first probe, seconds; and calls before it may open.
OPEN_S, LEAST = 2, 20


REFUSED = Requeue(outcome=Outcome.NOT_EXECUTED, throttled=True, status=429, delay_s=0.1)


#: A call that the provider failed, sent for the first time.
FAILS = Requeue(
    outcome=Outcome.UNKNOWN,
    status=503,
    health=Health.BAD,
    attempt=True,
    is_first=True,
    delay_s=1,
    give_up=GiveUp(state="unknown", max_retries=3, patience_s=1800),
    error="the provider answered 503",
)


def breaker(rig: Rig, scope: str = "client") -> dict[str, Any]:
    """What is known of a breaker; empty when it is closed."""
    stored: Any = rig.store.hgetall(rig.keys.breaker(scope))
    assert bool(stored) == bool(rig.store.hexists(rig.keys.governor, f"k:{scope}"))
    return stored


def grants(rig: Rig, count: int) -> list[Grant]:
    """So many calls that are out, granted one after the other."""
    found: list[Grant] = []
    for _ in range(400):
        found += [rig.grant(key) for key in rig.ring()[: count - len(found)]]
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} of {count} calls were granted")


def opened(store: Store, more: int = 0) -> tuple[Rig, list[Grant]]:
    """A client whose breaker has just opened, and further calls that were out then."""
    rig = Rig(store, APP)
    rig.line_up(80)
    out = grants(rig, LEAST + more)
    for grant in out[:LEAST]:
        rig.governor.settle(grant, REFUSED)
    assert breaker(rig)
    return rig, out[LEAST:]


def probe(rig: Rig, within_s: int = 10) -> Grant:
    """The one call that is let through."""
    for _ in range(within_s * S // TICK_US):
        if rung := rig.ring():
            (key,) = rung
            return rig.grant(key)
    raise AssertionError(f"no probe in {within_s} seconds")


SAID = {"by": "maria", "reason": "maintenance at the provider"}


#: 2 calls at once and 0.98 a second: at most 100 in any 100 s.
STEADY = LimitSettings(name="app", count=100, window_s=100, shape="fixed_window", reserve=0)


#: The same limit as 60 calls at once, and 0.39 a second.
BURSTY = STEADY.model_copy(update={"burst": 60})


def client_of(rig: Rig, configured: ClientSettings | None = None) -> Client:
    """The rig's client, as a process holds it."""
    it = Client(configured or rig.client, settings_apart(), rig.store)
    it.keys = rig.keys
    return it


def pause(rig: Rig, for_s: float = operate_limits.FOREVER_S) -> int:
    return operate_limits.pause(client_of(rig), for_s=for_s, **SAID, clock=rig.clock)


def resume(rig: Rig, *, everything: bool = False) -> list[str]:
    client = client_of(rig)
    return operate_limits.resume(client, **SAID, everything=everything, clock=rig.clock)


def change(rig: Rig, *limits: LimitSettings) -> None:
    """The client's limits are these from now on."""
    rig.client = rig.client.model_copy(update={"limits": limits})
    flows.refresh(rig.store, rig.keys, rig.client, clock=rig.clock)


def spent(rig: Rig, us: int, beat_us: int = TICK_US) -> list[int]:
    """The moments at which calls leave in so many us, all of them served at once."""
    moments = []
    for _ in range(us // beat_us):
        for key in rig.ring(after_us=beat_us):
            rig.serve(key)
            moments.append(rig.us)
    return moments


#: A send without an answer, a look that found nothing yet, and the last one of these.
LOST = Requeue(outcome=Outcome.UNKNOWN, delay_s=2, memo=Memo(next=NextCall.LOOKUP, lookups=0))


SEND, LOOK = "POST /x", "POST /ep"  # the look-up goes to the narrower limit


def scope_of(rig: Rig, route: str = "POST /x") -> str:
    """The scope of a route."""
    definition = flows.flow(rig.client, 1, "-", route).definition(rig.client)
    scope: str = json.loads(definition.partition("\n")[0])["scope"]
    return scope


def a_step(store: Store, steps: int = 1) -> tuple[Rig, str]:
    """A transaction of steps with look-ups, rung for its first one."""
    rig = Rig(store, APP, EP)
    job = rig.accept(1)
    send, look = (flows.flow(rig.client, 1, "-", it) for it in (SEND, LOOK))
    line = ",".join([f"{send.id}>{look.id}"] * steps)
    opened = [NewTransaction("it", line, "l", steps, 0)]
    assert rig.ledger.open(job, 0, rig.definitions(send, look), opened, ())
    rig.fill()
    assert rig.ring() == ["it"]
    return rig, "it"


def looking(rig: Rig, key: str, verdict: Verdict = LOST) -> Grant:
    """The grant of its look-up, after a send that came to this."""
    assert rig.serve(key, verdict=verdict) is Settled.BACKLOG
    rig.fill()
    assert rig.ring_on(2 * S + 25 * MS) == [key]
    return rig.grant(key)


def replayed(rig: Rig, key: str, *, not_executed: bool = False) -> Replayed:
    """Replay the death that the ledger shows now."""
    letter = transaction_hash(rig, key).get("d", "")
    entry = audit.addition("dead replay", key=key, by="maria", reason="the list is there")
    return rig.ledger.replay(key, letter, entry, not_executed=not_executed)
