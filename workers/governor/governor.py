"""The governor: when a call may leave, and what follows from its answer.

Each method is one script, one round trip: `ring` asks which transactions can go now, `admit` takes
the tokens and makes SENT durable, `settle` records the answer and decides the next bell, `sweep`
takes back what nobody answered. The contracts stand at the head of the scripts in `lua/`.
"""

from __future__ import annotations

import itertools
import json
import secrets
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from workers import failpoints
from workers.answer.guards import is_look
from workers.answer.verdict import MAX_TEXT, UNSENT, Verdict
from workers.clock import now_ns
from workers.errors import StoreAway
from workers.ledger.batch import Place
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workers.settings.client import ClientSettings
    from workers.settings.load import WorkerSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: No send starts on a key older than this; the provider may forget it after 24 h.
KEY_LIFE_S = 23 * 3600
#: A key is replaced only when its newest send ended so long ago: it may lie in a proxy meanwhile.
QUIET_S = 600
#: Under so many keys a step may be sent, and once more when it is replayed.
MOST_KEYS = 3
#: How many unanswered bells and expired leases one sweep takes.
SWEEP_AT_ONCE = 200
#: Between two tries to settle while the store is away.
SETTLE_AGAIN_S = 0.25


@dataclass(frozen=True, slots=True)
class Bell:
    """Step `step` of transaction `key` may go now."""

    key: str
    step: int
    steps: int
    job: str
    pool: str = ""  #: whose threads do a step that makes no call; "" = it is a call


@dataclass(frozen=True, slots=True)
class Ring:
    """The answer of `ring`."""

    turn_s: float  #: from now to the caller's next turn
    sweep: bool  #: something is out past its time
    hungry: str  #: a job of which the caller opens the next page, or ""
    bells: list[Bell]


class Go(NamedTuple):
    """A grant: the call may leave, once, until `stale_at_ns`."""

    key: str
    step: int
    fence: str
    start_in_s: float  #: wait this long first; 0 but for limits with a lead
    stale_at_ns: int  #: by `clock.now_ns`: later than this the grant is not used
    job: str
    place: Place  #: of its payload
    attempts: int  #: attempts of this step that failed before
    unknown: bool  #: an earlier send of this step may have been executed
    throttled: int  #: answers of 429 so far
    answers: list[dict[str, Any]]  #: one for each finished step
    memo: str = ""  #: see `workers.answer.guards`
    generation: int = 1  #: of its idempotency key
    part: int = 0  #: calls of this step that are done: parts, or polls

    @property
    def looking(self) -> bool:
        """Whether what goes out is the step's look-up instead of its send."""
        return is_look(self.memo)


@dataclass(frozen=True, slots=True)
class Aged:
    """The call may not leave under its key, which is too old; see `Governor.rotate`."""

    key: str
    step: int
    job: str
    place: Place  #: of its payload
    generation: int  #: of the key


@dataclass(frozen=True, slots=True)
class ToSplit:
    """The call does not leave: its batch was refused and is to be split, see `Governor.split`."""

    key: str
    step: int
    job: str
    place: Place


class Half(NamedTuple):
    """One of the two transactions into which a batch is split."""

    key: str
    place: Place
    rows: int


@dataclass(frozen=True, slots=True)
class NoGo:
    """The call may not leave; `word` says why: wait or drop, and the reason."""

    word: str

    @property
    def said(self) -> str:
        """What Flower shows: a wait is told in microseconds, which nobody reads."""
        kind, _, why = self.word.partition(": ")
        if kind != "wait" or not why.isdigit():
            return self.word
        short_s = int(why) / 1e6
        # admit says 1 us where all places of a limit are taken: nobody knows for how long
        return f"wait: no token for {short_s:.2f} s" if int(why) > 1 else "wait: no place is free"


class Settled(StrEnum):
    """What follows from a settled grant."""

    RING = "RING"  #: the Celery chain goes on
    LINE = "LINE"  #: the chain stops; the pacer will ring
    RETRY = "RETRY"  #: publish Task.retry
    END = "END"  #: the transaction has ended
    STALE = "STALE"  #: the grant was no longer ours; nothing was recorded


