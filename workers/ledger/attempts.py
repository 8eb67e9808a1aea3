"""Sends and look-ups that were no plain success: a stream holds the newest of each client.

The scripts add an entry in the same moment in which they record the answer
(lua/includes/attempts.lua). Answers of 429 and 401 are no attempts: they are counted in the
transaction, and `workers.governor.refusals` holds a client's newest refusals.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from workers.store.reading import read_integer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.ledger.job import Job
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: Entries of one round trip.
_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One send or look-up; "" where a field does not apply."""

    at_us: int  #: when its answer was recorded, by the store's clock
    key: str  #: of the transaction
    job: str
    step: int
    part: int  #: calls of the step that were finished before: its parts, or polls
    what: str  #: "send" or "look-up"
    outcome: str  #: executed, not_executed or unknown
    status: str
    correlation: str
    text: str  #: what went wrong, one sentence

    def as_dict(self) -> dict[str, Any]:
        """The attempt as programs get it."""
        return asdict(self)


def read(store: Store, keys: ClientKeys, job: Job, key: str = "") -> Iterator[Attempt]:
    """The attempts of a job, or of one of its transactions; the oldest first.

    Cost: a pass over the attempts of the client since the job was accepted.

    Args:
        store: The store.
        keys: The client's names.
        job: The job.
        key: One of its transactions; "" = all.
    """
    after = str(job.began_us // 1000)
    while True:
        entries: Any = store.xrange(keys.attempts, min=after, count=_AT_ONCE)
        for _, stored in entries:
            attempt = _attempt(stored)
            if attempt and attempt.job == job.name and key in {"", attempt.key}:
                yield attempt
        if len(entries) < _AT_ONCE:
            return
        after = f"({entries[-1][0]}"


def _attempt(stored: Mapping[str, str]) -> Attempt | None:
    """What an entry of the stream says; None where it cannot be read."""
    texts: Any = {name: text for name, text in stored.items() if name not in {"us", "step", "part"}}
    try:
        return Attempt(
            at_us=read_integer(stored["us"]),
            step=read_integer(stored["step"]),
            part=read_integer(stored.get("part", "0")),
            **texts,
        )
    except (KeyError, TypeError, ValueError):
        return None
