"""The governor's rules told a second time, in plain Python: what the scripts are held against.

Nothing is counted along the way. A transaction knows where it stands; the bells that are out, the
lengths of the lines and a job's counters are read off the transactions whenever they are asked
for. A limit is a textbook bucket with a level, not a moment. Where the scripts are free to choose,
between flows of equal rank, `ring` is told what they chose and says whether it was theirs to
choose. Times are microseconds by the held clock.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tests.support.health_model import ATTEMPT, TOKEN, Health
from tests.support.model_state import Bucket, Flow, Job, Transaction, fields_of
from tests.support.refusal_model import OTHERS, REFUSED, Own, Refusal, Refusals
from workers.answer.guards import Memo, NextCall
from workers.answer.outcome import Health as Answered
from workers.answer.outcome import Outcome
from workers.answer.verdict import Advance, Finish, GiveUp, Reach, Requeue, Retry
from workers.governor.flows import POOLS
from workers.governor.governor import MOST_KEYS
from workers.governor.grants import (
    Bell,
    Denied,
    DeniedKind,
    Grant,
    KeyExpired,
    MustSplit,
    Ring,
    Settled,
)
from workers.ledger.batch import Place
from workers.ledger.ledger import Recovered, Replayed
from workers.ledger.transaction import DEAD, ENDED, FINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.support.health_model import CameTo
    from workers.answer.verdict import Awaited, Verdict
    from workers.governor.grants import Half
    from workers.ledger.ledger import NewTransaction

MS, S = 1_000, 1_000_000
#: Past the moment at which it was due, no more of a row's wait counts against its patience.
TURN_US = 60 * S
#: After so many bells of lanes before it for one limit the next token of that is a lane's.
MOST_BEFORE = 19
#: The memo of a step that is looked up before the wait for the first look-up.
LOOK_FIRST = Memo(next=NextCall.LOOKUP)


class Model:
    """The quota, the lines and the ledger of one client."""

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        beat_us: int,
        grace_us: int,
        lease_us: int,
        local_lease_us: int,
        max_age_us: int,
        quiet_us: int,
        max_crashes: int,
        margin_us: int,
    ) -> None:
        self._clock = clock
        self.beat_us, self.grace_us, self.lease_us = beat_us, grace_us, lease_us
        self.local_lease_us = local_lease_us
        self.max_age_us, self.quiet_us, self.max_crashes = max_age_us, quiet_us, max_crashes
        self.rotations: list[tuple[str, int, int]] = []  #: key, its generation, attempts before
        self.told_of: list[tuple[str, int, str, str, str]] = []  #: sends that were no success
        self.margin_us = margin_us
        self.flows: dict[str, Flow] = {}
        self.buckets: dict[str, Bucket] = {}
        self.places: dict[str, int] = {}  #: how many calls may be out at once
        self.refused: tuple[str, int] | None = None  #: the scope that was paused last, and when
        self.why: dict[str, str] = {}  #: the newest reason of a pause, by its scope
        self.told: dict[str, tuple[int, int]] = {}  #: by scope: calls left, and until when
        self.held_until = 0  #: no limit holds the client back until then, a pause does
        self.jobs: dict[str, Job] = {}
        self.opening: dict[str, int] = {}  #: jobs whose next page somebody opens until then
        self.txs: dict[str, Transaction] = {}  #: in the order in which they were opened
        self.owner, self.owned_until = "", 0
        self.number = 0  #: of the newest grant
        self.clock_set_back = 0  #: by how much, all in all
        self.at = 0  #: when somebody rang last
        self.workers: dict[str, tuple[int, int]] = {}  #: threads, and until when they count
        self.passes: dict[tuple[int, str], int] = {}
        self.virtual: dict[int, int] = {}  #: the pass at which a lane stands
        #: by lane and limit: bells of lanes before it since one of its own
        self.turns: Counter[tuple[int, str]] = Counter()
        self.dead: list[tuple[str, str, str, str]] = []
        self.sent: dict[int, tuple[int, int]] = {}  #: second modulo 16 → second, grants in it
        self.unsent: dict[int, tuple[int, int]] = {}  #: the same of grants that were not used
        self.turned_away: dict[int, tuple[int, int]] = {}  #: the same of answers of 429
        self.health = Health(clock)
        self.refusals = Refusals()
        self.refusal = Refusal(0)  #: that is being settled
        self.refusal_held_s = 0.0  #: no send of its row goes earlier

    @property
    def now(self) -> int:
        """The held clock."""
        return self._clock()

    # What is read off the transactions.

    def standing(self, *states: str) -> list[Transaction]:
        """The transactions in one of these states."""
        return [tx for tx in self.txs.values() if tx.state in states]

    def waiting(self) -> list[Transaction]:
        """Those in the lines, due or not; suspects wait apart."""
        return [tx for tx in self.standing("w") if not tx.suspect]

    def bells(self, limit: str | None = None) -> int:
        """Bells out that will be charged to this limit; None = those of all calls."""
        charged = [self.flows[tx.flow] for tx in self.standing("r")]
        return sum(limit in it.limits + it.slots if limit else not it.pool for it in charged)

    def part_of(self, limit: str) -> int:
        """Calls that are out under a limit of how many may be."""
        return sum(limit in tx.places for tx in self.standing("s"))

    def line(self, flow: str) -> list[Transaction]:
        """Those of a line that may go now: the due ones first, by due time, then the new ones.

        While a refusal is open, eight of these go before each one that was refused.
        """
        here = [tx for tx in self.waiting() if tx.flow == flow]
        due, new = _by_due(here, self.now), [tx for tx in here if tx.due is None]
        others_gone = self.refusals.others_gone.get(self.flows[flow].scope)
        if others_gone is None:
            return due + new
        refused = [tx for tx in due if self._was_refused(tx)]
        others = [tx for tx in due if tx not in refused] + new
        return refused + others if others_gone[0] >= OTHERS else others + refused

    def _was_refused(self, tx: Transaction) -> bool:
        """Whether its newest refusal is of this step and scope."""
        own = tx.refused
        return bool(own) and (own.step, own.scope) == (tx.step, self.flows[tx.flow].scope)

    def room(self, pool: str) -> int:
        """How many more bells may ring: bells and leases are at most 1.25 × the threads.

        Those of the pool media are at most its threads, and take none of the others.
        """
        kind = "m:" if pool == "media" else "w:"
        threads = sum(n for name, (n, _) in self.workers.items() if name.startswith(kind))
        out = [self.flows[tx.flow].pool == "media" for tx in self.standing("r", "s")]
        if pool == "media":
            return threads - sum(out)
        return threads * 5 // 4 - (len(out) - sum(out))

    def rooms(self) -> bool:
        """Whether any pool has room."""
        return self.room("calls") > 0 or self.room("media") > 0

    def able(self, flow: Flow, lane: int | None = None) -> bool:
        """Whether one of this flow may be rung, as one of a lane: tokens and threads are there."""
        as_lane = flow if lane is None else flow._replace(lane=lane)
        return self.free(as_lane, ahead=True) > 0 and self.room(flow.pool) > 0

    def free(self, flow: Flow, *, ahead: bool = False) -> int:
        """Tokens of a flow that no bell has spoken for; `ahead` counts a limit's lead in."""
        free = [10**6]
        if not flow.pool:
            if self.held_until > self.now:
                return 0
            for scope in ("client", *flow.limits, *flow.slots):
                if breaker := self.health.breakers.get(scope):
                    bells = self.bells(None if scope == "client" else scope)
                    free.append(int(breaker.next <= self.now) - bells)
        for limit in flow.limits:
            bucket = self.buckets[limit]
            lead = Fraction(bucket.lead_us * ahead, bucket.interval_us)
            reserve = bucket.reserve if flow.lane else 0
            free.append(int((bucket.tokens(self.now) + lead) // 1) - reserve - self.bells(limit))
        free += [self.places[it] - self.part_of(it) - self.bells(it) for it in flow.slots]
        return min(free)

    def needs_page(self) -> set[str]:
        """Jobs that want their next page opened."""
        return {
            name
            for name, job in self.jobs.items()
            if job.closed and job.opened < job.pages and self._unfinished(name) < job.low
        }

    def _unfinished(self, job: str) -> int:
        return sum(tx.job == job and tx.state not in ENDED for tx in self.txs.values())

    def ended(self, job: str) -> Counter[str]:
        """The job's rows that have ended, by state."""
        rows = Counter({"rejected": self.jobs[job].rejected})
        for tx in self.standing(*FINAL):
            if tx.job == job:
                rows[tx.state] += tx.rows
        return rows

    # The scripts.

    def accept(self, job: str, rows: int, rejected: int, low: int) -> None:
        """One more page of a job."""
        it = self.jobs.setdefault(job, Job(low=low))
        it.rows, it.rejected, it.pages = it.rows + rows, it.rejected + rejected, it.pages + 1

    def open(
        self,
        job: str,
        page: int,
        definitions: Mapping[str, str],
        opened: Iterable[NewTransaction],
        joined: Iterable[tuple[str, int]],
    ) -> bool:
        """Put a page into the lines, once."""
        if self.jobs[job].opened != page:
            return False
        for name, definition in definitions.items():
            lane, tenant, _ = name.split(":")
            it = json.loads(definition.partition("\n")[0])
            pool = it["scope"].removeprefix("pool:") if it["scope"].startswith("pool:") else ""
            cells = it["limits"][not pool :]  # the client's own is `held_until`
            limits = [cell for cell in cells if cell[1]]
            slots = [cell for cell in cells if not cell[1]]
            for limit, *row in limits:
                self.buckets.setdefault(limit, Bucket(*row))
            self.places |= {cell[0]: cell[2] for cell in slots}
            self.flows[name] = Flow(
                name,
                int(lane),
                tenant,
                it["stride"],
                tuple(cell[0] for cell in limits),
                tuple(cell[0] for cell in slots),
                it["scope"],
                pool,
            )
        for new in opened:
            flows, guards = new.flows.split(","), new.guards
            self.txs[new.key] = Transaction(
                key=new.key,
                job=job,
                place=Place(page, new.index),
                flows=flows * new.steps if len(flows) == 1 else flows,
                guards=guards * new.steps if len(guards) == 1 else guards,
                rows=new.rows,
                batch=new.rows,
                steps=new.steps,
            )
            if self.jobs[job].since is not None:
                self._doubt(self.txs[new.key], self.jobs[job].since)
        for key, row in joined:
            tx = self.txs[key]
            while tx.halves:
                second, *both = tx.halves
                tx = self.txs[both[row >= second]]
            tx.rows += 1
            tx.repeated[row] += 1
        self.jobs[job].opened += 1
        self.opening.pop(job, None)
        self._look_for_end(job)
        return True

    def ring(self, worker: str, threads: int, pool: str, answer: Ring, active: set[str]) -> Ring:
        """What `ring` has to answer; `answer` tells its choices, which are checked.

        It looks at the `active` flows: those in which something waits, and it may be at others.
        """
        now = self.now
        assert {tx.flow for tx in self.waiting()} <= active
        self.refusals.forget_old(now)
        if self.at - now >= S:  # the clock was set back: nothing is as it seems
            return Ring(self.beat_us / 1e6, sweep=True, needs_page="", bells=[], owns=False)
        self.at = now
        self.workers = {name: it for name, it in self.workers.items() if it[1] > now}
        name = f"{'m' if pool == 'media' else 'w'}:{worker}"
        self.workers[name] = (threads, now + 5 * S)
        if self.owner != worker and 0 < self.owned_until - now <= S:
            assert answer.turn_s in {None, (self.owned_until - now) / S}
            return replace(self._without_bells(), turn_s=answer.turn_s, owns=False)
        self.owner, self.owned_until = worker, now + S
        self._end_countdowns()
        overdue = any(tx.until <= now for tx in self.standing("r", "s", "t"))
        counted = self._without_bells()

        rung = [bell.key for bell in answer.bells]
        suspect = self._next_suspect()
        if suspect:
            assert rung, f"the suspect {suspect.key} may go and was not rung"
            assert rung.pop(0) == suspect.key, f"the suspect {suspect.key} goes first"
            self._bell(suspect)
        passes = self._passes(active)
        busy = {self.flows[name].lane for name in active}
        for key in rung:
            choices = self._choices(passes)
            assert key in choices, f"{key} was rung, it was the turn of {sorted(choices)}"
            flow = self.flows[self.txs[key].flow]
            self.virtual[flow.lane] = passes[flow]
            passes[flow] += flow.stride
            self._share(passes, flow)
            self._count_turn(flow, busy if len(busy) > 1 else set())
            if not self._held(flow):
                self.refusals.go(flow.scope, was_refused=self._was_refused(self.txs[key]))
            self._bell(self.txs[key])
        assert not self._choices(passes), f"{sorted(self._choices(passes))} could go, nobody rang"

        needs_page = {it for it in self.needs_page() if self.opening.get(it, 0) <= now}
        assert answer.needs_page in (needs_page or {""})
        if answer.needs_page:
            self.opening[answer.needs_page] = now + 250 * MS
        bells = [
            Bell(tx.key, tx.step, tx.steps, tx.job, pool or "calls", bool(pool))
            for tx in map(self.txs.__getitem__, (bell.key for bell in answer.bells))
            for pool in (self.flows[tx.flow].pool,)
        ]
        return replace(
            counted,
            turn_s=answer.turn_s,
            sweep=overdue,
            needs_page=answer.needs_page,
            bells=bells,
        )

    def _without_bells(self) -> Ring:
        """An answer of `ring` without bells: what is out of each pool, and its threads."""
        out = dict.fromkeys(POOLS, 0)
        threads = dict.fromkeys(POOLS, 0)
        for tx in self.standing("r", "s"):
            out[self.flows[tx.flow].pool or "calls"] += 1
        for name, (count, _) in self.workers.items():
            threads["media" if name.startswith("m:") else "calls"] += count
        open_breakers = len(self.health.breakers)
        return Ring(
            turn_s=None,
            sweep=False,
            needs_page="",
            bells=[],
            open_breakers=open_breakers,
            out=out,
            threads=threads,
        )

    def _end_countdowns(self) -> None:
        """A retry whose countdown is over counts as a bell."""
        for tx in self.standing("t"):
            if tx.due is not None and tx.due <= self.now:
                tx.state = "r"

    def _next_suspect(self) -> Transaction | None:
        """The suspect that may go now: one at a time."""
        if not self.rooms() or any(tx.suspect for tx in self.standing("r", "s", "t")):
            return None
        for tx in _by_due((tx for tx in self.standing("w") if tx.suspect), self.now)[:256]:
            self._look(self.flows[tx.flow])
            if self.able(self.flows[tx.flow]):
                return tx
        return None

    def _passes(self, active: set[str]) -> dict[Flow, int]:
        """The flows that have work and tokens, with their tenants' passes.

        A tenant that was idle goes on where its lane stands: at the pass of who went last.
        """
        passes: dict[Flow, int] = {}
        if not self.rooms():
            return passes
        busy = {self.flows[name].lane for name in active}
        self.passes = {it: n for it, n in self.passes.items() if it[0] in busy}
        self.virtual = {lane: n for lane, n in self.virtual.items() if lane in busy}
        self.turns = Counter({it: n for it, n in self.turns.items() if it[0] in busy})
        urgent = any(self.flows[tx.flow].lane == 0 for tx in self.waiting())
        for flow in map(self.flows.__getitem__, active):
            self._look(flow)
            if self.line(flow.name) and self.able(flow, 0 if urgent else flow.lane):
                own = self.passes.get((flow.lane, flow.tenant), 0)
                passes[flow] = max(own, self.virtual.get(flow.lane, 0))
        return passes

    def _choices(self, passes: Mapping[Flow, int]) -> set[str]:
        """Who may go next: the first of each line of the first lane's least pass.

        Or of a later lane that has its turn, where something may go that is no probe.
        """
        able = [it for it in passes if self.line(it.name) and self.able(it) and self._may_go(it)]
        least = min(((flow.lane, passes[flow]) for flow in able), default=None)
        first = [it for it in able if (it.lane, passes[it]) == least]
        in_turn = self._in_turn(passes, first[0].lane) if first else set()
        choices = set()
        for tenant in {flow.tenant for flow in first}:
            own = [flow for flow in first if flow.tenant == tenant]
            if in_turn and not all(map(self._held, own)):
                choices |= in_turn
            else:
                choices |= self._probers(own) or {self.line(it.name)[0].key for it in own}
        return choices

    def _in_turn(self, passes: Mapping[Flow, int], before: int) -> set[str]:
        """The first of each line of a later lane that has its turn, of the least pass there."""
        choices = set()
        for lane, limit in (it for it, n in self.turns.items() if n >= MOST_BEFORE):
            may = [
                flow
                for flow in passes
                if flow.lane == lane > before and limit in self._counted(flow)
                if self.line(flow.name) and self.able(flow, before) and not self._held(flow)
            ]
            least = min((passes[flow] for flow in may), default=None)
            choices |= {self.line(it.name)[0].key for it in may if passes[it] == least}
        return choices

    def _counted(self, flow: Flow) -> list[str]:
        """The limits of which each lane has a share; a route is one of a limit."""
        own = [limit for limit in flow.limits if not self.buckets[limit].route]
        return [*([] if flow.pool else ["client"]), *own, *flow.slots]

    def _count_turn(self, flow: Flow, busy: set[int]) -> None:
        """A bell of this flow passes over later lanes in which something waits."""
        for limit in self._counted(flow) if busy else ():
            self.turns[flow.lane, limit] = 0
            for later in busy:
                if later > flow.lane:
                    self.turns[later, limit] = min(self.turns[later, limit] + 1, MOST_BEFORE)

    def _held(self, flow: Flow) -> bool:
        return not flow.pool and bool(self.health.scope_of(flow.scope))

    def _may_go(self, flow: Flow) -> bool:
        """Whether no breaker is open for it, or one of its rows may be the probe."""
        held = not flow.pool and self.health.scope_of(flow.scope)
        return not held or bool(self._probers([flow]))

    def _is_guarded_waiting(self, scope: str) -> bool:
        """Whether a row that something guards waits in a scope, and may go within a minute."""
        soon = self.now + 60 * S
        return any(
            tx.guard != "n"
            and not flow.pool
            and scope in {"client", flow.scope}
            and (tx.state == "t" or ((tx.due or 0) <= soon and self._may_go_soon(flow)))
            for tx in [*self.waiting(), *self.standing("t")]
            for flow in (self.flows[tx.flow],)
        )

    def _may_go_soon(self, flow: Flow) -> bool:
        buckets = [self.buckets[limit] for limit in flow.limits]
        tokens = (it.tokens(self.now) + Fraction(60 * S, it.interval_us) for it in buckets)
        reserves = (it.reserve if flow.lane else 0 for it in buckets)
        return all(int(n // 1) - own >= 1 for n, own in zip(tokens, reserves, strict=True))

    def _probers(self, flows: Iterable[Flow]) -> set[str]:
        """Who of a tenant may be a probe; those that nothing guards only when no other one may."""
        found: dict[bool, set[str]] = {False: set(), True: set()}
        for flow in flows:
            if not (scope := None if flow.pool else self.health.scope_of(flow.scope)):
                continue
            here = [tx for tx in self.waiting() if tx.flow == flow.name]
            due, new = _by_due(here, self.now)[:128], [it for it in here if it.due is None][:128]
            for unguarded in found:
                may = [it for it in due + new if unguarded or it.guard != "n"]
                in_doubt = next((it.key for it in may if it.unknown or it.attempts), None)
                fresh = next((it.key for it in may if not (it.unknown or it.attempts)), None)
                even = self.health.breakers[scope].probes % 2 == 0
                key = in_doubt if in_doubt and (even or not fresh) else fresh
                if not (unguarded and self._is_guarded_waiting(scope)):
                    found[unguarded] |= {key} if key else set()
        return found[False] or found[True]

    def _share(self, passes: dict[Flow, int], moved: Flow) -> None:
        """All flows of a tenant in a lane have one pass."""
        for flow in passes:
            if (flow.lane, flow.tenant) == (moved.lane, moved.tenant):
                passes[flow] = passes[moved]
        self.passes[moved.lane, moved.tenant] = passes[moved]

    def admit(self, key: str, step: int, fence: str) -> Grant | KeyExpired | MustSplit | Denied:  # noqa: C901, PLR0912 -- case by case
        """Whether this call may leave now."""
        now, tx = self.now, self.txs.get(key)
        if tx is None:
            return Denied(DeniedKind.DROP, "missing")
        if tx.state in ENDED:
            return Denied(DeniedKind.DROP, "ended")
        if tx.state in {"s", "w"}:
            return Denied(DeniedKind.DROP, "lease held" if tx.state == "s" else "in the backlog")
        if tx.step != step:
            return Denied(DeniedKind.DROP, "other step")
        if tx.state == "t" and tx.due is not None and tx.due > now + 20 * MS:
            return Denied(DeniedKind.DROP, "not due")
        if tx.memo.next is NextCall.SPLIT:
            return MustSplit(key, step, tx.job, tx.place)
        old = tx.first_sent is not None and now - tx.first_sent > self.max_age_us
        if (old and tx.keyed) or tx.memo.next is NextCall.FRESH_KEY:
            return KeyExpired(key, step, tx.job, tx.place, tx.generation)

        flow = self.flows[tx.flow]
        scope = None if flow.pool else self.health.scope_of(flow.scope)
        breaker = self.health.breakers[scope] if scope else None
        if breaker and breaker.next > now:
            self._to_line(tx, now)
            return Denied(DeniedKind.WAIT, short_us=breaker.next - now)
        limits = [self.buckets[limit] for limit in flow.limits]
        held = self.held_until > now and not flow.pool
        waits = [(self.held_until - now if held else 0, 0)]
        # They are asked in the order of the flow's cells: rates, then places.
        waits += [(it.wait_us(now), 100 * MS if it.lead_us else 0) for it in limits]
        waits += [(int(self.part_of(it) >= self.places[it]), 0) for it in flow.slots]
        for wait, most in waits:
            if wait > most:
                self._to_line(tx, now)
                return Denied(DeniedKind.WAIT, short_us=wait)
        start = max(wait for wait, _ in waits)
        tx.places = flow.slots
        for bucket in limits:
            bucket.look(now)
            if not bucket.route or bucket.tokens(now) < bucket.burst:
                bucket.take(now + start)  # the call leaves then, so then it counts
        lease_us = self.local_lease_us if flow.pool else self.lease_us
        tx.state, tx.fence, tx.until = "s", fence, now + lease_us
        tx.first_sent = now if tx.first_sent is None and tx.keyed else tx.first_sent
        if not flow.pool:
            self._count(self.sent)
        tx.probe = scope
        good = breaker.start(now, key, now + self.lease_us) if breaker else 1
        spread = min([1000 * S, *(bucket.spread_us for bucket in limits)])
        self.number = max(self.number + 1, now + self.clock_set_back)
        return Grant(
            key=key,
            step=step,
            fence=fence,
            start_in_s=start / 1e6,
            stale_at_ns=(now + min(start + spread, self.margin_us)) * 1000,
            job=tx.job,
            place=tx.place,
            attempts=tx.attempts,
            unknown=tx.unknown,
            throttled=tx.throttled,
            answers=[json.loads(answer) for answer in tx.answers],
            memo=tx.memo,
            generation=tx.generation,
            part=tx.part,
            checks=good == 0 and tx.keyed and tx.guard == "n",
            number=self.number,
        )

    def split(self, key: str, halves: Iterable[Half]) -> str:
        """Let two halves of a batch wait in its place."""
        tx = self.txs[key]
        first, second = halves
        tx.state, tx.memo, tx.halves = "split", Memo(), (second.place.first, first.key, second.key)
        for half in (first, second):
            own = range(half.place.first, half.place.end)
            repeated = Counter({row: n for row, n in tx.repeated.items() if row in own})
            new = Transaction(
                key=half.key,
                job=tx.job,
                place=half.place,
                flows=list(tx.flows),
                guards=tx.guards,
                rows=half.rows + repeated.total(),
                batch=half.rows,
                repeated=repeated,
                steps=1,
            )
            new.unknown = tx.unknown
            if tx.backup is not None:
                new.backup, new.first_sent = tx.backup, tx.first_sent
            self.txs[half.key] = new
            self._to_line(new, self.now)
        return "refused: split"

    def rotate(self, aged: KeyExpired) -> str:
        """Replace a key that is too old, where no send under it may have been executed."""
        tx = self.txs[aged.key]
        if tx.unknown:
            why = "its key is older than the provider remembers it, and it may have been executed"
        elif tx.generation - tx.first_generation + 1 >= MOST_KEYS:
            why = (
                f"it was never executed under {MOST_KEYS} keys, each of which the provider takes "
                f"no more"
            )
        elif tx.last_heard + self.quiet_us > self.now:
            tx.kept["e"] = "it waits for a fresh key, until its newest send is long over"
            self._to_line(tx, tx.last_heard + self.quiet_us)
            return "old: quiet"
        else:
            tx.generation += 1
            self.rotations.append((tx.key, tx.generation, tx.attempts))
            tx.attempts, tx.memo, tx.first_sent, tx.last_heard = 0, Memo(), None, 0
            tx.counted, tx.first_bad, tx.waits_from = 0, None, None
            tx.kept.pop("e", None)
            self._to_line(tx, self.now)
            return "old: fresh"
        tx.kept["e"] = why
        ended = "unknown" if tx.unknown else "failed"
        self._finish(tx, ended, why)
        return f"old: {ended}"

    def settle(self, grant: Grant, verdict: Verdict) -> Settled:
        """Record what a grant came to."""
        now, tx = self.now, self.txs[grant.key]
        mine = (tx.step, tx.fence) == (grant.step, grant.fence)
        late = mine and tx.state != "s" and self._take_back(tx)
        if tx.state != "s" or not mine:
            return Settled.STALE
        verdict, apart = self._judge_refusal(tx, verdict, grant.number)
        verdict, final = self._count_attempt(tx, verdict)
        self._keep_refusal(tx, verdict, grant.number, ends=bool(final))
        self._hear(tx, verdict)
        self._break(tx, verdict)
        tx.places, tx.probe = (), None
        self._tell_of(tx, verdict, dead=final in DEAD, late=late)
        memo = self._told(tx, verdict)
        tx.sends += _was_sent(verdict)
        kept = {"id": "", "co": verdict.correlation_id, "e": ""}
        if isinstance(verdict, Advance):
            kept["id"] = verdict.provider_id
        else:
            tx.attempts += verdict.attempt
            kept["e"] = verdict.error
        if _is_429(verdict):
            tx.throttled += 1
            self.jobs[tx.job].throttled += 1
        tx.kept |= {name: value for name, value in kept.items() if value}
        tx.kept["st"] = str(verdict.status or "")

        if tx.keyed and (not isinstance(verdict, Advance) or tx.step < tx.steps):
            tx.last_heard = now
        if isinstance(verdict, Advance):
            tx.memo = memo
            return self._advance(tx, verdict)
        tx.remember(memo)
        if final or isinstance(verdict, Finish):
            return self._finish(tx, final or verdict.state, verdict.error)
        again = self._again(tx, verdict)
        return apart if again is Settled.BACKLOG else again

    def _again(self, tx: Transaction, verdict: Retry | Requeue) -> Settled:
        """The step is done again, goes on, or the one before is done again."""
        if isinstance(verdict, Requeue) and (verdict.part_done or verdict.step_back):
            if verdict.part_done:  # of the step, one call of several
                tx.part += 1
            else:
                tx.step, tx.part = tx.step - 1, 0
            tx.begin()
            if tx.backup is not None and self._doubt(tx, tx.backup):
                return Settled.END
        due = self.now + round(verdict.delay_s * 1e6)
        if isinstance(verdict, Requeue) and verdict.waits_for:
            due = self._wait_for(tx, verdict.waits_for, due)
        if isinstance(verdict, Requeue) or tx.suspect:
            return self._to_line(tx, due)
        tx.state, tx.due, tx.until = "t", due, due + self.grace_us
        return Settled.RETRY

    def _wait_for(self, tx: Transaction, awaited: Awaited, due: int) -> int:
        """When it goes again: at once where the other one is so far, else it is woken."""
        other = self.txs.get(awaited.key)
        if other is None:
            return due
        if other.state in ENDED or other.step > awaited.step:
            return self.now
        other.waiters.add((tx.step, tx.flow, tx.key))
        other.awaited = min(other.awaited or awaited.step, awaited.step)
        return due

    def _wake(self, tx: Transaction) -> None:
        """Those that wait for it go now, if they still wait for that."""
        for step, flow, key in tx.waiters:
            waiter = self.txs[key]
            waits = waiter.state == "w" and not waiter.suspect and waiter.due is not None
            if waits and (waiter.step, waiter.flow) == (step, flow):
                waiter.due = min(waiter.due or 0, self.now)
        tx.waiters, tx.awaited = set(), None

    def _advance(self, tx: Transaction, verdict: Advance) -> Settled:
        """The step is done."""
        if tx.step < tx.steps and tx.awaited and tx.step >= tx.awaited:
            self._wake(tx)
        if verdict.values:
            tx.answers.append(verdict.values)
        if tx.steps > 1:
            tx.ids = [*tx.ids[: tx.step - 1], verdict.provider_id]
        if tx.step == tx.steps:
            return self._finish(tx, "succeeded")
        done = self.flows[tx.flow]
        tx.step, tx.part = tx.step + 1, 0
        tx.begin()
        if tx.backup is not None and self._doubt(tx, tx.backup):
            return Settled.END
        flow = self.flows[tx.flow]
        lanes = {self.flows[it.flow].lane for it in self.waiting()}
        later = {(lane, limit) for lane in lanes for limit in self._counted(flow)}
        ahead = any(lane <= flow.lane for lane in lanes)
        ahead = ahead or any(self.turns[it] >= MOST_BEFORE for it in later)
        held = self.health.scope_of(flow.scope)
        if tx.suspect or ahead or held or self.free(flow) < 1 or flow.pool != done.pool:
            return self._to_line(tx, self.now)
        self.turns.update(later)
        self._bell(tx)
        return Settled.RING

    def renew(self, grant: Grant) -> bool:
        """Prolong the lease of what is still at work."""
        tx = self.txs[grant.key]
        if tx.state != "s" or tx.fence != grant.fence:
            return False
        tx.until = self.now + self.local_lease_us
        return True

    def sweep(self) -> tuple[int, int, int]:
        """Take back what nobody answered, by the clock as it is now."""
        if (back := self.at - self.now) >= S:
            self._move(back)
            self.clock_set_back += back
        bells = leases = ended = 0
        overdue = [tx for tx in self.standing("r", "s", "t") if tx.until <= self.now]
        for tx in sorted(overdue, key=lambda tx: (tx.until, tx.key)):
            if tx.state != "s":
                bells += 1
                self._to_line(tx, self.now)
                continue
            leases += 1
            tx.sends += 1
            tx.swept = tx.fence, tx.unknown, tx.crashes, tx.memo
            hung = self.health.scope_of(self.flows[tx.flow].scope)  # no crash of the row
            tx.crashes, tx.unknown, tx.places, tx.probe = tx.crashes + (not hung), True, (), None
            outcome = "not_executed" if tx.guards[tx.step - 1] == "r" else "unknown"
            if tx.crashes >= self.max_crashes:
                why = f"its worker died or froze {tx.crashes} times"
            elif tx.guards[tx.step - 1] == "n":
                why = "sent, then its worker died or froze: not sent again without a guard"
            else:
                self._tell(tx, outcome, "", "its worker died or froze")
                if tx.guards[tx.step - 1] == "l" and not tx.looking:
                    tx.remember(LOOK_FIRST)
                self._to_line(tx, self.now)
                continue
            ended += 1
            self._tell(tx, outcome, "", why)
            tx.kept["e"] = why
            self._finish(tx, "unknown", why)
        return bells, leases, ended

    def requeue(self, key: str, step: int, pause_s: float, why: str, delay_s: float) -> None:
        """Put a bell that could not be answered back into its line."""
        tx = self.txs[key]
        if tx.state in {"r", "t"} and tx.step == step:
            scope = self.flows[tx.flow].scope
            held = self.health.scope_of(scope)
            probes = held and self.health.breakers[held].next <= self.now
            if delay_s:
                first = not (tx.attempts or tx.unknown)
                self.health.note(scope, key, "bad", why, first=first)
            if delay_s and held and probes:
                self.health.breakers[held].start(self.now)
                self.health.breakers[held].good = 0
            self._pause(tx, round(pause_s * 1e6), why, Reach.CLIENT)
            self._to_line(tx, self.now + round(delay_s * 1e6))

    def replay(self, key: str, *, not_executed: bool) -> Replayed:
        """Let a dead transaction wait again, as if it had not yet tried this step."""
        tx = self.txs[key]
        if tx.state not in DEAD:
            return Replayed.NOT_DEAD
        guard = tx.guards[tx.step - 1]
        doubt = tx.state == "unknown" or (guard == "l" and tx.attempts > 0)
        doubt = doubt and not not_executed
        if doubt and guard == "n":
            return Replayed.UNSURE
        self.dead = [it for it in self.dead if it[0] != key]
        self.jobs[tx.job].finished_us = None
        tx.attempts, tx.crashes, tx.unknown, tx.swept, tx.refused = 0, 0, doubt, None, None
        tx.counted, tx.first_bad, tx.waits_from = 0, None, None
        tx.backup = None if not_executed else tx.backup
        tx.first_generation = tx.generation
        tx.part = 0 if guard == "r" else tx.part  # a poll waits as long again
        tx.kept.pop("e", None)
        tx.remember(LOOK_FIRST if doubt and guard == "l" else Memo())
        self._to_line(tx, self.now)
        return Replayed.WAITS

    def recover(self, job: str, at: int, keys: Iterable[str], *, dry: bool) -> list[Recovered]:
        """Mark what may have been sent after the backup."""
        it = self.jobs[job]
        if not dry:
            it.since = at if it.since is None else min(at, it.since)
        return [self._recover(self.txs.get(key), at, dry=dry) for key in keys]

    def _recover(self, tx: Transaction | None, at: int, *, dry: bool) -> Recovered:
        if tx is None or tx.state in ENDED:
            return Recovered.ENDED
        if tx.backup == at:
            return Recovered.MARKED
        guard, flow, was = tx.guards[tx.step - 1], tx.flow, tx.state
        if was == "s":
            word = Recovered.LEASE
        elif guard == "n":
            word = Recovered.UNKNOWN
        else:
            word = Recovered.LOOK if guard == "l" or tx.looking else Recovered.SEND
        if dry:
            return word
        if word is Recovered.LEASE:
            tx.backup, tx.first_sent = at, min(tx.first_sent or at, at)
        elif not self._doubt(tx, at) and (was != "w" or flow != tx.flow):
            waited = was == "w" and tx.due is not None
            self._to_line(tx, tx.due if waited and tx.due is not None else self.now)
        return word

    def _doubt(self, tx: Transaction, at: int) -> bool:
        """The next call may have been sent since the backup; whether that ends it."""
        tx.backup, tx.unknown = at, True
        tx.first_sent = min(tx.first_sent or at, at)
        guard = tx.guards[tx.step - 1]
        if guard == "n":
            why = (
                "it may have been sent after the backup was made, and nothing guards a second send"
            )
            tx.kept["e"] = why
            self._finish(tx, "unknown", why)
            return True
        if guard == "l":
            tx.remember(LOOK_FIRST)
        return False

    # What they share.

    def _move(self, back: int) -> None:
        """Every moment moves along with a clock that was set back."""
        for bucket in self.buckets.values():
            bucket.at -= back
        self.held_until -= back
        self.opening = {job: till - back for job, till in self.opening.items()}
        self.workers = {name: (n, till - back) for name, (n, till) in self.workers.items()}
        self.owner, self.at = "", self.now
        self.health.move(back)
        self.refusals.forget()
        if self.refused:
            self.refused = self.refused[0], self.refused[1] - back
        self.told = {scope: (n, max(till - back, 0)) for scope, (n, till) in self.told.items()}
        for tx in self.standing("w", "r", "t", "s", *DEAD):  # the dead may be replayed
            if tx.state == "w" and tx.due is None:
                continue  # it was never out
            tx.until -= back
            tx.due = None if tx.due is None else tx.due - back
            tx.first_sent = None if tx.first_sent is None else tx.first_sent - back
            tx.first_bad = None if tx.first_bad is None else tx.first_bad - back
            tx.waits_from = None if tx.waits_from is None else tx.waits_from - back
            tx.last_heard -= back if tx.last_heard else 0

    def _look(self, flow: Flow) -> None:
        for limit in flow.limits:
            self.buckets[limit].look(self.now)

    def _take_back(self, tx: Transaction) -> bool:
        """An answer after its lease, before anybody else was granted the call, is recorded."""
        if tx.swept is None or tx.swept[0] != tx.fence or tx.state not in {"w", "r", "unknown"}:
            return False
        if tx.state == "unknown":
            self.dead = [it for it in self.dead if it[0] != tx.key]
            self.jobs[tx.job].finished_us = None
            tx.kept.pop("e", None)
        tx.state, tx.until, tx.sends = "s", self.now, tx.sends - 1
        _, tx.unknown, tx.crashes, memo = tx.swept
        tx.remember(memo)
        tx.swept = None
        return True

    def _tell_of(self, tx: Transaction, verdict: Verdict, *, dead: bool, late: bool) -> None:
        failed = verdict.outcome is Outcome.UNKNOWN or self._is_lost(tx, verdict) or dead
        error = ""
        if not isinstance(verdict, Advance):
            failed, error = failed or verdict.attempt, verdict.error
        if failed or tx.looking or tx.attempts or late:
            self._tell(tx, verdict.outcome.value, str(verdict.status or ""), error)

    def _is_lost(self, tx: Transaction, verdict: Verdict) -> bool:
        """What comes next may have been sent before the store came back, and nothing guards it."""
        match verdict:
            case Advance():
                following = tx.step + 1
            case Requeue(part_done=True):
                following = tx.step
            case Requeue(step_back=True):
                following = tx.step - 1
            case _:
                return False
        goes_on = tx.backup is not None and following <= tx.steps
        return goes_on and tx.guards[following - 1] == "n"

    def _tell(self, tx: Transaction, outcome: str, status: str, text: str) -> None:
        self.told_of.append((tx.key, tx.step, outcome, status, text))

    def _bell(self, tx: Transaction) -> None:
        tx.state, tx.until = "r", self.now + self.grace_us

    def _to_line(self, tx: Transaction, due: int) -> Settled:
        tx.state, tx.due = "w", due
        return Settled.BACKLOG

    def _hear(self, tx: Transaction, verdict: Verdict) -> None:
        """What an answer says of the quota: a pause, or how little is left of it."""
        pause, why, reach = None, "", Reach.SCOPE
        if not isinstance(verdict, Advance):
            pause, why = verdict.pause, verdict.error
            reach = pause.reach if pause else reach
        pause_us = round(pause.duration_s * 1e6) if pause else 0
        if verdict.quota:
            left, reset_us = verdict.quota.remaining, round(verdict.quota.reset_s * 1e6)
            self.told[self.flows[tx.flow].scope] = left, self.now + reset_us
            calls = [tx for tx in self.standing("s") if not self.flows[tx.flow].pool]
            if not pause_us and left <= len(calls) - 1:
                pause_us, why = reset_us, f"the provider leaves {left} calls until its reset"
        self._pause(tx, pause_us, why, reach)

    def _pause(self, tx: Transaction, pause_us: int, why: str, reach: Reach) -> None:
        if pause_us <= 0:
            return
        flow = self.flows[tx.flow]
        wide = reach is Reach.CLIENT
        other = self.refused and self.refused[0] != flow.scope
        if self.refused and other and self.now - self.refused[1] < S:
            wide = True
        self.refused = flow.scope, self.now
        held = "client" if wide else flow.scope
        if wide or flow.scope == "client":
            self._hold(self.now + pause_us, why)
        for limit in flow.limits:
            if wide or limit == flow.scope:
                bucket = self.buckets[limit]
                if limit == held and bucket.tokens(self.now) > Fraction(
                    -pause_us, bucket.interval_us
                ):
                    self.why[held] = why
                bucket.empty(self.now, pause_us)

    def _hold(self, until: int, why: str) -> None:
        """The reason is that of the hold that ends last."""
        if until > max(self.held_until, self.now):
            self.held_until, self.why["client"] = until, why

    def _told(self, tx: Transaction, verdict: Verdict) -> Memo:
        """The memo for the next call; a look-up that leads to no other one ends the doubt."""
        memo = Memo() if isinstance(verdict, Advance) else verdict.memo
        memo = tx.memo if memo is None else memo
        if verdict.outcome.value == "unknown":
            tx.unknown = True
        elif tx.looking and memo.next is not NextCall.LOOKUP:
            tx.unknown = False
        return memo

    def _count(self, seconds: dict[int, tuple[int, int]]) -> None:
        now = self.now // S
        second, count = seconds.get(now % 16, (0, 0))
        seconds[now % 16] = (now, count + 1 if second == now else 1)

    def _judge_refusal(
        self, tx: Transaction, verdict: Verdict, number: int
    ) -> tuple[Verdict, Settled]:
        """Whether a 429 is the row's own, and what it is then."""
        scope = self.flows[tx.flow].scope
        self.refusal_held_s = 0.0
        if not isinstance(verdict, Requeue) or not verdict.throttled:
            return verdict, Settled.BACKLOG
        before = tx.refused if self._was_refused(tx) else None
        held = bool(tx.probe or self.health.scope_of(scope))
        newest = max(self.number, self.now + self.clock_set_back)
        grant = (tx.key, number, newest)
        judged = self.refusals.judge(verdict, scope, before, grant, held=held)
        record = judged.record
        self.refusal, self.refusal_held_s = record, judged.held_s
        tx.refused = Own(tx.step, record.good, record.fresh, judged.times, scope)
        return judged.verdict, judged.settled

    def _keep_refusal(self, tx: Transaction, verdict: Verdict, number: int, *, ends: bool) -> None:
        """What a scope keeps of an answer."""
        scope, came_to = self.flows[tx.flow].scope, _came_to(verdict)
        if came_to == "good":
            self.refusals.good(scope, tx.key, number)
        elif came_to == "refused" and ends:
            self.refusals.end(scope, self.refusal)
        elif came_to == "refused":
            self.refusals.open[scope] = self.refusal
            others, _ = self.refusals.others_gone.get(scope, (0, 0))
            self.refusals.others_gone[scope] = others, self.now

    def _count_attempt(self, tx: Transaction, verdict: Verdict) -> tuple[Verdict, str | None]:
        """What an answer counts; returns the verdict, and the state in which it ends the step."""
        flow, came_to, weight = self.flows[tx.flow], _came_to(verdict), ATTEMPT
        if came_to in {"good", "bad"}:
            first = bool(_of_not_done(verdict, "is_first", otherwise=False))
            error = _of_not_done(verdict, "error", otherwise="")
            of_token = bool(_of_not_done(verdict, "of_token", otherwise=False))
            scope = TOKEN if of_token and came_to == "bad" else flow.scope
            noted = self.health.note(scope, tx.key, came_to, error, first=first)
            if came_to == "good" and not flow.pool:
                self.health.note(TOKEN, tx.key, came_to, error, first=False)
            weight = noted if came_to == "bad" else weight
        if isinstance(verdict, Advance):
            return verdict, None
        tx.counted += weight if verdict.attempt else 0
        if isinstance(verdict, Finish):
            return verdict, verdict.state
        if tx.first_bad is not None and tx.waits_from is not None:
            tx.first_bad += max(0, self.now - tx.waits_from - TURN_US)
        verdict, final = self._give_up(tx, verdict)
        waits_from = self.now + round(verdict.delay_s * 1e6)
        if _is_429(verdict) and verdict.give_up is None:
            waits_from = self.now - TURN_US  # for its scope
        elif _is_429(verdict) and verdict.retry_after_s * 1e6 > TURN_US:
            waits_from = self.now  # as the provider ordered
        tx.waits_from = None if tx.first_bad is None else waits_from
        return verdict, final

    def _give_up(self, tx: Transaction, verdict: Any) -> tuple[Any, str | None]:
        """Whether it ends here, and when it goes at the latest."""
        if not (rule := verdict.give_up):
            return verdict, None
        scopes = [self.flows[flow].scope for flow in tx.step_flows]
        tx.first_bad = self.now if tx.first_bad is None else tx.first_bad
        spent = rule.max_retries is not None and tx.counted > rule.max_retries * ATTEMPT
        late_us, left_s = self._patience_of(tx, verdict, rule)
        if not spent and late_us < rule.patience_s * 1e6 and verdict.delay_s <= left_s:
            return verdict, None
        tx.first_bad = max(tx.first_bad, *map(self.health.hold_ended, scopes))
        if any(map(self.health.scope_of, scopes)):
            return verdict, None
        late_us, left_s = self._patience_of(tx, verdict, rule)
        if spent or late_us >= rule.patience_s * 1e6:
            why = "" if spent else f"; so it went for {late_us / 1e6:.0f} s"
            return replace(verdict, error=verdict.error + why), rule.state
        if verdict.delay_s <= left_s:
            return verdict, None
        again = verdict.from_backlog() if isinstance(verdict, Retry) else verdict
        return replace(again, delay_s=left_s), None

    def _patience_of(self, tx: Transaction, verdict: Any, rule: GiveUp) -> tuple[int, float]:
        """How long a row goes on so, us, and how long it may wait at the most, seconds."""
        late_us, held_s = self.now - (tx.first_bad or self.now), self.refusal_held_s
        return late_us, max(rule.patience_s - late_us / 1e6, verdict.retry_after_s, held_s)

    def _break(self, tx: Transaction, verdict: Verdict) -> None:
        """What an answer says of the breakers."""
        came_to, flow = _came_to(verdict), self.flows[tx.flow]
        if tx.probe:
            self._end_probe(tx, tx.probe, verdict)
        elif came_to == "refused":
            self._turned_away()
        elif came_to == "unsent" and not flow.pool:
            self._count(self.unsent)

    def _turned_away(self) -> None:
        """More than 60 % of at least 20 calls of ten seconds open the breaker."""
        if "client" in self.health.breakers:
            return
        self._count(self.turned_away)
        newest = self.now // S
        grants, unsent, refusals = (
            sum(n for second, n in it.values() if newest - 10 < second <= newest)
            for it in (self.sent, self.unsent, self.turned_away)
        )
        calls = grants - unsent
        if calls >= 20 and Fraction(refusals, calls) > Fraction(60, 100):
            why = f"{refusals} of {calls} calls in 10 s were refused"
            self.health.open("client", "throttled", why)

    def _end_probe(self, tx: Transaction, scope: str, verdict: Verdict) -> None:
        error = _of_not_done(verdict, "error", otherwise="")
        retry_after_s = _of_not_done(verdict, "retry_after_s", otherwise=0.0)
        closed = self.health.end_probe(
            scope,
            tx.key,
            _came_to(verdict),
            why=error,
            retry_after_us=round(retry_after_s * 1e6),
        )
        if closed is None:
            return
        if closed.cause == "throttled":
            self.sent, self.unsent, self.turned_away = {}, {}, {}
        for limit in self.flows[tx.flow].limits:
            if limit == scope or (scope == "client" and not self.buckets[limit].route):
                self.buckets[limit].empty(self.now)

    def _finish(self, tx: Transaction, state: str, why: str = "") -> Settled:
        self._wake(tx)
        tx.state = state
        if state in DEAD:
            self.dead.append((tx.key, tx.job, state, why))
        self._look_for_end(tx.job)
        return Settled.END

    def _look_for_end(self, job: str) -> None:
        it = self.jobs[job]
        if it.finished_us is None and self.ended(job).total() == it.rows:
            it.finished_us = self.now

    # Everything that can be seen, in the words of `observe` in test_properties.py.

    def view(self) -> dict[str, Any]:
        """The whole state."""
        now, flows, suspects = self.now, self.flows, self.standing("w")
        out = self.standing("r", "t", "s")
        limits = ["client", *self.buckets, *self.places]
        bells = {it: self.bells(None if it == "client" else it) for it in limits}
        return {
            "transactions": {tx.key: fields_of(tx) for tx in self.txs.values()},
            "new": _lines((tx.flow, tx.key) for tx in self.waiting() if tx.due is None),
            "due": _lines(
                (tx.flow, (tx.key, tx.due))
                for tx in sorted(self.waiting(), key=lambda tx: (tx.due or 0, tx.key))
                if tx.due is not None
            ),
            "quarantine": {tx.key: tx.due for tx in suspects if tx.suspect},
            "quarantined": next((tx.key for tx in out if tx.suspect), None),
            "waiters": {tx.key: tx.waiters for tx in self.txs.values() if tx.waiters},
            "deadlines": {tx.key: tx.until for tx in out},
            "retries": {tx.key: tx.due for tx in self.standing("t")},
            "bells": {limit: n for limit, n in bells.items() if n},
            "taken": {limit: n for limit in self.places if (n := self.part_of(limit))},
            "refused": self.refused,
            "why": self.why,
            "told": self.told,
            "queued": Counter(flows[tx.flow].lane for tx in self.waiting()),
            "cells": {it: b.full_at for it, b in self.buckets.items() if b.full_at is not None},
            "held_us": max(self.held_until - now, 0),
            "number": self.number,
            "at": self.at,
            "workers": self.workers,
            "passes": self.passes,
            "virtual": self.virtual,
            "turns": {it: n for it, n in self.turns.items() if n},
            "needs_page": self.needs_page(),
            "opening": self.opening,
            "jobs": {name: self._counters(name) for name in self.jobs},
            "dead": self.dead,
            "rotations": self.rotations,
            "attempts": self.told_of,
            "seconds": dict(self.sent.values()),
            "unsent": dict(self.unsent.values()),
            "turned away": dict(self.turned_away.values()),
            "evidence": {scope: it.text for scope, it in self.health.evidence.items()}
            | {f"{REFUSED}{scope}": it.text for scope, it in self.refusals.open.items()},
            "healthy": self.health.healthy
            | {f"{REFUSED}{scope}": it.counts for scope, it in self.refusals.over.items()},
            "breakers": {scope: vars(it) for scope, it in self.health.breakers.items()},
            "opened": self.health.opened,
            "holds ended": self.health.ended,
            "others gone": self.refusals.others_gone,
        }

    def _counters(self, name: str) -> dict[str, int | None]:
        job, ended = self.jobs[name], self.ended(name)
        mine = [tx for tx in self.txs.values() if tx.job == name]
        return {
            **{state: ended[state] for state in FINAL},
            "ended": ended.total(),
            "rows": job.rows,
            "pages": job.pages,
            "next_page": job.opened,
            "released": len(mine),
            "finished_tx": len(mine) - self._unfinished(name),
            "throttled": job.throttled,
            "finished_us": job.finished_us,
        }


def _was_sent(verdict: Verdict) -> bool:
    """Something went out, whatever became of it."""
    if isinstance(verdict, Advance) or verdict.outcome is Outcome.UNKNOWN:
        return True
    return verdict.attempt or verdict.status is not None


def _is_429(verdict: Verdict) -> bool:
    return isinstance(verdict, Requeue) and verdict.throttled


def _of_not_done(verdict: Verdict, name: str, *, otherwise: Any) -> Any:
    """A field of a verdict that an `Advance` has not."""
    return otherwise if isinstance(verdict, Advance) else getattr(verdict, name)


def _came_to(verdict: Verdict) -> CameTo:
    if _is_429(verdict):
        return "refused"
    if verdict.health is not Answered.GOOD:
        return "bad" if verdict.health is Answered.BAD else "neutral"
    if verdict.status is not None or isinstance(verdict, Advance):
        return "good"
    return "unsent" if verdict.outcome is Outcome.NOT_EXECUTED else "neutral"


def _by_due(txs: Iterable[Transaction], now: int) -> list[Transaction]:
    due = [(tx.due, tx.key, tx) for tx in txs if tx.due is not None and tx.due <= now]
    return [tx for *_, tx in sorted(due, key=lambda it: it[:2])]


def _lines(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    lines: dict[str, list[Any]] = {}
    for flow, it in pairs:
        lines.setdefault(flow, []).append(it)
    return lines
