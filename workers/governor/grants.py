"""What the governor answers, by name.

What a script replies is a flat list; each answer is unpacked from it in one function, here and
nowhere else. The replies are described at the head of the scripts in `lua/`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from workers.answer.guards import Memo, NextCall
from workers.errors import LedgerDamaged
from workers.governor.flows import CALLS_POOL, MEDIA_POOL, POOLS
from workers.ledger.batch import Place
from workers.store.reading import read_integer, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.settings.client import ClientSettings
    from workers.settings.load import WorkerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """How long grants of one client hold, in us."""

    call_us: int  #: lease of a call: its timeouts and a margin
    local_us: int  #: lease of a local step, which prolongs it: by then something moves
    margin_us: int  #: a call that starts later than this could outlive its lease

    @classmethod
    def of(cls, client: ClientSettings, worker: WorkerSettings) -> Self:
        """The leases that follow from the timeouts of a client."""
        connect_s, margin_s = client.connect_timeout_s, worker.lease_margin_s
        return cls(
            call_us=round((client.total_timeout_s + connect_s + margin_s) * 1e6),
            local_us=round((client.read_timeout_s + connect_s + margin_s) * 1e6),
            margin_us=round(margin_s * 1e6),
        )

    def stale_at_ns(self, asked_ns: int, start_us: int, spread_us: int) -> int:
        """When a grant grows stale.

        Args:
            asked_ns: The moment before it was asked for, by `clock.now_ns`.
            start_us: How long its call waits first.
            spread_us: How much later it may start by its limits.
        """
        return asked_ns + min(start_us + spread_us, self.margin_us) * 1000


@dataclass(frozen=True, slots=True)
class Bell:
    """Step `step` of transaction `key` may go now."""

    key: str
    step: int
    steps: int
    job: str
    pool: str = CALLS_POOL  #: whose threads do the step, one of `flows.POOLS`
    local: bool = False  #: a local step, which makes no call


@dataclass(frozen=True, slots=True)
class Ring:
    """The answer of `ring`."""

    turn_s: float | None  #: from now to the caller's next ring; None: not before it is woken
    sweep: bool  #: something is out past its time
    needs_page: str  #: a job of which the caller opens the next page, or ""
    bells: list[Bell]
    open_breakers: int = 0  #: of the client and of its scopes
    #: What became of grants that the store had forgotten and this process put back: word → number.
    reclaimed: Mapping[str, int] = field(default_factory=dict)
    owns: bool = True  #: the caller is the one that rings
    #: Pool → bells and calls that were out before these bells.
    out: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(POOLS, 0))
    #: Pool → threads of the workers that do the client's calls.
    threads: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(POOLS, 0))

    @classmethod
    def from_reply(cls, reply: Sequence[Any], reclaimed: Mapping[str, int]) -> Self:
        """The answer from the reply of lua/ring.lua."""
        turn_us, sweep, needs_page, open_breakers, owns, *flat = reply
        (calls_out, media_out, calls_threads, media_threads), flat = flat[:4], flat[4:]
        bells = [
            Bell(key, int(step), int(steps), job, pool, bool(local))
            for key, step, steps, job, pool, local in zip(*[iter(flat)] * 6, strict=True)
        ]
        turn_s = None if turn_us < 0 else turn_us / 1e6
        return cls(
            turn_s,
            bool(sweep),
            needs_page,
            bells,
            open_breakers,
            reclaimed,
            owns=bool(owns),
            out={CALLS_POOL: calls_out, MEDIA_POOL: media_out},
            threads={CALLS_POOL: calls_threads, MEDIA_POOL: media_threads},
        )


class Grant(NamedTuple):
    """The call may leave, once, until `stale_at_ns`."""

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
    memo: Memo = Memo()
    generation: int = 1  #: of its idempotency key
    part: int = 0  #: calls of this step that are done: parts, or polls
    checks: bool = False  #: a probe without a guard: the client's own probe goes in its place
    sent_digest: str = ""  #: of the newest request under its key, see `identity.request_digest`
    number: int = 0  #: of all grants of the client: it never goes back

    @property
    def values(self) -> dict[str, Any]:
        """What the finished steps left to later ones; of a step that was done again the newest."""
        return {name: value for answer in self.answers for name, value in answer.items()}

    @property
    def looking(self) -> bool:
        """Whether what goes out is the step's look-up instead of its send."""
        return self.memo.next is NextCall.LOOKUP

    @classmethod
    def from_reply(
        cls, reply: Sequence[Any], *, asked: Asked, leases: Leases
    ) -> Grant | KeyExpired | MustSplit | Denied:
        """The answer from the reply of lua/admit.lua to what was asked."""
        try:
            match reply:
                case ["GO", *_]:
                    return cls._granted(reply, asked, leases)
                case ["OLD", job, place, generation]:
                    number = read_integer(generation)
                    return KeyExpired(asked.key, asked.step, job, Place.read(place), number)
                case ["SPLIT", job, place]:
                    return MustSplit(asked.key, asked.step, job, Place.read(place))
        except (TypeError, ValueError):  # nothing is sent; the sweep sets it aside
            raise LedgerDamaged(
                f"transaction {asked.key} cannot be read; headgate doctor looks at it"
            ) from None
        return Denied.from_reply(*reply)

    @classmethod
    def _granted(cls, reply: Sequence[Any], asked: Asked, leases: Leases) -> Grant:
        _, start_us, spread_us, job, place, attempts, unknown, throttled, *rest = reply
        answers, memo, generation, part, checks, sent_digest, number = rest
        return cls(
            key=asked.key,
            step=asked.step,
            fence=asked.fence,
            start_in_s=start_us / 1e6,
            stale_at_ns=leases.stale_at_ns(asked.at_ns, start_us, spread_us),
            job=job,
            place=Place.read(place),
            attempts=int(attempts),
            unknown=unknown == "1",
            throttled=int(throttled),
            answers=[read_json(line) for line in answers.split("\n")] if answers else [],
            memo=Memo.from_text(memo),
            generation=int(generation),
            part=int(part),
            checks=checks == "1",
            sent_digest=sent_digest,
            number=number,
        )


