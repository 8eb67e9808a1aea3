"""What a client's governor does just now. It is read in one consistent look; nothing is written."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from orchestration.text import format_count
from orchestration.views import backlog as views_backlog
from orchestration.views.holds import Hold, holds, provider_leaves
from orchestration.views.progress import all_jobs, iso
from orchestration.views.refusals import RefusedRoute, by_route, suggestions
from orchestration.views.workers import workers_of
from workers.clock import format_clock
from workers.governor import flows, refusals
from workers.governor.failures import Failure, failures
from workers.governor.state import GovernorState
from workers.settings.limits import bucket_of, other_versions, tenant_bucket
from workers.store.connection import to_us
from workers.store.reading import number_of

if TYPE_CHECKING:
    from orchestration.views.backlog import TenantBacklog
    from orchestration.views.workers import Roster, Workers
    from workers.clients import Client
    from workers.settings.client import ClientSettings
    from workers.settings.limits import Bucket, LimitSettings

#: Calls per second are counted over so many whole seconds.
USE_S: Final = 10
#: Refusals are shown, and suggest something, for so long.
REFUSALS_S: Final = 3600
#: The part of the threads that must be taken before they count as what binds.
BUSY: Final = 0.8
#: Times as many threads as the measured calls need, so that the quota binds again.
SPARE_THREADS: Final = 1.1
#: Transactions in quarantine that are looked at one by one.
MOST_QUARANTINED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStatus:
    """One limit and its bucket."""

    name: str  #: a tenant's own is TENANT/NAME
    count: int  #: what the provider allows
    window_s: float
    shape: str
    match: str
    rate_per_s: float | None  #: what the governor lets through; None: only so many at once
    burst: int
    tokens: int | None  #: in the bucket now, or free places; None: not in use, will start empty
    use: float | None  #: calls of late as part of the rate; None: not every call is charged to it
    also: list[str] = field(default_factory=list)  #: what other configurations in use say of it


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaStatus:
    """Transfers of files: they have threads of their own, and no limit holds them."""

    waiting: int  #: transactions whose next step is a transfer, those in quarantine included
    out: int  #: rung or under way
    workers: int  #: for media, that live
    threads: int  #: of these workers

    @property
    def advice(self) -> str | None:
        """What is missing; None: nothing."""
        if not self.waiting or self.workers:
            return None
        wait = (
            f"{format_count(self.waiting, 'transfer')} {'waits' if self.waiting == 1 else 'wait'}"
        )
        return f"{wait} and no media worker runs; start one with `headgate worker --for media`"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReclaimedStatus:
    """Calls that were sent before the store went back, and whose answers are waited for."""

    calls: int
    until_us: int  #: when the last of them is given up, if no answer comes
    now_us: int

    @property
    def sentence(self) -> str:
        """What people are told, with times of this host."""
        calls = f"{format_count(self.calls, 'call')} {'is' if self.calls == 1 else 'are'}"
        until = format_clock(self.until_us, self.now_us)
        return (
            f"{calls} waited for that a worker sent before the store went back, until {until} at "
            f"the latest; what has no answer by then goes on as its guard says"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatus:
    """One client; all counts are transactions unless they say otherwise."""

    client: str
    limits: list[LimitStatus]
    binds: str | None  #: the limit for which the backlog waits; None: none is short
    calls_per_s: float  #: granted, over the last `USE_S` seconds
    holds: list[Hold]  #: that are not over, the longest first
    failures: list[Failure]  #: what fails just now, what has failed the longest first
    provider_leaves: dict[str, int]  #: calls by the provider's headers, by limit or route
    refused: list[RefusedRoute]  #: over the last `REFUSALS_S` seconds
    suggestions: list[str]  #: what these refusals say about the limits, one sentence each
    bells_out: int  #: rung and not yet answered; transfers count in `media`
    in_flight: int  #: sent and not yet settled
    reclaimed: ReclaimedStatus | None  #: of those in flight, what the store had forgotten
    retries: int  #: in their backoff
    quarantine: int  #: a worker died under them; they go one at a time
    waiting: dict[str, int]  #: in the backlog, by lane
    backlog: list[TenantBacklog]  #: the same by lane and tenant, the longest of each lane first
    open_jobs: int
    open_rows: int  #: rows of these jobs that have not ended, those in the backlog included
    dead_letters: int
    workers: int  #: for calls, that live and know the client
    threads: int  #: of these workers
    media: MediaStatus
    hindered: int = 0  #: workers that something keeps from its calls, see `problems`
    problems: list[str] = field(default_factory=list)
    """With the worker processes and their configurations, one sentence each."""

    @property
    def advice(self) -> str | None:
        """What holds this client back although its quota does not; None: nothing."""
        if self.media.advice or not self.open_rows or self.holds or self.failures:
            return self.media.advice
        if not self.workers:
            nobody = "no worker is alive; start one with `headgate worker`"
            return "no worker can make its calls; see the problem" if self.hindered else nobody
        # A limit to which no call is charged now holds nothing back, unless it is for every call.
        used = [one for one in self.limits if one.tokens is not None or one.use is not None]
        full = all((one.tokens or 0) >= one.burst / 2 for one in used)
        rates = [one.rate_per_s for one in self.limits if one.rate_per_s and one.use is not None]
        if not (rates and full and sum(self.waiting.values()) and self.calls_per_s):
            return None
        now = f"{self.threads} threads make {self.calls_per_s:.1f} calls/s"
        if self.in_flight >= BUSY * self.threads:
            rate = min(rates)
            threads = math.ceil(self.threads * rate / self.calls_per_s * SPARE_THREADS)
            return f"the threads bind, not the quota: {now}, about {threads} would make {rate:.0f}"
        if self.bells_out + self.in_flight >= BUSY * self.threads:
            return (
                f"the workers bind, not the quota: {now} and most are not in a call; they are "
                f"short of processor time, so start workers on more cores"
            )
        return None

    def as_dict(self) -> dict[str, Any]:
        """The status as programs get it: times in ISO 8601."""
        values = asdict(self)
        for hold in values["holds"]:
            hold["until"] = iso(hold.pop("until_us"))
        for failure in values["failures"]:
            failure.pop("seen_us")
            probe_us = failure.pop("probe_us")
            failure["since"] = iso(failure.pop("since_us"))
            failure["next_probe"] = None if probe_us is None else iso(probe_us)
        if reclaimed := values["reclaimed"]:
            reclaimed.pop("now_us")
            reclaimed["until"] = iso(reclaimed.pop("until_us"))
        for route in values["refused"]:
            route["last"] = iso(route.pop("last_us"))
        return {**values, "advice": self.advice}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What the store says of a client at one moment."""

    state: GovernorState
    out: int  #: transactions that are rung, in a countdown or sent
    retries: int
    quarantine: int
    dead: int
    waits: dict[str, int]  #: flow → transactions that wait in it
    definitions: dict[str, str | None]  #: flow → its definition


