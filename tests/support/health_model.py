"""Evidence and breakers told a second time, in plain Python: see `tests.support.model`.

Times are microseconds by the held clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

S = 1_000_000
#: What the scripts keep of a scope, and from when on they judge by it.
WINDOW, OLDEST_S, LEAST, OPEN_AFTER, OPEN_TOKEN_AFTER = 32, 600, 8, 16, 4
TOKEN = "token:"  #: the scope of answers of 401
ATTEMPT = 8  #: in eighths
FIRST_US, LONGEST_US, TOGETHER_US = 2 * S, 30 * S, 10 * S

CameTo = Literal["good", "bad", "neutral", "refused", "unsent"]


class Answer(NamedTuple):
    """One answer in a scope."""

    second: int
    row: str | None  #: of a bad one; None: it was good


@dataclass
class Evidence:
    """The newest answers of a scope, while a bad one is among them."""

    run: int = 0  #: bad first sends in a row
    since: int = 0  #: since when nothing was good
    answers: list[Answer] = field(default_factory=list)
    why: str = ""

    def weigh(self, row: str) -> int:
        """What a bad answer to this row counts, in eighths of an attempt."""
        others = [answer for answer in self.answers if answer.row != row]
        good = sum(answer.row is None for answer in others)
        if len(others) < LEAST:
            return 0
        if good / len(others) >= 9 / 10:
            return ATTEMPT
        return int(good / len(others) >= 1 / 3)

    def forget_old(self, now: int) -> None:
        """What is older than ten minutes is no evidence."""
        self.answers = [it for it in self.answers if now // S - it.second <= OLDEST_S]

    @property
    def text(self) -> str:
        """As the store keeps it."""
        answers = " ".join(f"{at}{'+' if row is None else f'-{row}'}" for at, row in self.answers)
        return f"{self.run} {self.since} {answers}\n{self.why}"


@dataclass
class Breaker:
    """Open: after a while one call at a time is let through."""

    cause: str
    why: str
    opened: int
    due: int
    next: int  #: when a probe may go
    every: int = 2 * FIRST_US
    good: int = 0
    probes: int = 0
    ordered: int = 0  #: until then the provider ordered to wait
    probers: dict[str, int] = field(default_factory=dict)  #: who is out, and until when

    def schedule(self, now: int) -> None:
        """The next probe goes when it is due, and not while two are out."""
        self.probers = {holder: till for holder, till in self.probers.items() if till > now}
        waits = len(self.probers) >= 2
        self.next = max(self.due, min(self.probers.values())) if waits else self.due

    def start(self, now: int, holder: str | None = None, till: int = 0) -> int:
        """A probe goes; returns how many before it were answered well."""
        if holder:
            self.probers[holder] = till
        self.due, self.every = now + self.every, min(2 * self.every, LONGEST_US)
        self.probes += 1
        self.schedule(now)
        return self.good


class Health:
    """The evidence and the breakers of one client."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.evidence: dict[str, Evidence] = {}
        self.healthy: dict[str, int] = {}  #: scope → the second since which all is well again
        self.breakers: dict[str, Breaker] = {}
        self.opened: tuple[str, int] | None = None  #: the scope that opened last, and when
        self.ended: dict[str, int] = {}  #: scope → when its breaker closed last

    def scope_of(self, scope: str) -> str | None:
        """The scope whose breaker is open for a call of `scope`."""
        return next((it for it in ("client", scope) if it in self.breakers), None)

    def hold_ended(self, scope: str) -> int:
        """When the newest hold of a scope ended; 0 = it was never held."""
        return max(self.ended.get(held, 0) for held in ("client", scope))

    def note(self, scope: str, holder: str, came_to: CameTo, error: str, *, first: bool) -> int:
        """Keep a good or bad answer; returns what it counts. The breaker may open."""
        now, good, row = self._clock(), came_to == "good", holder[-8:]
        known = self.evidence.get(scope)
        if known is None:
            if good:
                return 0
            known = self.evidence[scope] = Evidence(since=now)
            if scope in self.healthy:
                known.answers = [Answer(self.healthy[scope], None)] * (WINDOW - 1)
                known.forget_old(now)
            weight = ATTEMPT
        else:
            known.forget_old(now)
            weight = 0 if good else known.weigh(row)
            if not known.answers or known.answers[-1].row is None:
                known.since = now
        known.answers = [*known.answers, Answer(now // S, None if good else row)][-WINDOW:]
        if good:
            known.run = 0
            if all(answer.row is None for answer in known.answers):
                del self.evidence[scope]
                self.healthy[scope] = now // S
        else:
            known.run, known.why = known.run + first, error or known.why
            only_bad = all(answer.row is not None for answer in known.answers)
            soon = scope == TOKEN and only_bad
            if known.run >= (OPEN_TOKEN_AFTER if soon else OPEN_AFTER):
                self.open("client" if scope == TOKEN else scope, "failing", known.why)
        return weight

    def open(self, scope: str, cause: str, why: str) -> None:
        """Open the breaker of a scope, or the client's when another one opened just before."""
        now = self._clock()
        if self.scope_of(scope):
            return
        before, self.opened = self.opened, (scope, now)
        together = before and before[0] != scope and now - before[1] < TOGETHER_US
        if before and together and self.breakers.pop(before[0], None):
            scope = "client"
        due = now + FIRST_US
        self.breakers[scope] = Breaker(cause, why, now, due, due)

    def end_probe(
        self, scope: str, holder: str, came_to: CameTo, *, why: str = "", retry_after_us: int = 0
    ) -> Breaker | None:
        """A probe came back; returns the breaker when it is closed by that."""
        now, breaker = self._clock(), self.breakers.get(scope)
        if breaker is None or breaker.probers.get(holder, 0) <= now:
            return None
        del breaker.probers[holder]
        if retry_after_us:
            breaker.ordered = max(breaker.ordered, now + retry_after_us)
        if came_to == "good" and breaker.good:
            self.ended[scope] = now
            return self.breakers.pop(scope)
        if came_to == "good":
            breaker.good, breaker.every, breaker.due = 1, 2 * FIRST_US, now
        elif came_to in {"bad", "refused"}:
            breaker.good, breaker.why = 0, why
        elif came_to == "unsent":
            breaker.due = min(breaker.due, now + S)
        breaker.due = max(breaker.due, breaker.ordered)
        breaker.schedule(now)
        return None

    def move(self, back: int) -> None:
        """Every moment moves along with a clock that was set back."""
        self.evidence, self.healthy = {}, {}
        self.ended = {scope: at - back for scope, at in self.ended.items()}
        if self.opened:
            self.opened = self.opened[0], self.opened[1] - back
        for breaker in self.breakers.values():
            breaker.opened -= back
            breaker.due -= back
            breaker.ordered -= back if breaker.ordered else 0
            breaker.next -= back
            breaker.probers = {}
