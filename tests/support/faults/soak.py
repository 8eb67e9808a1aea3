"""The soak of ageing keys: days of work in seconds, by clocks that only the soak moves.

One process holds a client and answers the bells of a store by the step's own main path. The clock
of the scripts, and the one by which the sandbox forgets keys, go ahead together, and never while a
call is out. So keys grow old in every way: behind refusals and long holds, after lost bells and
deaths of workers, and in dead letters that are replayed days later. What must hold stands in
`aged`.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from celery import Celery

from orchestration.dispatch import pages
from orchestration.intake.accept import low_water
from orchestration.operate import dead_letters, limits
from orchestration.sandbox.process import SandboxProcess
from tasks.rest.calls import CallSteps
from tasks.steps.call import Step, TransactionFailed
from tests.support.apart import settings_apart
from tests.support.faults import aged
from tests.support.fleet import looked_up
from tests.support.stored import a_job
from workers.clients import Client
from workers.ledger.identity import SCHEMA
from workers.ledger.ledger import PageCounts, Replayed
from workers.ledger.transaction import TransactionState
from workers.settings.client import ClientSettings
from workers.store.keys import installation

if TYPE_CHECKING:
    from workers.answer.verdict import Retry, Verdict
    from workers.governor.grants import Grant
    from workers.store.connection import Store

HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S
GUARDS: Final = ("key", "upsert", "lookup", "none", "read")
#: What each run must have seen, else it proves nothing: see `Soak.met`.
NEEDED: Final = (
    "old: fresh", "old: quiet", "old: failed", "old: unknown", "the provider takes it no more",
    "replay", "replay, stated", "hold", "resume", "death", "lost bell", "late bell", "look-up",
)  # fmt: skip


class _Died(BaseException):
    """The worker is gone: nobody settles."""


class _Mortal(Step):
    """A step whose worker dies at times, and whose countdowns nobody hears: the ledger rings."""

    name = "soak.call"
    abstract = False
    kind = CallSteps()
    deaths = 0.0  #: how often

    def call(self, client: Client, grant: Grant, *args: Any) -> Verdict:
        """Send, or die before it or after it."""
        dies = self.rng.random()
        if dies < self.deaths / 2:
            raise _Died
        verdict = super().call(client, grant, *args)
        if dies < self.deaths:
            raise _Died
        return verdict

    def retry_later(self, verdict: Retry) -> None:
        """The message is lost, each time."""


class Soak:
    """One run.

    Args:
        store: Where.
        seed: Chooses rows, faults, holds and what is lost; it is printed.
        days: How long it takes new work, by its own clock. What is open then comes to its end.
        rows: How many rows in all.
    """

    def __init__(self, store: Store, seed: int, days: float, rows: int) -> None:
        print(f"soak: seed {seed}, {days:g} days, {rows} rows")
        self.rng, self.rows, self.end_s = random.Random(seed), rows, days * DAY_S
        self.ahead_s = 0.0  #: how far the clocks are ahead
        self.met = Counter[str]()  #: what happened
        self.jobs: list[str] = []
        self._made = 0
        self._rung: list[tuple[str, int]] = []
        self._stubborn: dict[str, float] = {}  # business id → until when it is refused
        self._refused: list[str] = []  # business ids whose keys are
        self._step = Celery("soak", set_as_current=False).register_task(_Mortal())
        self._step.rng = self.rng
        self.store = store

    def run(self) -> list[str]:
        """Run it to its end; returns what was violated, one sentence each."""
        before_ns = _clock_began_ns()
        with SandboxProcess({"auth": False}) as self.sandbox:
            # No later than the sandbox's, which does not follow a wall clock that is corrected.
            self._began_ns = min(before_ns, _clock_began_ns())
            self.client = self._client()
            while self.ahead_s < self.end_s:
                if self._submit() or self._chance(0.15):
                    self.sandbox.post("faults", self._weather())
                self._beat(self._pause_s())
                self._happen()
            self._drain()
            requests: list[dict[str, Any]] = self.sandbox.get("requests?limit=1000000")
            effects: list[dict[str, Any]] = self.sandbox.get("effects?limit=1000000")
            self._count()
            return aged.check(self.client, self.jobs, requests, effects)

    def _client(self) -> Client:
        settings = ClientSettings(
            name="acme", base_url=self.sandbox.url, auth="none", idempotency="key"
        )
        fleet = settings_apart(f"soak{uuid4().hex}")
        # The same seed gives the same keys, by which the lines are sorted.
        record = {"secret": "5e" * 32, "schema": str(SCHEMA)}
        self.store.hset(installation(fleet.store.namespace), mapping=record)
        return Client(settings, fleet, self.store, self._clock)

    def _clock(self) -> int:
        return (self._began_ns + time.monotonic_ns()) // 1000 + round(self.ahead_s * 1e6)

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    def _between(self, least: float, most: float) -> float:
        """A number of any magnitude between the two."""
        return least * (most / least) ** self.rng.random()

    # Time goes by

    def _pause_s(self) -> float:
        return self._between(600, 5 * HOUR_S) if self._chance(0.15) else self._between(0.025, 900)

    def _beat(self, seconds: float) -> None:
        """Later: what nobody answered is taken back, and what can go is rung and answered."""
        self.ahead_s += seconds
        self.sandbox.post("clock", {"advance_s": seconds})
        self.client.governor().sweep()
        ring = self.client.governor().ring("soak", 32)
        if ring.needs_page:
            pages.open_next_page(self.client, ring.needs_page)
        for bell in ring.bells:
            self._answer(bell.key, bell.step)
        if self._rung and self._chance(0.1):
            self.met["late bell"] += 1
            self._answer(*self.rng.choice(self._rung))

    def _answer(self, key: str, step: int) -> None:
        """Answer a bell, and go on with the chain while it is not lost."""
        while True:
            self._rung.append((key, step))
            if self._chance(0.04):
                self.met["lost bell"] += 1
                return
            try:
                word = self._step.serve_bell(self.client, key, step)
            except TransactionFailed as ended:
                word = str(ended)
            except _Died:
                self.met["death"] += 1
                return
            self.met[word if word.startswith("old") else word.partition(" ")[0]] += 1
            transaction = self.client.ledger.transaction(key)
            if transaction.state is not TransactionState.RUNG or transaction.step == step:
                return
            step = transaction.step

    def _drain(self) -> None:
        """The provider is well again, and nobody dies: everything comes to its end."""
        self._step.deaths = 0.0
        self.sandbox.post("faults", [])
        limits.resume(self.client, by="soak", reason="the end", everything=True, clock=self._clock)
        for _ in range(1000):
            if all(job.finished_us for job in self.client.ledger.jobs(self.jobs)):
                return
            self._beat(60)

    # What happens

    def _submit(self) -> bool:
        """New rows, so many that all are there when two thirds of the time are over."""
        due = min(self.rows, 10 + int(1.5 * self.rows * self.ahead_s / self.end_s))
        if due == self._made:
            return False
        job = f"job{len(self.jobs)}"
        rows = [self._row(n) for n in range(self._made, due)]
        ledger, low = self.client.ledger, low_water(self.client)
        ledger.begin(a_job(job, low=low, lane=self.rng.randrange(3)))
        ledger.accept(job, 0, rows, PageCounts(calls=sum(len(it["steps"]) for it in rows)))
        ledger.start(job)
        self.jobs.append(job)
        self._made = due
        return True

    def _row(self, n: int) -> dict[str, Any]:
        guard = GUARDS[n % len(GUARDS)]
        steps = [_step(guard, n, k) for k in range(1, self.rng.randint(1, 3) + 1)]
        first = n < len(GUARDS)  # refused until the end: they use up all their keys
        if first or self._chance(0.2):
            hit = aged.name_of(steps[0] if first else self.rng.choice(steps))
            till_s = self._between(DAY_S, 4 * DAY_S)
            self._stubborn[hit] = self.end_s if first else self.ahead_s + till_s
        elif n % 4 == 1:  # its key is refused, once in each weather
            self._refused.append(aged.name_of(steps[0]))
        return {"id": f"r{n}", "line": n + 1, "steps": steps}

    def _happen(self) -> None:
        """By chance somebody holds the client, lets it go, or replays a dead letter."""
        if self._chance(0.015):
            self.met["hold"] += 1
            held_s = self._between(HOUR_S, 1.5 * DAY_S)
            limits.pause(self.client, for_s=held_s, by="soak", reason="chance", clock=self._clock)
        if self._chance(0.01):
            ended = limits.resume(self.client, by="soak", reason="chance", clock=self._clock)
            self.met["resume"] += bool(ended)
        if self._chance(0.1):
            self._replay()

    def _weather(self) -> list[dict[str, Any]]:
        """Faults until the next change, and whether workers die meanwhile."""
        self._step.deaths = self.rng.choice([0, 0.05])
        bad = self.rng.choice([0, 0.05, 0.3])
        stubborn = [name for name, till in self._stubborn.items() if till > self.ahead_s]
        hours = round(self._between(2 * HOUR_S, DAY_S))

        def often(kind: str, share: float, match: str = "* *", **more: object) -> dict[str, object]:
            return {"kind": kind, "when": {"probability": share}, "match": match, **more}

        faults: list[dict[str, object]] = [
            {"kind": "429", "when": {"business_ids": stubborn}, "retry_after": 60},
            {"kind": "409", "when": {"business_ids": self._refused}, "per_business_id_times": 1},
            often("429", bad / 10, retry_after=hours),
            often("429", bad, retry_after=self.rng.choice([None, 5])),
            *(often(it, bad) for it in ("5xx_before", "5xx_after", "drop_before", "drop_after")),
            # Writes only: a look-up that is answered 404 by mistake would be a lie.
            often("404", bad / 5, "POST *"),
            often("409", 0.1 + bad / 5, "POST *"),
        ]
        return [{**it, "seed": self.rng.randrange(10**6)} for it in faults]

    def _replay(self) -> None:
        """Replay a dead letter, as the command does, and state nothing that is untrue."""
        letters, _ = dead_letters.newest([self.client], 1000)
        if not letters:
            return
        key = self.rng.choice(letters).key
        dead = self.client.ledger.transaction(key)
        row = self.client.ledger.row(dead.job, dead.place)
        name = aged.name_of(row["steps"][dead.step - 1])
        made = {it["business_id"] for it in self.sandbox.get("effects?limit=1000000")}
        stated = name not in made and self._chance(0.5)
        came_to = dead_letters.replay(
            self.client, dead, not_executed=stated, by="soak", reason="chance"
        )
        if came_to is Replayed.WAITS:
            self.met["replay, stated" if stated else "replay"] += 1

    def _count(self) -> None:
        """What only the store's streams tell of the run."""
        for it in aged.rotations(self.client):
            self.met[it.reason] += 1
        self.met["look-up"] = sum(it["what"] == "look-up" for _, it in aged.told(self.client))


def _clock_began_ns() -> int:
    """The moment by the wall clock at which the monotonic one was 0."""
    return time.time_ns() - time.monotonic_ns()


def _step(guard: str, n: int, k: int) -> dict[str, Any]:
    """One call, to a path of its own: so the journal tells whose it was."""
    name = f"r{n}.{k}"
    step: dict[str, Any] = {"name": f"s{k}", "method": "POST", "path": f"/things/{name}"}
    if guard == "read":
        return {**step, "method": "GET"}
    step |= {"guard": guard, "body": {"business_id": name}}
    if n % 2:
        step["after_unknown"] = {"409 conflict": "key_expired"}
    if guard == "upsert":  # sent again, the same contact stays one contact
        step["path"] = f"/api/v2/outbound/contactlists/{name}/contacts"
        step["body"] = [{"id": name, "contactListId": name, "data": {"note": "Köln"}}]
    return step | looked_up(name, name) if guard == "lookup" else step
