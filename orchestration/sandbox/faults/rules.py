"""Which call is hit by which fault: the rules in force, with their counters."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import TRANSFER_PREFIX
from orchestration.sandbox.config import compile_glob
from orchestration.sandbox.determinism import SeededRandom
from orchestration.sandbox.oauth import OPEN_PATHS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from orchestration.sandbox.calls import Call
    from orchestration.sandbox.config import Fault, Storm


class _Rule:
    """One fault, with the calls that it has met and hit."""

    def __init__(self, fault: Fault, since_us: int) -> None:
        self.fault = fault
        self._pattern = compile_glob(fault.match)
        when = fault.when
        self._from_us = since_us + round(when.from_s * 1e6)
        self._until_us = None if when.until_s is None else since_us + round(when.until_s * 1e6)
        self._id_pattern = None if when.id_match is None else compile_glob(when.id_match)
        self._needs_ids = (
            when.business_ids is not None
            or when.id_match is not None
            or fault.per_business_id_times is not None
        )
        self._names_token_path = any(path in fault.match for path in OPEN_PATHS)
        self._names_transfers = TRANSFER_PREFIX in fault.match
        self._random = SeededRandom(fault.seed)
        self._seen = self._hits = 0
        self._hits_by_id: Counter[str] = Counter()

    def hits(self, call: Call, business_ids: Callable[[], Collection[str]]) -> bool:
        """Tell whether this call is hit; counts the matching calls and the hits."""
        fault, when = self.fault, self.fault.when
        if not (self._matches(call.method, call.path) and self._is_in_force(call)):
            return False
        ids = business_ids() if self._needs_ids else ()
        if not self._names_one_of(ids):
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

    def _is_in_force(self, call: Call) -> bool:
        clients = self.fault.when.clients
        return (
            self._from_us <= call.t_us
            and (self._until_us is None or call.t_us < self._until_us)
            and (clients is None or call.client in clients)
        )

    def _names_one_of(self, ids: Collection[str]) -> bool:
        """Tell whether both conditions on business ids hold."""
        exact, pattern = self.fault.when.business_ids, self._id_pattern
        return (exact is None or not set(exact).isdisjoint(ids)) and (
            pattern is None or any(pattern.match(name) for name in ids)
        )

    def _matches(self, method: str, path: str) -> bool:
        if not self._pattern.match(f"{method} {path}"):
            return False
        if path in OPEN_PATHS:
            return self._names_token_path
        return self._names_transfers or not path.startswith(TRANSFER_PREFIX)


class FaultBook:
    """The rules in their order; the first one that hits decides."""

    def __init__(self, faults: Sequence[Fault], since_us: int) -> None:
        """Begin with all counters at zero; `since_us` is the moment of the order."""
        self._rules = [_Rule(fault, since_us) for fault in faults]

    def pick(self, call: Call, business_ids: Callable[[], Collection[str]]) -> Fault | None:
        """Return the fault that hits this call, None without one.

        `business_ids` is called only where a rule needs the ids.
        """
        for rule in self._rules:
            if rule.hits(call, business_ids):
                return rule.fault
        return None


class StormInForce:
    """A storm from the moment of its order on."""

    def __init__(self, storm: Storm, now_us: int) -> None:
        self._pattern = compile_glob(storm.match)
        self._until_us = now_us + round(storm.seconds * 1e6)
        self._share, self._seen = storm.share, 0
        self.retry_after = None if storm.retry_after is None else str(storm.retry_after)

    def hits(self, now_us: int, method: str, path: str) -> bool:
        """Tell whether this call is hit; counts the matching calls."""
        if now_us >= self._until_us or not self._pattern.match(f"{method} {path}"):
            return False
        self._seen += 1
        return int(self._seen * self._share) > int((self._seen - 1) * self._share)
