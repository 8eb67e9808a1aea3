"""The record of refusals: each answer of 429, and what was known when it came.

A refusal says that a limit is not as it was configured. Its record holds a route and numbers, but
nothing of a body and no id.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Final

from workers.answer.outcome import Refused
from workers.answer.quota_headers import read_feedback
from workers.errors import STORE_FAILS
from workers.governor.flows import MOST_ROUTES, route_class
from workers.governor.state import GovernorState
from workers.settings.limits import bucket_of, matching, tenant_bucket
from workers.store.reading import read_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.answer.outcome import Answer
    from workers.settings.client import ClientSettings
    from workers.settings.limits import Bucket, LimitSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: About how many refusals of a client are kept, the newest ones.
KEPT: Final = 1000

#: Most calls of a job go to the same few routes. A route has at most 8 kB.
_class_of = lru_cache(maxsize=256)(route_class)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Refused):
    """One refusal as the store keeps it."""

    at_s: float  #: since the epoch, by the store's clock
    pause_s: float  #: how long nothing leaves for the scope that was refused
    tokens: Mapping[str, int | None]  #: left of each limit it was charged to; None: held or unknown
    rules: str  #: the client's limits at that time, see `rules_of`
    process: str  #: that sent the refused call
    passed: Mapping[str, int]  #: calls of this process, from its start on, not refused, by route
    workers: int  #: live worker processes


def rules_of(limits: Iterable[LimitSettings]) -> str:
    """A short digest of limits: refusals under other limits are history."""
    return sha256(repr([(one.match, bucket_of(one)) for one in limits]).encode()).hexdigest()[:8]


class Refusals:
    """What one process sees of a client's refusals, and of the calls that were not refused."""

    def __init__(self, store: Store, keys: ClientKeys) -> None:
        self._store = store
        self._keys = keys
        self._process = secrets.token_urlsafe(6)
        self._passed: Counter[str] = Counter()
        self._lock = Lock()

    def note(self, route: str, tenant: str, answer: Answer) -> Refused | None:
        """Count a call that was not refused; of a 429 return what it says."""
        name = _class_of(route)
        with self._lock:
            if name not in self._passed and len(self._passed) >= MOST_ROUTES:
                name = f"{name.partition(' ')[0]} *"
            self._passed[name] += answer.status not in {None, HTTPStatus.TOO_MANY_REQUESTS}
        if answer.status != HTTPStatus.TOO_MANY_REQUESTS:
            return None
        quota = read_feedback(answer.headers, None)
        return Refused(
            route=name,
            tenant=tenant,
            retry_after_s=answer.retry_after_s,
            limit=quota.limit if quota else None,
            remaining=quota.remaining if quota else None,
            reset_s=quota.reset_s if quota else None,
        )

    def record(self, refused: Refused, client: ClientSettings, pause_s: float) -> None:
        """Keep one refusal; without a store it is dropped, for the call does not depend on it.

        Args:
            refused: What the answer said.
            client: Whose limits the call was charged to.
            pause_s: How long the refusal is obeyed.
        """
        with suppress(*STORE_FAILS):
            state = GovernorState.read(self._store, self._keys)
            with self._lock:
                passed = dict(self._passed)
            refusal = Refusal(
                **asdict(refused),
                at_s=state.now_us / 1e6,
                pause_s=pause_s,
                tokens={
                    bucket.name: _tokens_left(bucket, state) for bucket in _charged(refused, client)
                },
                rules=rules_of(client.limits),
                process=self._process,
                passed=passed,
                workers=len(state.live_threads()),
            )
            value = json.dumps(asdict(refusal), separators=(",", ":"))
            self._store.xadd(self._keys.refusals, {"refusal": value}, maxlen=KEPT)


def read(store: Store, keys: ClientKeys, since_s: float) -> list[Refusal]:
    """The refusals since a moment, in seconds since the epoch, the oldest first.

    Refusals that another version of Headgate recorded in another form are left out.
    """
    entries: list[tuple[str, dict[str, str]]] = store.xrange(  # type: ignore[assignment]
        keys.refusals, min=max(0, round(since_s * 1000))
    )
    refusals = []
    for _, fields in entries:
        with suppress(ValueError):
            refusals.append(read_record(Refusal, fields.get("refusal"), exact=True))
    return refusals


def _charged(refused: Refused, client: ClientSettings) -> list[Bucket]:
    tenant = client.tenants.get(refused.tenant)
    own = matching(tenant.limits if tenant else (), refused.route)
    shared = matching(client.limits, refused.route)
    return [bucket_of(limit) for limit in shared] + [
        tenant_bucket(refused.tenant, limit) for limit in own
    ]


def _tokens_left(bucket: Bucket, state: GovernorState) -> int | None:
    """Tokens in the bucket; None where a pause hides how many calls have taken."""
    held = state.held_until(bucket.name, bucket.interval_us * bucket.burst)
    return None if held else state.tokens_left(bucket)
