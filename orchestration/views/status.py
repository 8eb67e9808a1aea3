"""What a client's governor does just now: read in one consistent look, nothing is written."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestration.text import counted
from orchestration.views import backlog
from orchestration.views.holds import Hold, half_open, holds, told
from orchestration.views.progress import all_jobs, iso
from orchestration.views.refused import RefusedRoute, by_route
from orchestration.views.suggestions import suggestions
from workers.governor import flows, refusals
from workers.governor.state import live_threads, number, out_of_pool, tokens_left
from workers.settings.limits import bucket, tenant_bucket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestration.views.backlog import Line
    from workers.clients import Client
    from workers.settings.client import ClientSettings
    from workers.settings.limits import Bucket, LimitSettings

#: A second's counter in the store is the second times this, plus how many.
SECOND = 100_000
#: Calls per second are counted over so many whole seconds.
USE_S = 10
#: Refusals are shown, and suggest something, for so long.
REFUSALS_S = 3600
#: Part of the threads that must be taken before they are what binds.
BUSY = 0.8
#: Threads beyond what the measured calls need, so that the quota binds again.
SPARE_THREADS = 1.1


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


#: Suspects that are looked at one by one.
MOST_SUSPECTS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaStatus:
    """Transfers of files: threads of their own do them, and no limit holds them."""

    waiting: int  #: transactions whose next step is a transfer, suspects included
    out: int  #: rung or under way
    workers: int  #: for media, that rang within the last seconds
    threads: int  #: of these workers

    @property
    def advice(self) -> str | None:
        """What is missing; None: nothing."""
        if not self.waiting or self.workers:
            return None
        wait = f"{counted(self.waiting, 'transfer')} {'waits' if self.waiting == 1 else 'wait'}"
        return f"{wait} and no media worker runs; start one with `headgate worker --for media`"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatus:
    """One client; all counts are transactions unless they say otherwise."""

    client: str
    limits: list[LimitStatus]
    binds: str | None  #: the limit that what waits is waiting for; None: none is short
    calls_per_s: float  #: granted, over the last `USE_S` seconds
    holds: list[Hold]  #: that are not over, the longest first
    half_open: bool  #: its breaker lets one call at a time through
    told: dict[str, int]  #: calls that the provider's headers leave, by limit or route
    refused: list[RefusedRoute]  #: over the last `REFUSALS_S` seconds
    suggestions: list[str]  #: what these refusals say about the limits, one sentence each
    bells_out: int  #: rung and not yet answered; transfers count in `media`
    in_flight: int  #: sent and not yet settled
    retries: int  #: in their backoff
    suspects: int  #: a worker died under them; they go one at a time
    waiting: dict[str, int]  #: in the line, by lane
    lines: list[Line]  #: the same by lane and tenant, the longest of each lane first
    open_jobs: int
    open_rows: int  #: rows of these jobs that have not ended, the line included
    dead_letters: int
    workers: int  #: for calls, that rang within the last seconds
    threads: int  #: of these workers
    media: MediaStatus

    @property
    def advice(self) -> str | None:
        """What holds this client back although its quota does not; None: nothing."""
        if self.media.advice or not self.open_rows or self.holds:
            return self.media.advice
        if not self.workers:
            return "no worker is alive; start one with `headgate worker`"
        # What no call is charged to now holds nothing back, unless it is for every call.
        asked = [it for it in self.limits if it.tokens is not None or it.use is not None]
        full = all((it.tokens or 0) >= it.burst / 2 for it in asked)
        rates = [it.rate_per_s for it in self.limits if it.rate_per_s and it.use is not None]
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
        """As programs get it: times in ISO 8601."""
        values = asdict(self)
        for hold in values["holds"]:
            hold["until"] = iso(hold.pop("until_us"))
        for route in values["refused"]:
            route["last"] = iso(route.pop("last_us"))
        return {**values, "advice": self.advice}


def status(client: Client) -> ClientStatus:
    """The client as it stands now.

    Raises:
        ConfigError: one of its limits cannot be kept.
        StoreAway: the store gives no answer.
    """
    keys, store = client.keys, client.store
    active: list[str] = sorted(store.smembers(keys.active))  # type: ignore[arg-type]
    pipe = store.pipeline()  # MULTI: the counts are of one moment
    pipe.time()
    pipe.hgetall(keys.governor)
    pipe.zcard(keys.touch)
    pipe.zcard(keys.retries)
    pipe.zcard(keys.suspects)
    pipe.xlen(keys.dead)
    for flow in active:
        pipe.llen(keys.line(flow))
        pipe.zcard(keys.line(flow) + ":due")
    (seconds, us), gov, out, retries, suspects, dead, *lengths = pipe.execute()
    now_us = seconds * 1_000_000 + us
    bells = number(gov, "b:client")
    grants = grants_by_second(gov)
    calls_per_s = sum(grants.get(seconds - ago, 0) for ago in range(1, USE_S + 1)) / USE_S
    threads, of_media = (live_threads(gov, now_us, pool) for pool in flows.POOLS)
    no_calls = {pool: sum(out_of_pool(gov, pool)) for pool in flows.POOLS}
    spans = flows.spans(store, keys)
    held = holds(gov, spans, now_us)
    waits = {
        flow: new + due
        for flow, new, due in zip(active, lengths[::2], lengths[1::2], strict=True)
        if new + due
    }
    who = backlog.by_tenant(waits)
    definitions: list[str] = store.hmget(keys.flows, list(waits)) if waits else []  # type: ignore[assignment]
    seen = refusals.read(store, keys, seconds - REFUSALS_S)
    open_jobs = [it for it in all_jobs(client) if it.state != "finished"]
    return ClientStatus(
        client=client.name,
        limits=_limits(client.settings(), gov, now_us, calls_per_s),
        binds=backlog.binding(filter(None, definitions), client.settings(), gov, now_us),
        calls_per_s=calls_per_s,
        holds=held,
        half_open=half_open(gov, held),
        told=told(gov, spans, now_us),
        refused=by_route(seen, now_us),
        suggestions=suggestions(seen, client.settings().limits),
        bells_out=bells,
        in_flight=max(0, out - retries - bells - sum(no_calls.values())),
        retries=retries,
        suspects=suspects,
        waiting=backlog.by_lane(who),
        lines=who,
        open_jobs=len(open_jobs),
        open_rows=sum(it.rows - it.ended for it in open_jobs),
        dead_letters=dead,
        workers=len(threads),
        threads=sum(threads.values()),
        media=MediaStatus(
            waiting=_suspect_transfers(client)
            + sum(
                count
                for count, it in zip(waits.values(), definitions, strict=True)
                if it and flows.read(it).pool == "media"
            ),
            out=no_calls["media"],
            workers=len(of_media),
            threads=sum(of_media.values()),
        ),
    )


def _suspect_transfers(client: Client) -> int:
    """How many of the suspects wait for a transfer; of very many the first `MOST_SUSPECTS`."""
    keys, store = client.keys, client.store
    suspects: list[str] = store.zrange(keys.suspects, 0, MOST_SUSPECTS - 1)  # type: ignore[assignment]
    pipe = store.pipeline(transaction=False)
    for key in suspects:
        pipe.hmget(keys.transaction(key), "fl", "k")
    ending = flows.of_pool(0, flows.NO_TENANT, "media").id.rpartition(":")[2]
    count = 0
    for its, step in pipe.execute():
        steps = (its or "").split(",")
        flow = steps[min(int(step or 1), len(steps)) - 1]
        count += flow.partition(">")[0].endswith(f":{ending}")
    return count


def grants_by_second(gov: Mapping[str, str]) -> dict[int, int]:
    """How many calls were granted in each of the newest seconds that saw any, at most 16."""
    counts = (int(value) for field, value in gov.items() if field.startswith("n:"))
    return {count // SECOND: count % SECOND for count in counts}


def _limits(
    client: ClientSettings, gov: Mapping[str, str], now_us: int, calls_per_s: float
) -> list[LimitStatus]:
    """The client's limits, and its tenants' own."""
    shared = [
        _limit(it, bucket(it), gov, now_us, calls_per_s if it.match == "* *" else None)
        for it in client.limits
    ]
    own = [
        _limit(it, tenant_bucket(tenant, it), gov, now_us, None)
        for tenant, settings in client.tenants.items()
        for it in settings.limits
    ]
    return shared + own


def _limit(
    limit: LimitSettings, it: Bucket, gov: Mapping[str, str], now_us: int, calls_per_s: float | None
) -> LimitStatus:
    return LimitStatus(
        name=it.name,
        count=limit.count,
        window_s=limit.window_s,
        shape=limit.shape,
        match=limit.match,
        rate_per_s=it.rate and round(it.rate, 3),
        burst=it.burst,
        tokens=tokens_left(it, gov, now_us),
        use=round(calls_per_s / it.rate, 4) if it.rate and calls_per_s is not None else None,
    )
