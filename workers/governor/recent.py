"""The newest grants of one process: what it knows better than a store that went back."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.governor.grants import Grant

#: So many of its newest grants a process keeps for a client, and for all of them; each takes about
#: 400 bytes. A store that goes back seldom forgets more than a second.
RECENT: Final = 4096
RECENT_OF_ALL: Final = 32_768
#: So many it keeps for a client in any case.
LEAST_RECENT: Final = 256


class Granted(NamedTuple):
    """What of a grant is needed to put it back."""

    number: int
    key: str
    job: str
    step: int
    fence: str


def share_recent(clients: int) -> int:
    """How many grants a process keeps for each of so many clients."""
    return min(RECENT, max(LEAST_RECENT, RECENT_OF_ALL // max(1, clients)))


class Recent:
    """The newest grants of this process for one client.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int = RECENT) -> None:
        self.newest = 0  #: number of the newest one that this process knows; 0 = none
        self._most = most
        self._kept = deque[Granted](maxlen=most)
        self._lock = Lock()

    def add(self, grant: Grant) -> None:
        """Keep a grant."""
        with self._lock:
            self.newest = max(self.newest, grant.number)
            self._kept.append(Granted(grant.number, grant.key, grant.job, grant.step, grant.fence))

    def after(self, number: int) -> Sequence[Granted] | None:
        """All grants of this process after this number, oldest first; None = it forgot some."""
        with self._lock:
            kept = list(self._kept)
        if len(kept) == self._most and kept[0].number > number:
            return None
        lost = sorted(grant for grant in kept if grant.number > number)
        return lost if lost and lost[-1].number == self.newest else None

    def forget(self, number: int) -> None:
        """Forget what was put back: the store counts on from `number`."""
        with self._lock:
            self._kept = deque((g for g in self._kept if g.number <= number), maxlen=self._most)
            self.newest = number