class Asker(NamedTuple):
    """Who answers a bell: what it serves, by which the ledger tells a bell that is not for it."""

    kind: str  #: of the jobs that it serves; "" = any
    does: str = "client"  #: calls; or "pool:<pool>": local steps, in a worker of this pool


#: An asker that takes any step: the dispatcher, and tests.
ANYBODY: Final = Asker("")


class Asked(NamedTuple):
    """What `admit` was asked."""

    key: str
    step: int
    fence: str
    at_ns: int  #: the moment before, by `clock.now_ns`


@dataclass(frozen=True, slots=True)
class KeyExpired:
    """The call may not leave under its key, which is of no more use; see `Governor.rotate`."""

    key: str
    step: int
    job: str
    place: Place  #: of its payload
    generation: int  #: of the key


@dataclass(frozen=True, slots=True)
class MustSplit:
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


class Hindrance(NamedTuple):
    """Why a bell could not be answered, and what waits for that."""

    why: str = ""  #: one sentence for people; "" = nothing failed
    #: More than 0: no token came. Nothing may leave for the client so long, if nobody has a token.
    pause_s: float = 0.0
    #: How long the transaction waits. With a reason no connection came about, and its scope has one
    #: more bad answer, unless that is a matter of this process alone.
    delay_s: float = 0.0
    process: str = ""  #: which could not connect, by its id in the registry; "" = not known
    failing_s: float = 0.0  #: for how long it has not been able to connect


#: Nothing is wrong: it is due at once.
PLAIN: Final = Hindrance()


class PutBack(IntEnum):
    """What follows from a bell that was put back, beside that; 0 = nothing."""

    PLAIN = 0
    PAUSED = 1  #: the client is paused
    OWN = 2  #: it is a matter of this process alone: others can connect, and nothing is held


class DeniedKind(StrEnum):
    """What becomes of a call that may not leave."""

    WAIT = "wait"  #: it goes again later
    DROP = "drop"  #: this bell has nothing to do


@dataclass(frozen=True, slots=True)
class Denied:
    """The call may not leave."""

    kind: DeniedKind
    reason: str = ""  #: why; "" = a limit is short
    short_us: int | None = None  #: until the limit lets it through; 1 = all its places are taken

    @classmethod
    def from_reply(cls, word: str, why: str | int) -> Self:
        """The answer from WAIT or DROP of lua/admit.lua, and what stands beside it."""
        if word == "WAIT":
            return cls(DeniedKind.WAIT, short_us=int(why))
        return cls(DeniedKind.DROP, str(why))

    @property
    def summary(self) -> str:
        """What Flower shows: a wait in seconds, for nobody reads microseconds."""
        if self.short_us is None:
            return f"{self.kind}: {self.reason}"
        # admit says 1 us where all places of a limit are taken: nobody knows for how long
        if self.short_us > 1:
            return f"{self.kind}: no token for {self.short_us / 1e6:.2f} s"
        return f"{self.kind}: no place is free"


class Settled(StrEnum):
    """What follows from a settled grant."""

    RING = "RING"  #: the Celery chain goes on
    BACKLOG = "BACKLOG"  #: the chain stops; the dispatcher will ring
    APART = "APART"  #: as BACKLOG: a 429 is this row's own, for the first time
    STILL_APART = "STILL_APART"  #: the same, not for the first time
    RETRY = "RETRY"  #: publish Task.retry
    END = "END"  #: the transaction has ended
    STALE = "STALE"  #: the grant was no longer ours; nothing was recorded