def status(client: Client, roster: Roster | None = None) -> ClientStatus:
    """The client as it stands now.

    Args:
        client: The client.
        roster: As of `workers_of`.

    Raises:
        ConfigError: one of its limits cannot be kept.
        StoreAway: the store gives no answer.
    """
    look = _look(client)
    state, keys, store = look.state, client.keys, client.store
    calls_per_s = _calls_per_s(state)
    workers = workers_of(client, roster)
    threads = workers.threads(flows.CALLS_POOL)
    of_pools = {pool: state.out_of_pool(pool) for pool in flows.POOLS}
    in_calls = look.out - look.retries - state.bells_out() - sum(of_pools.values())
    spans = flows.spans(store, keys)
    held = holds(state, spans)
    backlog = views_backlog.by_tenant(look.waits)
    definitions = filter(None, look.definitions.values())
    seen = refusals.read(store, keys, state.now_us // 1_000_000 - REFUSALS_S)
    open_jobs = [job for job in all_jobs(client) if job.state != "finished"]
    return ClientStatus(
        client=client.name,
        limits=_limits(client.settings(), state, calls_per_s),
        binds=views_backlog.binding(definitions, client.settings(), state),
        calls_per_s=calls_per_s,
        holds=held,
        failures=failures(store, keys, state, spans),
        provider_leaves=provider_leaves(state, spans),
        refused=by_route(seen, state.now_us),
        suggestions=suggestions(seen, client.settings().limits),
        bells_out=state.bells_out(),
        in_flight=max(0, in_calls),
        reclaimed=_reclaimed(client, state.now_us),
        retries=look.retries,
        quarantine=look.quarantine,
        waiting=views_backlog.by_lane(backlog),
        backlog=backlog,
        open_jobs=len(open_jobs),
        open_rows=sum(job.rows - job.ended for job in open_jobs),
        dead_letters=look.dead,
        workers=len(threads),
        threads=sum(threads),
        media=_media(client, look, workers),
        hindered=workers.hindered,
        problems=workers.problems,
    )


def _look(client: Client) -> _Look:
    keys, store = client.keys, client.store
    active: list[str] = sorted(store.smembers(keys.active))  # type: ignore[arg-type]
    pipe = store.pipeline()  # MULTI: the counts are of one moment
    pipe.time()
    pipe.hgetall(keys.governor)
    pipe.zcard(keys.deadlines)
    pipe.zcard(keys.retries)
    pipe.zcard(keys.quarantine)
    pipe.xlen(keys.dead)
    for flow in active:
        pipe.llen(keys.backlog(flow))
        pipe.zcard(keys.backlog(flow) + ":due")
    now, stored, out, retries, quarantine, dead, *lengths = pipe.execute()
    waits = {
        flow: new + due
        for flow, new, due in zip(active, lengths[::2], lengths[1::2], strict=True)
        if new + due
    }
    definitions: list[str | None] = store.hmget(keys.flows, list(waits)) if waits else []  # type: ignore[assignment]
    return _Look(
        state=GovernorState(stored, to_us(now)),
        out=out,
        retries=retries,
        quarantine=quarantine,
        dead=dead,
        waits=waits,
        definitions=dict(zip(waits, definitions, strict=True)),
    )


def _calls_per_s(state: GovernorState) -> float:
    """Calls that were granted per second, over the newest whole seconds."""
    grants, now_s = state.grants_by_second(), state.now_us // 1_000_000
    return sum(grants.get(now_s - ago, 0) for ago in range(1, USE_S + 1)) / USE_S


def _reclaimed(client: Client, now_us: int) -> ReclaimedStatus | None:
    """What is out since before the store went back; another grant has another deadline."""
    store, keys = client.store, client.keys
    known: Any = store.zrange(keys.reclaimed, 0, -1, withscores=True)
    if not known:
        return None
    deadlines: Any = store.zmscore(keys.deadlines, [key for key, _ in known])
    untils = [
        number_of(until_us)
        for (_, until_us), deadline_us in zip(known, deadlines, strict=True)
        if until_us == deadline_us
    ]
    if not untils:
        return None
    return ReclaimedStatus(calls=len(untils), until_us=max(untils), now_us=now_us)


def _media(client: Client, look: _Look, workers: Workers) -> MediaStatus:
    threads = workers.threads(flows.MEDIA_POOL)
    waiting = sum(
        look.waits[flow]
        for flow, definition in look.definitions.items()
        if definition and flows.is_whole(definition) and flows.read(definition).pool == "media"
    )
    return MediaStatus(
        waiting=waiting + _quarantined_transfers(client),
        out=look.state.out_of_pool("media"),
        workers=len(threads),
        threads=sum(threads),
    )


def _quarantined_transfers(client: Client) -> int:
    """How many in quarantine wait for a transfer; of very many the first `MOST_QUARANTINED`."""
    keys: list[str] = client.store.zrange(client.keys.quarantine, 0, MOST_QUARANTINED - 1)  # type: ignore[assignment]
    ending = flows.of_pool(0, flows.NO_TENANT, "media").id.rpartition(":")[2]
    transactions = client.ledger.transactions(keys) if keys else []
    return sum(one.flow.endswith(f":{ending}") for one in transactions if one)


def _limits(client: ClientSettings, state: GovernorState, calls_per_s: float) -> list[LimitStatus]:
    """The client's limits, and its tenants' own."""
    shared = [
        _limit(limit, bucket_of(limit), state, calls_per_s if limit.match == "* *" else None)
        for limit in client.limits
    ]
    own = [
        _limit(limit, tenant_bucket(name, limit), state, None)
        for name, tenant in client.tenants.items()
        for limit in tenant.limits
    ]
    return shared + own


def _limit(
    limit: LimitSettings, bucket: Bucket, state: GovernorState, calls_per_s: float | None
) -> LimitStatus:
    use = calls_per_s / bucket.rate if bucket.rate and calls_per_s is not None else None
    return LimitStatus(
        name=bucket.name,
        count=limit.count,
        window_s=limit.window_s,
        shape=limit.shape,
        match=limit.match,
        rate_per_s=bucket.rate and round(bucket.rate, 3),
        burst=bucket.burst,
        tokens=state.tokens_left(bucket),
        use=None if use is None else round(use, 4),
        also=other_versions(limit),
    )
