"""What the model of `tests.support.model` knows of limits, flows, transactions and jobs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.answer.guards import Memo, NextCall
from workers.ledger.transaction import DEAD

if TYPE_CHECKING:
    from tests.support.refusal_model import Own
    from workers.ledger.batch import Place


@dataclass
class Bucket:
    """`level` tokens at the moment `at`, one more every `interval_us`, at most `burst`."""

    interval_us: int
    burst: int
    lead_us: int
    spread_us: int
    reserve: int  #: tokens that only lane 0 may take
    route: int = 0  #: 1: it is there for pauses only
    level: Fraction | None = None  #: None: never looked at, or lost; empty, but for a route's
    at: int = 0

    def tokens(self, now: int) -> Fraction:
        """Tokens at `now`; below 0 while it is held."""
        if self.level is None:
            return Fraction(self.burst if self.route else 0)
        return min(Fraction(self.burst), self.level + Fraction(now - self.at, self.interval_us))

    def wait_us(self, now: int) -> int:
        """Time until it has one token."""
        return int((1 - self.tokens(now)) * self.interval_us)

    def look(self, now: int) -> None:
        """A bucket without state starts to fill when somebody looks."""
        if self.level is None and not self.route:
            self.level, self.at = Fraction(0), now

    def empty(self, now: int, pause_us: int = 0) -> None:
        """No token until `pause_us` is over, and then none but those that come back."""
        self.level, self.at = min(self.tokens(now), Fraction(-pause_us, self.interval_us)), now

    def take(self, now: int) -> None:
        """Take one token."""
        self.level, self.at = self.tokens(now) - 1, now

    @property
    def full_at(self) -> int | None:
        """The moment when it is full again, as the store keeps it."""
        if self.level is None:
            return None
        return self.at + int((self.burst - self.level) * self.interval_us)


class Flow(NamedTuple):
    """Who waits in one line."""

    name: str
    lane: int
    tenant: str
    stride: int
    limits: tuple[str, ...]  #: limits of a rate
    slots: tuple[str, ...]  #: limits of how many calls are out at once
    scope: str  #: the cell that a refusal pauses
    pool: str  #: whose threads do it, where it is no call; "" = a call


@dataclass
class Transaction:
    """One transaction; `state` is w(aiting), r(ung), t(=countdown), s(ent), or a final word."""

    key: str
    job: str
    place: Place
    flows: list[str]
    guards: str
    rows: int
    steps: int
    step: int = 1
    part: int = 0  #: calls of the step that are done
    state: str = "w"
    due: int | None = None  #: when it may go: None = new, it never went
    until: int = 0  #: while it is out: by then somebody must have touched it
    fence: str | None = None
    first_sent: int | None = None
    last_heard: int = 0  #: when an answer came that did not end it
    generation: int = 1  #: of its key
    first_generation: int = 1  #: of the key with which this step, or its replay, began
    attempts: int = 0
    sends: int = 0  #: of its step
    counted: int = 0  #: what they count, in eighths
    first_bad: int | None = None  #: since when this step goes on trying
    waits_from: int | None = None  #: while it goes on so: from then on it waits for others
    throttled: int = 0
    refused: Own | None = None  #: its newest 429
    crashes: int = 0
    unknown: bool = False
    memo: Memo = Memo()  # noqa: RUF009 -- frozen; what the next call of the step must know
    kept: dict[str, str] = field(default_factory=dict)  #: the newest status, id, correlation, error
    answers: list[str] = field(default_factory=list)
    backup: int | None = None  #: what is to come may have been sent since this backup
    ids: list[str] = field(default_factory=list)  #: of several steps: what the provider calls each
    places: tuple[str, ...] = ()  #: what it takes under limits of how many calls may be out
    batch: int = 1  #: rows that it sends
    repeated: Counter[int] = field(
        default_factory=Counter
    )  #: of them, how often others repeat each
    halves: tuple[int, str, str] | None = None  #: the row with which the second begins, and both
    #: by whose fence its lease ended without an answer, and what the sweep changed for it
    swept: tuple[str | None, bool, int, Memo] | None = None
    probe: str | None = None  #: of which scope it is to show whether the breaker may close
    awaited: int | None = None  #: the step after which those are woken that wait for it
    #: who waits for it: the step at which that one does, its flow, and its key
    waiters: set[tuple[int, str, str]] = field(default_factory=set)

    @property
    def flow(self) -> str:
        """The flow of the next call, or of the one that is out."""
        return self.flows[min(self.step, self.steps) - 1].split(">")[0]

    @property
    def step_flows(self) -> list[str]:
        """The flows of its step: that of the next call, and of the look-up or send beside it."""
        return self.flows[min(self.step, self.steps) - 1].split(">")

    @property
    def looking(self) -> bool:
        """The next call, or the one that is out, is the look-up of its step."""
        return self.memo.next is NextCall.LOOKUP

    @property
    def guard(self) -> str:
        """The guard of its step."""
        return self.guards[min(self.step, self.steps) - 1]

    @property
    def keyed(self) -> bool:
        """The next call carries the key: it is neither a read nor a look-up."""
        return not self.looking and self.guards[self.step - 1] != "r"

    @property
    def suspect(self) -> bool:
        """A worker died under it."""
        return self.crashes > 0

    def begin(self) -> None:
        """What comes now was never sent, and no worker died under it."""
        self.attempts, self.sends, self.crashes, self.unknown = 0, 0, 0, False
        self.counted, self.first_bad, self.waits_from = 0, None, None
        self.first_generation = self.generation

    def remember(self, memo: Memo) -> None:
        """Take a memo; the step's call changes over between send and look-up as that says."""
        was, self.memo = self.looking, memo
        if was != self.looking:
            at = min(self.step, self.steps) - 1
            self.flows[at] = ">".join(reversed(self.flows[at].split(">")))


@dataclass
class Job:
    """What was submitted; the rest is read off its transactions."""

    rows: int = 0
    rejected: int = 0
    pages: int = 0
    opened: int = 0
    low: int = 0
    closed: bool = False
    throttled: int = 0
    finished_us: int | None = None
    since: int | None = None  #: the backup from which the store came back


def fields_of(tx: Transaction) -> dict[str, Any]:
    return {
        "s": tx.state,
        "k": tx.step,
        "pt": tx.part,
        "b": tx.backup,
        "at": tx.attempts,
        "ns": tx.sends,
        "ca": tx.counted,
        "t3": tx.first_bad,
        "t4": tx.waits_from,
        "pb": tx.probe,
        "th": tx.throttled,
        "rf": tx.refused.text if tx.refused else "",
        "cr": tx.crashes,
        "u": tx.unknown,
        "m": tx.memo.to_text(),
        "p": str(tx.place),
        "h": " ".join(map(str, tx.halves)) if tx.halves else None,
        "repeated": dict(tx.repeated),
        "fl": tx.flows[min(tx.step, tx.steps) - 1],
        "r": tx.rows,
        "f": tx.fence,
        "t1": tx.first_sent,
        "t2": tx.last_heard,
        "gn": tx.generation,
        "g0": tx.first_generation,
        "an": tx.answers,
        "ids": tx.ids,
        "d": tx.state in DEAD,
        "aw": tx.awaited,
        **{name: tx.kept.get(name, "") for name in ("st", "id", "co", "e")},
    }
