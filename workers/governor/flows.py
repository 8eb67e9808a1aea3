"""Flows: the transactions of one client, lane, tenant, route and set of limits wait together."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from workers.errors import InputError, LedgerDamaged
from workers.governor import overrides
from workers.governor.state import bells_field, bucket_field
from workers.settings.limits import bucket_of, matching, tenant_bucket
from workers.store.reading import read_json
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workers.governor.overrides import Agreement, Change, Overrides
    from workers.settings.client import ClientSettings
    from workers.settings.limits import Bucket
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: Who goes first when the quota is scarce, first to last.
LANES: Final = ("urgent", "normal", "bulk")
URGENT: Final = LANES.index("urgent")
#: Every call of a client passes this bucket, which holds calls back only while it is paused.
CLIENT_BUCKET: Final = ("client", 0, 0, 0, 10**9, 0)
#: Whose threads do a step: those of worker processes for API calls, or for transfers of files. Each
#: pool has a queue of its own, see `workers.broker.names`.
CALLS_POOL: Final = "calls"
MEDIA_POOL: Final = "media"
POOLS: Final = (CALLS_POOL, MEDIA_POOL)
#: The places that a local step takes: as many as its pool has threads, which ring knows.
ANY_PLACES: Final = 1_000_000
#: A tenant of weight w advances its pass by STRIDE / w for each call.
STRIDE: Final = 1_000_000
#: The tenant of rows that name none.
NO_TENANT: Final = "-"
#: Routes by which a client is paused, each for itself; further ones share one for each method.
MOST_ROUTES: Final = 64

#: What is wrong with a definition.
_UNREADABLE: Final = "the definition of a flow cannot be read; headgate doctor looks at it"

#: A segment of a path that is a word of the API, and not an id or a name of somebody.
_WORD = re.compile(r"v\d+(\.\d+)?|[A-Za-z][A-Za-z_-]{0,31}")


def lane_of(text: str) -> int:
    """Read the lane of a word or a priority: urgent or 0-2, normal or 3-6, bulk or 7-9.

    Raises:
        InputError: it is neither.
    """
    if text in LANES:
        return LANES.index(text)
    if text.isascii() and text.isdigit() and len(text) == 1:
        return (int(text) > 2) + (int(text) > 6)  # noqa: PLR2004 -- the ranges above
    raise InputError(f"lane {text!r} is unknown; use urgent, normal, bulk or a number from 0 to 9")


def route_class(route: str) -> str:
    """Leave out query and ids, for pauses are kept by the rest: "POST /a/7" → "POST /a/*"."""
    method, _, path = route.partition("?")[0].partition(" ")
    words = (word if not word or _WORD.fullmatch(word) else "*" for word in path.split("/"))
    return f"{method} {'/'.join(words)}"


@dataclass(frozen=True, slots=True)
class Flow:
    """Who waits together. Its limits are looked up by name, so that they can change live."""

    lane: int
    tenant: str
    names: tuple[str, ...]  #: the client's limits that its calls matched when they were released
    route: str  #: see `route_class`
    capped: bool = False  #: its tenant has limits of its own
    pool: str = ""  #: of a local step: whose threads do it; "" = a call

    @property
    def id(self) -> str:
        """Its name in the ledger: short, and with lane and tenant, by which `ring` chooses.

        Flows of equal ending are charged to the same limits.
        """
        if self.pool:
            return f"{self.lane}:{self.tenant}:{_digest(f'pool:{self.pool}')}"
        own = self.tenant if self.capped else ""
        return f"{self.lane}:{self.tenant}:{_digest('+'.join(self.names), self.route, own)}"

    def charged(self, client: ClientSettings) -> list[Bucket]:
        """The buckets of its limits under the configuration as it is now.

        A limit that came later, or under another name, counts where its pattern fits the route.
        A local step is charged to none.
        """
        if self.pool:
            return []
        fits = {limit.name for limit in matching(client.limits, self.route)}
        shared = [limit for limit in client.limits if limit.name in fits.union(self.names)]
        own = client.tenants[self.tenant].limits if self.tenant in client.tenants else ()
        return [
            *map(bucket_of, shared),
            *(tenant_bucket(self.tenant, limit) for limit in matching(own, self.route)),
        ]

    def definition(self, client: ClientSettings) -> str:
        """The flow as the scripts read it: a line of JSON, and one more from which `read` knows it.

        `limits` are its buckets. A route has one of its own, as wide as the narrowest around it, so
        that it binds only after a pause and paces what waited then. `scope` is the bucket that a
        refusal pauses: the narrowest limit of an endpoint, else the route, else the client.
        `breaker` is when it opens for answers of 429, see `workers.settings.breaker`.
        `fields` are those of the hash gov that hold the state of each bucket, and its bells.
        A local step has its pool instead of all these.
        """
        buckets = self.charged(client)
        stride = max(1, int(STRIDE / client.weight_of(self.tenant)))
        endpoint = {limit.name for limit in client.limits if limit.match != "* *"}
        rates = [kept for kept in buckets if kept.interval_us]
        rows, scope = [rate.row() for rate in rates], "client"
        if rates:
            narrow = [rate for rate in rates if rate.name in endpoint]
            tightest = max(narrow or rates, key=lambda rate: rate.interval_us)
            scope = tightest.name if narrow else f"r:{_digest(self.route)}"
            if not narrow:
                rows.append([scope, *tightest.row()[1:], 1])
        rows += [kept.row() for kept in buckets if not kept.interval_us]  # places, asked last
        limits: list[Sequence[Any]] = [CLIENT_BUCKET, *rows]
        if self.pool:
            scope = f"pool:{self.pool}"
            limits = [(scope, 0, ANY_PLACES, *CLIENT_BUCKET[3:])]
        hot: dict[str, Any] = {
            "lane": self.lane,
            "stride": stride,
            "limits": limits,
            "scope": scope,
            "breaker": client.breaker.rules,
            "fields": [field for row in limits for field in _fields(*row)],
        }
        cold = [self.lane, self.tenant, self.names, self.route, self.pool]
        return "\n".join(json.dumps(part, separators=(",", ":")) for part in (hot, cold))


def flow(client: ClientSettings, lane: int, tenant: str, route: str) -> Flow:
    """The flow of a call ("POST /api/v2/…")."""
    names = tuple(limit.name for limit in matching(client.limits, route))
    capped = tenant in client.tenants and bool(client.tenants[tenant].limits)
    return Flow(lane, tenant, names, route_class(route), capped)


def of_pool(lane: int, tenant: str, pool: str) -> Flow:
    """The flow of a local step."""
    return Flow(lane, tenant, (), "", pool=pool)


def read(definition: str) -> Flow:
    """Read the flow of a definition that was written earlier.

    Raises:
        LedgerDamaged: it cannot be read.
    """
    try:
        lane, tenant, names, route, *pool = read_json(definition.partition("\n")[2])
        if not all(isinstance(text, str) for text in (tenant, route, *names, *pool)):
            raise LedgerDamaged(_UNREADABLE)
        return Flow(int(lane), tenant, tuple(names), route, pool=pool[0] if pool else "")
    except (TypeError, ValueError):
        raise LedgerDamaged(_UNREADABLE) from None


def read_limits(definition: str) -> list[tuple[str, int, int]]:
    """Name, interval in us and burst of each bucket, as the scripts read them; raises as `read`."""
    try:
        rows = read_json(definition.partition("\n")[0])["limits"]
        return [(str(name), int(interval_us), int(burst)) for name, interval_us, burst, *_ in rows]
    except (KeyError, TypeError, ValueError):
        raise LedgerDamaged(_UNREADABLE) from None


def is_whole(definition: str) -> bool:
    """Whether both lines of a definition can be read."""
    try:
        return bool(read(definition).route is not None and read_limits(definition))
    except LedgerDamaged:
        return False


def coarse(own: Flow, routes: set[str]) -> Flow:
    """The flow with a route of its own, or the common one of its method beyond `MOST_ROUTES`.

    Args:
        own: The flow of a call.
        routes: The routes that this process knows; the flow's is added.
    """
    if own.route not in routes and len(routes) >= MOST_ROUTES:
        return replace(own, route=f"{own.route.partition(' ')[0]} *")
    routes.add(own.route)
    return own


def spans(store: Store, keys: ClientKeys) -> dict[str, tuple[str, int]]:
    """Read each bucket of the store's flows → its name for people, and how long it fills, in us.

    Buckets of how many calls may be out at once are left out, for they do not fill.
    """
    definitions: list[str] = store.hvals(keys.flows)  # type: ignore[assignment]
    span_of = {"client": ("client", 0)}
    for definition in definitions:
        with suppress(LedgerDamaged):
            route = read(definition).route
            for name, interval_us, burst, *_ in read_limits(definition):
                if interval_us or not burst:
                    span_of[name] = (route if name.startswith("r:") else name, interval_us * burst)
    return span_of


def no_change(live: Overrides) -> Sequence[Change | Agreement]:
    """Leave what is set live as it is."""
    del live
    return ()


def refresh(
    store: Store,
    keys: ClientKeys,
    client: ClientSettings,
    change: Callable[[Overrides], Sequence[Change | Agreement]] = no_change,
    clock: Callable[[], int] | None = None,
) -> set[str]:
    """Write the limits that hold now into all flows of the store; returns their routes.

    A definition that cannot be read stays as it is: the dispatcher defines its flow anew.

    Args:
        store: The store.
        keys: The client's names.
        client: As the configuration of this process has it: it counts where none was agreed.
        change: From what holds to what changes of it in the same moment, all or nothing.
        clock: Microseconds since the epoch, for tests that hold the clock.

    Raises:
        ConfigError: configuration and overrides do not go together; nothing was written.
    """
    while True:  # until nobody else comes between the look and the script
        live = overrides.read(store, keys)
        changes = change(live)
        now = live.changed(changes).over(client)
        known: dict[str, str] = store.hgetall(keys.flows)  # type: ignore[assignment]
        flows = read_whole(known)
        if Scripts(store, keys, clock)("apply_limits", *applying(live, changes, now, known)):
            return {old.route for old in flows.values() if not old.pool}


def applying(
    live: Overrides,
    changes: Sequence[Change | Agreement],
    now: ClientSettings,
    known: Mapping[str, str],
) -> list[str | int]:
    """The arguments with which lua/apply_limits.lua writes limits into all flows of a client.

    Args:
        live: What held when the change was decided on.
        changes: Of it.
        now: The client with the limits that hold then.
        known: Its flows as the store has them.
    """
    rows = json.dumps([changed.row() for changed in changes])
    flows = read_whole(known).items()
    definitions = [text for name, old in flows for text in (name, old.definition(now))]
    return [live.version, len(known), rows, *definitions]


def read_whole(known: Mapping[str, str]) -> dict[str, Flow]:
    """The flows of definitions, without those that cannot be read."""
    return {name: read(definition) for name, definition in known.items() if is_whole(definition)}


def define(store: Store, keys: ClientKeys, version: int, definitions: Mapping[str, str]) -> bool:
    """Write flows that may be new; False when overrides changed since that version."""
    args = [text for pair in definitions.items() for text in pair]
    return bool(Scripts(store, keys, None)("define", version, *args))


def _fields(name: str, interval_us: int, burst: int, *_: int) -> tuple[str, str]:
    counts_places = not interval_us and burst > 0
    return bucket_field(name, counts_places=counts_places), bells_field(name)


def _digest(*texts: str) -> str:
    return sha256("\0".join(texts).encode()).hexdigest()[:8]