class Governor:
    """The quota and the line of one client."""

    def __init__(
        self,
        store: Store,
        keys: ClientKeys,
        client: ClientSettings,
        worker: WorkerSettings,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._run = Scripts(store, keys, clock)
        self._worker = worker
        self._lease_s = client.total_timeout_s + client.connect_timeout_s + worker.lease_margin_s
        self._lease_us = round(self._lease_s * 1e6)
        # Of a step that makes no call, and prolongs it as it goes on: by then something moves.
        act_lease_s = client.read_timeout_s + client.connect_timeout_s + worker.lease_margin_s
        self._act_lease_us = round(act_lease_s * 1e6)
        # Whatever the limits allow: a call that starts later than this could outlive its lease.
        self._margin_us = round(worker.lease_margin_s * 1e6)
        # No send may start so late that it could arrive after the key's life.
        self._max_age_us = round((KEY_LIFE_S - client.total_timeout_s) * 1e6)
        self._quiet_us = round(QUIET_S * 1e6)
        self._process = secrets.token_urlsafe(6)
        self._grants = itertools.count(1)
        self._grace_us = round(worker.bell_grace_s * 1e6)
        self._never = threading.Event()

    def ring(self, worker: str, threads: int, pool: str = "calls") -> Ring:
        """Take out of the lines what can leave now; the caller must publish the bells.

        Args:
            worker: Who rings.
            threads: That the worker has.
            pool: What they do, one of `flows.POOLS`.
        """
        beat_us = round(self._worker.tick_s * 1e6)
        reply = self._run("ring", worker, threads, self._grace_us, beat_us, pool)
        turn_us, sweep, hungry, *flat = reply
        bells = [
            Bell(key, int(step), int(steps), job, whose)
            for key, step, steps, job, whose in zip(*[iter(flat)] * 5, strict=True)
        ]
        if bells:
            failpoints.reach("rung")
        return Ring(turn_us / 1e6, bool(sweep), hungry, bells)

    def admit(self, key: str, step: int, *, acts: bool = False) -> Go | Aged | ToSplit | NoGo:
        """Ask whether this call may leave now; a `Go` has been charged and is durable.

        The lease of a step that `acts`, and so makes no call, is shorter: see `renew`.

        The fence is named here, not by the store: when the reply is lost, the grant that may
        stand there can still be settled as not sent, and is.
        """
        asked_ns = now_ns()
        fence = f"{self._process}.{next(self._grants)}"
        lease_us = self._act_lease_us if acts else self._lease_us
        try:
            reply = self._run("admit", key, step, fence, lease_us, self._max_age_us)
        except StoreAway:
            self._settle(key, step, fence, UNSENT.args(self._grace_us))
            return NoGo("wait: the store was away")
        if reply[0] == "OLD":
            _, job, place, generation = reply
            return Aged(key, step, job, Place.read(place), int(generation))
        if reply[0] == "SPLIT":
            _, job, place = reply
            return ToSplit(key, step, job, Place.read(place))
        if reply[0] != "GO":
            return NoGo(f"{str(reply[0]).lower()}: {reply[1]}")
        _, start_us, spread_us, job, place, attempts, unknown, throttled, answers, *more = reply
        memo, generation, part = more
        return Go(
            key=key,
            step=step,
            fence=fence,
            start_in_s=start_us / 1e6,
            stale_at_ns=asked_ns + min(start_us + spread_us, self._margin_us) * 1000,
            job=job,
            place=Place.read(place),
            attempts=int(attempts),
            unknown=unknown == "1",
            throttled=int(throttled),
            answers=[json.loads(line) for line in answers.splitlines()] if answers else [],
            memo=memo,
            generation=int(generation),
            part=int(part),
        )

    def renew(self, grant: Go) -> bool:
        """Prolong the lease of a step that makes no call; False: it is another's by now.

        It lasts as long as nothing may move in a transfer, and a margin.
        """
        return bool(self._run("renew", grant.key, grant.fence, self._act_lease_us))

    def rotate(self, aged: Aged, entry: Sequence[str]) -> str:
        """Replace a key that is too old, if that is safe; else the transaction ends.

        Args:
            aged: What admit answered.
            entry: What the audit shall say of it, from `audit.addition`.

        Returns:
            What Flower shows.
        """
        word = self._run(
            "rotate", aged.key, aged.step, aged.generation, self._quiet_us, MOST_KEYS, *entry
        )
        return f"old: {str(word).lower()}"

    def split(self, it: ToSplit, halves: Sequence[Half]) -> str:
        """Let two transactions take the place of a batch that was refused.

        Returns:
            What Flower shows.
        """
        args = [text for half in halves for text in (half.key, str(half.place), half.rows)]
        word = self._run("split", it.key, it.step, halves[1].place.first, *args)
        failpoints.reach("split")
        return f"refused: {str(word).lower()}"

    def settle(self, grant: Go, verdict: Verdict) -> Settled:
        """Record what the grant came to.

        While the store is away the answer is kept and offered again until the lease is over:
        giving up earlier would turn an answer that is known into an unknown one.
        """
        settled = self._settle(grant.key, grant.step, grant.fence, verdict.args(self._grace_us))
        failpoints.reach("settled")
        return settled

    def _settle(self, key: str, step: int, fence: str, args: Sequence[str | int]) -> Settled:
        give_up_ns = now_ns() + round(self._lease_s * 1e9)
        while True:
            try:
                return Settled(self._run("settle", key, step, fence, *args))
            except StoreAway:
                if now_ns() > give_up_ns:
                    raise
                self._never.wait(SETTLE_AGAIN_S)

    def give_back(self, key: str, step: int, pause_s: float = 0.0, why: str = "") -> None:
        """Put a bell that could not be answered back at the head of its line.

        Args:
            key: The transaction.
            step: Its step.
            pause_s: How long nothing may leave for this client.
            why: The reason of such a pause, one sentence for people.
        """
        self._run("giveback", key, step, round(pause_s * 1e6), why[:MAX_TEXT])

    def sweep(self) -> tuple[int, int, int]:
        """Take back what nobody answered: (bells, leases taken over, transactions ended).

        If the store's clock was set back, every moment first moves along with it.
        """
        self._run("setback")
        bells, leases, ended = self._run("sweep", self._worker.max_crashes, SWEEP_AT_ONCE)
        if leases:
            failpoints.reach("taken_over")
        return bells, leases, ended
