"""Answers of 429 told a second time, in plain Python: see `tests.support.model`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from workers.answer.verdict import Pause
from workers.governor.grants import Settled

if TYPE_CHECKING:
    from workers.answer.verdict import Requeue

#: So many good answers to calls that were granted after a refusal end it.
ENOUGH: Final = 8
REFUSED: Final = "429:"
#: So many rows that are refused for the first time, nothing good between, are a whole scope.
MANY: Final = 16
#: While a refusal is open, so many others go before a row that was refused.
OTHERS: Final = 8
#: After so long a refusal is open no more, us.
OPEN_FOR_US: Final = 600_000_000


@dataclass
class Refusal:
    """What is counted in a scope from a refusal on."""

    sent: int  #: number that a grant had when the scope was held last
    good: int = 0  #: calls that were granted later and answered well, ever
    fresh: int = 0  #: rows that were refused for the first time, ever
    run: int = 0  #: of these in a row
    seen: int = 0  #: `good` at the newest refusal
    pause_us: int = 0
    row: str = ""

    @property
    def text(self) -> str:
        """As the store keeps it."""
        counts = (self.sent, self.good, self.fresh, self.run, self.seen, self.pause_us)
        return f"{' '.join(map(str, counts))} {self.row}"

    @property
    def counts(self) -> str:
        """As the store keeps them when it is over."""
        return f"{self.good} {self.fresh}"


class Own(NamedTuple):
    """What a row knows of its newest refusal."""

    step: int
    good: int
    fresh: int
    times: int  #: it was refused for itself
    scope: str

    @property
    def text(self) -> str:
        """As the store keeps it."""
        return " ".join(map(str, self))


class Judged(NamedTuple):
    """What a refusal is."""

    verdict: Requeue
    times: int
    settled: Settled
    record: Refusal
    held_s: float  #: no send of its own goes earlier, though the provider may not have ordered it


@dataclass
class Refusals:
    """The refusals of one client, by scope."""

    open: dict[str, Refusal] = field(default_factory=dict)
    over: dict[str, Refusal] = field(default_factory=dict)
    #: of the open ones: how many others went since a row that was refused
    others_gone: dict[str, tuple[int, int]] = field(default_factory=dict)

    def good(self, scope: str, key: str, number: int) -> None:
        """A call was answered well."""
        if not (known := self.open.get(scope)):
            return
        if known.row == key[-8:]:
            self.end(scope, known)
        elif number > known.sent:
            known.good, known.run = known.good + 1, 0
            if known.good - known.seen >= ENOUGH:
                self.end(scope, known)

    def end(self, scope: str, record: Refusal) -> None:
        """Its counts stay."""
        self.open.pop(scope, None)
        self.others_gone.pop(scope, None)
        self.over[scope] = record

    def go(self, scope: str, *, was_refused: bool) -> None:
        """A row goes."""
        if (gone := self.others_gone.get(scope)) is not None:
            self.others_gone[scope] = (0 if was_refused else min(gone[0] + 1, OTHERS), gone[1])

    def forget_old(self, now: int) -> None:
        """Refusals of long ago are open no more."""
        known = self.others_gone.items()
        self.others_gone = {scope: it for scope, it in known if now - it[1] <= OPEN_FOR_US}

    def judge(
        self,
        verdict: Requeue,
        scope: str,
        before: Own | None,
        grant: tuple[str, int, int],
        *,
        held: bool,
    ) -> Judged:
        """Whether a refusal is its row's; `grant` is its key and number, and the number of now."""
        key, number, newest = grant
        known, over = self.open.get(scope), self.over.get(scope, Refusal(0))
        record = replace(known) if known else Refusal(0, good=over.good, fresh=over.fresh)
        again = before is not None and before.good <= record.good and before.fresh <= record.fresh
        good = record.good - before.good if before and again else 0
        fresh = record.fresh - before.fresh if before and again else 0
        times = before.times if before else 0
        own = again and not held and good >= max(ENOUGH, fresh) and record.run <= 1
        left = again and not held and not own and fresh == 0 and record.run < MANY
        pause_s = verdict.pause.duration_s if verdict.pause else 0.0
        if not (own or left):
            verdict, pause_s = replace(verdict, give_up=None), 0.0
        settled = Settled.BACKLOG
        if own:
            rule = verdict.give_up
            counts = times > 0 and good >= 9 * fresh and bool(rule and rule.max_retries is not None)
            verdict = replace(verdict, pause=None, attempt=counts)
            settled = Settled.STILL_APART if times else Settled.APART
            times += 1
        else:
            verdict, record.pause_us = self._pause(verdict, known, number)
        if not own or not known:
            record.sent, record.row = newest, key[-8:]
        if not before:
            record.fresh, record.run = record.fresh + 1, record.run + 1
        record.seen = record.good
        return Judged(verdict, times, settled, record, pause_s)

    def _pause(self, verdict: Requeue, known: Refusal | None, number: int) -> tuple[Requeue, int]:
        """How long the scope is held."""
        pause_us = round(verdict.pause.duration_s * 1e6) if verdict.pause else 0
        if not known or known.good > known.seen:
            return verdict, pause_us
        if number <= known.sent:
            return verdict, max(pause_us, known.pause_us)
        longer_us = min(
            2 * known.pause_us, round(verdict.pause.most_s * 1e6) if verdict.pause else 0
        )
        if longer_us <= pause_us or not verdict.pause:
            return verdict, pause_us
        delay_s = verdict.delay_s + (longer_us - pause_us) / 1e6
        pause = Pause(longer_us / 1e6, verdict.pause.reach)
        return replace(verdict, pause=pause, delay_s=delay_s), longer_us

    def forget(self) -> None:
        """The clock was set back."""
        self.open, self.over, self.others_gone = {}, {}, {}
