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


@dataclass
class Refusal:
    """The newest one of a scope that is not over."""

    sent: int  #: number of the newest grant at that time
    pause_us: int
    row: str
    good: int = 0

    @property
    def text(self) -> str:
        """As the store keeps it."""
        return f"{self.sent} {self.good} {self.pause_us} {self.row}"


class Own(NamedTuple):
    """What a row knows of its newest refusal."""

    step: int
    sent: int
    times: int  #: it was refused for itself
    scope: str

    @property
    def text(self) -> str:
        """As the store keeps it."""
        return " ".join(map(str, self))


@dataclass
class Refusals:
    """The refusals of one client, by scope."""

    open: dict[str, Refusal] = field(default_factory=dict)
    over: dict[str, int] = field(default_factory=dict)

    def good(self, scope: str, key: str, number: int) -> None:
        """A call was answered well."""
        if not (known := self.open.get(scope)):
            return
        if known.row == key[-8:]:
            del self.open[scope]
        elif number > known.sent:
            known.good += 1
            if known.good == ENOUGH:
                self.over[scope] = self.open.pop(scope).sent

    def judge(
        self, verdict: Requeue, scope: str, before: Own | None, *, number: int, held: bool
    ) -> tuple[Requeue, int, Settled]:
        """Whether a refusal is its row's; returns the verdict, how often, and what settle says."""
        known, over = self.open.get(scope), self.over.get(scope, -1)
        times = before.times if before else 0
        comparable = before if before and not held else None
        of_row = comparable is not None and not known and over >= comparable.sent
        lone = comparable is not None and known is not None and known.sent == comparable.sent
        pause_s = verdict.pause.duration_s if verdict.pause else 0.0
        if not (of_row or lone):
            verdict = replace(verdict, give_up=None)
        else:
            verdict = replace(verdict, retry_after_s=max(verdict.retry_after_s, pause_s))
        if comparable and of_row:
            rule = verdict.give_up
            counts = times > 0 and over == comparable.sent and rule is not None
            counts = counts and rule is not None and rule.max_retries is not None
            verdict = replace(verdict, pause=None, attempt=counts)
            return verdict, times + 1, Settled.STILL_APART if times else Settled.APART
        if known and known.good == 0 and number > known.sent and verdict.pause:
            longer_s = min(2 * known.pause_us / 1e6, verdict.pause.most_s)
            if longer_s > pause_s:
                delay_s = verdict.delay_s + longer_s - pause_s
                pause = Pause(longer_s, verdict.pause.reach)
                verdict = replace(verdict, pause=pause, delay_s=delay_s)
        return verdict, times, Settled.BACKLOG

    def keep(self, scope: str, key: str, *, pause_us: int, number: int, newest: int) -> None:
        """A refusal that its row outlives."""
        known = self.open.get(scope)
        if known and known.good == 0 and number <= known.sent:
            pause_us = max(pause_us, known.pause_us)
        self.open[scope] = Refusal(newest, pause_us, key[-8:])

    def forget(self) -> None:
        """The clock was set back."""
        self.open, self.over = {}, {}
