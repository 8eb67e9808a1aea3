"""What went out and was no plain success: the newest of each client, in a stream.

The scripts add to it in the same moment in which they record the answer (lua/parts/attempts.lua).
Answers of 429 and 401 are none: they are counted in the transaction, and a client's newest
refusals stand in `workers.governor.refusals`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: Entries of one round trip.
_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One send or look-up; what does not apply is ""."""

    at_us: int  #: when its answer was recorded, by the store's clock
    key: str  #: of the transaction
    job: str
    step: int
    part: int  #: calls of the step that were done before: its parts, or polls
    what: str  #: "send" or "look-up"
    outcome: str  #: executed, not_executed or unknown
    status: str
    correlation: str
    text: str  #: what went wrong, one sentence

    def as_dict(self) -> dict[str, Any]:
        """As programs get it."""
        return asdict(self)


def read(store: Store, keys: ClientKeys, *, job: str, key: str = "") -> Iterator[Attempt]:
    """The attempts of a job, or of one of its transactions; the oldest first.

    Cost: a pass over what the client kept since the job was accepted.
    """
    began_us = int(store.hget(keys.job(job), "began_us") or 0)
    after = str(began_us // 1000)
    while True:
        found: Any = store.xrange(keys.attempts, min=after, count=_AT_ONCE)
        for _, it in found:
            if it["job"] == job and it["key"] == (key or it["key"]):
                at_us, step, part = int(it.pop("us")), int(it.pop("step")), int(it.pop("part", 0))
                yield Attempt(at_us=at_us, step=step, part=part, **it)
        if len(found) < _AT_ONCE:
            return
        after = f"({found[-1][0]}"
