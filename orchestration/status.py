"""What a client's governor does just now: read in one consistent look, nothing is written."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from orchestration.progress import all_jobs, iso
from workers import flows
from workers.flows import LANES
from workers.limits import cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.clients import Client
    from workers.limit_settings import LimitSettings
    from workers.limits import Cell

#: Calls per second are counted over so many whole seconds.
USE_S = 10
#: When nobody has rung for so long, buckets start empty at the next ring.
SILENT_US = 500_000
#: A cell with a lead is charged so far ahead of its tokens; that is no hold.
AHEAD_US = 150_000
#: Part of the threads that must be taken before they are what binds.
BUSY = 0.8
#: Threads beyond what the measured calls need, so that the quota binds again.
SPARE_THREADS = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStatus:
    """One limit and its bucket."""

    name: str
    count: int  #: what the provider allows
    window_s: float
    shape: str
    match: str
    rate_per_s: float | None  #: what the governor lets through; None: only so many at once
    burst: int
    tokens: int | None  #: in the bucket now; None: not in use, it will start empty
    use: float | None  #: calls of late as part of the rate; None: not every call is charged to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why nothing may leave for a scope, and until when."""

    scope: str  #: "client", the name of a limit, or a route: method and path
    until_us: int
    left_s: float
    why: str  #: one sentence, "" = not known


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatus:
    """One client; all counts are transactions unless they say otherwise."""

    client: str
    limits: list[LimitStatus]
    calls_per_s: float  #: granted, over the last `USE_S` seconds
    holds: list[Hold]  #: that are not over, the longest first
    told: dict[str, int]  #: calls that the provider's headers leave, by limit or route
    bells_out: int  #: rung and not yet answered
    in_flight: int  #: sent and not yet settled
    retries: int  #: in their backoff
    suspects: int  #: a worker died under them; they go one at a time
    waiting: dict[str, int]  #: in the line, by lane
    open_jobs: int
    open_rows: int  #: rows of these jobs that have not ended, the line included
    dead_letters: int
    workers: int  #: that rang within the last seconds
    threads: int  #: of these workers

    @property
    def advice(self) -> str | None:
        """What holds this client back although its quota does not; None: nothing."""
        if not self.open_rows or self.holds:
            return None
        if not self.workers:
            return "no worker is alive; start one with `headgate worker`"
        full = all((it.tokens or 0) >= it.burst / 2 for it in self.limits)
        rates = [it.rate_per_s for it in self.limits if it.rate_per_s]
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
        return {**values, "advice": self.advice}


def status(client: Client) -> ClientStatus:
    """The client as it stands now.

    Raises:
        ConfigError: one of its limits cannot be kept.
        StoreAway: the store gives no answer.
    """
    keys = client.keys
    pipe = client.store.pipeline()  # MULTI: the counts are of one moment
    pipe.time()
    pipe.hgetall(keys.governor)
    pipe.zcard(keys.touch)
    pipe.zcard(keys.retries)
    pipe.zcard(keys.suspects)
    pipe.xlen(keys.dead)
    (seconds, us), gov, out, retries, suspects, dead = pipe.execute()
    now_us = seconds * 1_000_000 + us
    bells = _number(gov, "b:client")
    grants = grants_by_second(gov)
    calls_per_s = sum(grants.get(seconds - ago, 0) for ago in range(1, USE_S + 1)) / USE_S
    threads = live_threads(gov, now_us)
    spans = flows.spans(client.store, keys)
    open_jobs = [it for it in all_jobs(client) if it.state != "finished"]
    return ClientStatus(
        client=client.name,
        limits=[_limit(it, gov, now_us, calls_per_s) for it in client.settings.limits],
        calls_per_s=calls_per_s,
        holds=_holds(gov, spans, now_us),
        told=_told(gov, spans, now_us),
        bells_out=bells,
        in_flight=max(0, out - retries - bells),
        retries=retries,
        suspects=suspects,
        waiting={lane: _number(gov, f"q:{number}") for number, lane in enumerate(LANES)},
        open_jobs=len(open_jobs),
        open_rows=sum(it.rows - it.ended for it in open_jobs),
        dead_letters=dead,
        workers=len(threads),
        threads=sum(threads.values()),
    )


def _holds(gov: Mapping[str, str], spans: Mapping[str, tuple[str, int]], now_us: int) -> list[Hold]:
    """The cells that were moved beyond their empty state: no token until a moment to come.

    What ends with the client's own hold is one with it.
    """
    found = []
    for name, (scope, span_us) in spans.items():
        until_us = _number(gov, f"c:{name}") - span_us
        if until_us > now_us + AHEAD_US:
            left_s = (until_us - now_us) / 1e6
            why = gov.get(f"y:{name}", "")
            found.append(Hold(scope=scope, until_us=until_us, left_s=left_s, why=why))
    client_us = max((it.until_us for it in found if it.scope == "client"), default=0)
    shown = [it for it in found if it.scope == "client" or it.until_us > client_us]
    return sorted(shown, key=lambda it: -it.until_us)


def _told(
    gov: Mapping[str, str], spans: Mapping[str, tuple[str, int]], now_us: int
) -> dict[str, int]:
    """Calls that the provider's headers leave, by what they were told of, until their reset."""
    told = {}
    for name, (scope, _) in spans.items():
        left, _, reset_us = gov.get(f"z:{name}", "0 0").partition(" ")
        if int(reset_us) > now_us:
            told[scope] = int(left)
    return told


def live_threads(gov: Mapping[str, str], now_us: int) -> dict[str, int]:
    """The threads of each worker that rang of late, by its name."""
    live = {}
    for field, value in gov.items():
        if field.startswith("w:"):
            threads, _, till_us = value.partition(" ")
            if int(till_us) > now_us:
                live[field.removeprefix("w:")] = int(threads)
    return live


def grants_by_second(gov: Mapping[str, str]) -> dict[int, int]:
    """How many calls were granted in each of the newest seconds that saw any, at most 16."""
    counts = (value.split() for field, value in gov.items() if field.startswith("n:"))
    return {int(second): int(count) for second, count in counts}


def _limit(
    limit: LimitSettings, gov: Mapping[str, str], now_us: int, calls_per_s: float
) -> LimitStatus:
    it = cell(limit)
    return LimitStatus(
        name=limit.name,
        count=limit.count,
        window_s=limit.window_s,
        shape=limit.shape,
        match=limit.match,
        rate_per_s=it.rate and round(it.rate, 3),
        burst=it.burst,
        tokens=_tokens(it, gov, now_us),
        use=round(calls_per_s / it.rate, 4) if it.rate and limit.match == "* *" else None,
    )


def _tokens(it: Cell, gov: Mapping[str, str], now_us: int) -> int | None:
    if it.rate is None:
        return it.burst - _number(gov, f"l:{it.name}")
    if f"c:{it.name}" not in gov or now_us - _number(gov, "beat") > SILENT_US:
        return None
    short_us = max(0, _number(gov, f"c:{it.name}") - now_us)
    return max(0, (it.interval_us * it.burst - short_us) // it.interval_us)


def _number(gov: Mapping[str, str], field: str) -> int:
    return int(float(gov.get(field, 0)))
