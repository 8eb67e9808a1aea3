"""The record of refusals: each answer of 429, and what was known when it came.

A refusal says that a limit is not as it was configured. What is kept are a route and numbers:
nothing of a body, and no id.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Final

from workers.answer.quota_headers import read_feedback
from workers.errors import StoreAway
from workers.governor.flows import MOST_ROUTES, route_class
from workers.governor.state import held_until, live_threads, tokens_left
from workers.settings.limits import bucket, matching, tenant_bucket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.answer.outcome import Answer
    from workers.settings.client import ClientSettings
    from workers.settings.limits import Bucket, LimitSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: About so many refusals of a client are kept, the newest ones.
KEPT: Final = 1000
TOO_MANY: Final = 429

#: Most calls of a job go to the same few routes.
_class_of = lru_cache(maxsize=1024)(route_class)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What an answer of 429 tells."""

    route: str  #: without ids, see `flows.route_class`
    tenant: str  #: whose call it was
    retry_after_s: float | None  #: None: no order that can be read
    limit: int | None  #: this and the next two as the provider's headers tell them
    remaining: int | None
    reset_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Refused):
    """One refusal as it is kept."""

    at_s: float  #: since the epoch, by the store's clock
    pause_s: float  #: so long nothing leaves for what was refused
    tokens: Mapping[str, int | None]  #: left of each limit it was charged to; None: held or unknown
    rules: str  #: the client's limits at that time, see `rules_of`
    process: str  #: whose call was refused
    passed: Mapping[str, int]  #: calls of this process, from its start on, not refused, by route
    workers: int  #: live worker processes


def rules_of(limits: Iterable[LimitSettings]) -> str:
    """A short name that changes when a limit does: what was seen under other limits is history."""
    return sha256(repr([(it.match, bucket(it)) for it in limits]).encode()).hexdigest()[:8]


class Refusals:
    """What one process sees of a client's refusals, and of the calls that were not refused."""

    def __init__(self, store: Store, keys: ClientKeys) -> None:
        self._store = store
        self._keys = keys
        self._process = secrets.token_urlsafe(6)
        self._passed: Counter[str] = Counter()
        self._lock = Lock()

    def heard(self, route: str, tenant: str, answer: Answer) -> Refused | None:
        """Count a call that was not refused; of a 429 return what it tells."""
        name = _class_of(route)
        with self._lock:
            if name not in self._passed and len(self._passed) >= MOST_ROUTES:
                name = f"{name.partition(' ')[0]} *"
            self._passed[name] += answer.status not in {None, TOO_MANY}
        if answer.status != TOO_MANY:
            return None
        told = read_feedback(answer.headers, None)
        return Refused(
            route=name,
            tenant=tenant,
            retry_after_s=answer.retry_after_s,
            limit=told.limit if told else None,
            remaining=told.remaining if told else None,
            reset_s=told.reset_s if told else None,
        )

    def record(self, refused: Refused, client: ClientSettings, pause_s: float) -> None:
        """Keep one refusal, as far as the store is there: the call does not depend on it.

        Args:
            refused: What the answer told.
            client: Whose limits the call was charged to.
            pause_s: How long it is obeyed.
        """
        with suppress(StoreAway):
            pipe = self._store.pipeline(transaction=False)
            pipe.time()
            pipe.hgetall(self._keys.governor)
            (seconds, us), gov = pipe.execute()
            now_us = seconds * 1_000_000 + us
            with self._lock:
                passed = dict(self._passed)
            it = Refusal(
                **asdict(refused),
                at_s=now_us / 1e6,
                pause_s=pause_s,
                tokens={one.name: _left(one, gov, now_us) for one in _charged(refused, client)},
                rules=rules_of(client.limits),
                process=self._process,
                passed=passed,
                workers=len(live_threads(gov, now_us)),
            )
            value = json.dumps(asdict(it), separators=(",", ":"))
            self._store.xadd(self._keys.refusals, {"refusal": value}, maxlen=KEPT)


def read(store: Store, keys: ClientKeys, since_s: float) -> list[Refusal]:
    """The refusals since a moment, in seconds since the epoch, the oldest first.

    Those that another version of Headgate recorded in another form are left out.
    """
    found: list[tuple[str, dict[str, str]]] = store.xrange(  # type: ignore[assignment]
        keys.refusals, min=max(0, round(since_s * 1000))
    )
    refusals = []
    for _, fields in found:
        with suppress(KeyError, TypeError, ValueError):
            refusals.append(Refusal(**json.loads(fields["refusal"])))
    return refusals


def _charged(refused: Refused, client: ClientSettings) -> list[Bucket]:
    tenant = client.tenants.get(refused.tenant)
    own = matching(tenant.limits if tenant else (), refused.route)
    shared = matching(client.limits, refused.route)
    return [bucket(it) for it in shared] + [tenant_bucket(refused.tenant, it) for it in own]


def _left(it: Bucket, gov: Mapping[str, str], now_us: int) -> int | None:
    """What the refusal's own pause took from the bucket cannot be told from what was taken."""
    held = held_until(gov, it.name, it.interval_us * it.burst, now_us)
    return None if held else tokens_left(it, gov, now_us)
