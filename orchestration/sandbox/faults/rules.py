"""Which call is hit by which fault, and what its answer becomes; `delivery` breaks connections."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from orchestration.sandbox.calls.call import Answer, error, too_many_requests
from orchestration.sandbox.genesys.presigned import TRANSFERS
from orchestration.sandbox.oauth import OPEN_PATHS
from orchestration.sandbox.quota.limits import matcher

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from orchestration.sandbox.calls.call import Call
    from orchestration.sandbox.config.config import Config, Fault, Storm

#: Kinds whose call has its effect; all others are decided before anything is done.
WITH_EFFECT = frozenset(
    {
        "5xx_after",
        "5xx_stored",
        "drop_after",
        "hang",
        "slow_body",
        "bad_json",
        "huge_body",
        "truncated",
    }
)
#: Kinds whose answer is remembered under the key when `Config.store_5xx` is set.
_FAILURES = frozenset({"5xx_before", "5xx_after"})

_REFUSALS = {
    "400": "bad.request",
    "401": "bad.credentials",
    "403": "missing.permissions",
    "404": "not.found",
    "409": "conflict",
}


#: What a refusal for want of a permission says, as the platform words it.
_MISSING = "Unable to perform it: missing permission(s): [outbound:contact:add]"


class _Rule:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._pattern = matcher(fault.match)
        self._names_token = any(path in fault.match for path in OPEN_PATHS)
        self._names_files = TRANSFERS in fault.match
        self._random = Random(fault.seed)  # noqa: S311 - a repeatable fault, no secret
        self._seen = self._hits = 0
        self._hits_by_id: Counter[str] = Counter()

    def hits(self, method: str, path: str, business_ids: Callable[[], Collection[str]]) -> bool:
        """Tell whether this call is hit; counts the matching calls and the hits."""
        fault, when = self.fault, self.fault.when
        if not self._pattern.match(f"{method} {path}"):
            return False
        if (path in OPEN_PATHS and not self._names_token) or (
            path.startswith(TRANSFERS) and not self._names_files
        ):
            return False
        ids: Collection[str] = ()
        if when.business_ids is not None or fault.per_business_id_times is not None:
            ids = business_ids()
        if when.business_ids is not None and not set(ids) & set(when.business_ids):
            return False
        self._seen += 1
        if (
            (when.first is not None and self._seen > when.first)
            or (when.every is not None and self._seen % when.every)
            or (when.probability is not None and self._random.random() >= when.probability)
            or (fault.times is not None and self._hits >= fault.times)
        ):
            return False
        most = fault.per_business_id_times
        if most is not None and all(self._hits_by_id[name] >= most for name in ids):
            return False
        self._hits += 1
        self._hits_by_id.update(ids)
        return True


class FaultBook:
    """The rules in their order; the first one that hits decides."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._rules = [_Rule(fault) for fault in faults]

    def pick(
        self, method: str, path: str, business_ids: Callable[[], Collection[str]]
    ) -> Fault | None:
        """Return the fault of this call; `business_ids` is asked only when a rule needs it."""
        for rule in self._rules:
            if rule.hits(method, path, business_ids):
                return rule.fault
        return None


class StormInForce:
    """A storm from the moment of its order on."""

    def __init__(self, storm: Storm, now_us: int) -> None:
        self._pattern = matcher(storm.match)
        self._until_us = now_us + round(storm.seconds * 1e6)
        self._share, self._seen = storm.share, 0
        self.retry_after = None if storm.retry_after is None else str(storm.retry_after)

    def hits(self, now_us: int, method: str, path: str) -> bool:
        """Tell whether this call is hit; counts the matching calls."""
        if now_us >= self._until_us or not self._pattern.match(f"{method} {path}"):
            return False
        self._seen += 1
        return int(self._seen * self._share) > int((self._seen - 1) * self._share)


def is_remembered(fault: Fault, config: Config) -> bool:
    """Tell whether the fault's answer is kept under the call's key, and replayed."""
    return fault.kind == "5xx_stored" or (config.store_5xx and fault.kind in _FAILURES)


def damaged(call: Call, fault: Fault, done: Answer | None) -> Answer:  # noqa: PLR0911 - one case a kind
    """Return what the fault makes of an answer; `done` is None when nothing was executed.

    What the call did stays in the answer, for the journal.
    """
    if done is None:
        done = Answer(status=0, kind="fault")
    retry_after = None if fault.retry_after is None else str(fault.retry_after)
    match fault.kind:
        case "429":
            return too_many_requests(call, retry_after)
        case "400" | "401" | "403" | "404" | "409":
            code = _REFUSALS[fault.kind]
            message = _MISSING if fault.kind == "403" else "Refused on command."
            return error(call, int(fault.kind), code, message, kind="fault")
        case "5xx_before" | "5xx_after" | "5xx_stored":
            status = fault.status or (503 if fault.kind == "5xx_before" else 500)
            failed = error(call, status, "internal.server.error", "Failed on command.")
            headers = {} if retry_after is None else {"Retry-After": retry_after}
            return replace(done, status=status, body=failed.body, headers=headers)
        case "redirect":
            location = {"Location": fault.location}
            return Answer(status=fault.status or 302, kind="fault", headers=location)
        case "bad_json":
            return replace(done, body=b'{"id": "')
        case "drop_before" | "drop_after" | "hang_before" | "hang":
            return replace(done, status=0)
        case "slow_body" | "truncated" | "huge_body":
            return done
