"""When this process rings for which client. Pure: times are seconds of one monotonic clock."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

#: Of a client that nobody owns, the process that ranks first rings at once when it is woken; each
#: further one so much later.
RANK_S: Final = 0.01
#: So long the one who rang is the one that rings; lua/includes/turns.lua has the same.
OWNED_S: Final = 1.0
#: So often a process visits a client for which another one rings, while there is work.
VISIT_S: Final = 2.5
#: So many that rank first come as soon as that one can be gone.
FOLLOWERS: Final = 2


class Turns:
    """The clients of one process, and when each is rung.

    Args:
        process: Its id in the registry.
    """

    def __init__(self, process: str) -> None:
        self._process = process
        self._due_s: dict[str, float] = {}
        self._queue: list[tuple[float, str]] = []  #: a heap; what `_due_s` has not is outdated
        self._owned_until_s: dict[str, float] = {}
        self._seen_s: dict[str, float] = {}  #: when each was rung or visited last

    def rank(self, client: str, live: Collection[str]) -> int:
        """How many live processes go before this one; the order is another for each client."""
        own = _weight(self._process, client)
        return sum(_weight(one, client) > own for one in live if one != self._process)

    def ring_at(self, client: str, moment_s: float) -> None:
        """Ring no later than then."""
        if moment_s < self._due_s.get(client, inf):
            self._due_s[client] = moment_s
            heappush(self._queue, (moment_s, client))

    def wake(self, clients: Iterable[str], now_s: float, live: Collection[str]) -> None:
        """There is work for these clients. Who does not ring for one, and visits it, goes on so."""
        for client in clients:
            if self._owned_until_s.get(client, 0.0) > now_s:
                self.ring_at(client, now_s)
            elif self._due_s.get(client, inf) > now_s + VISIT_S:
                self.ring_at(client, now_s + RANK_S * self.rank(client, live))

    def note(
        self, client: str, *, owns: bool, now_s: float, next_s: float | None, live: Collection[str]
    ) -> None:
        """It was rung, or visited.

        Args:
            client: Which one.
            owns: This process is the one that rings for it.
            now_s: The moment.
            next_s: In so many seconds it is to be rung, or can be by another process than its
                owner; None: not before it is woken.
            live: The ids of the processes that live.
        """
        self._seen_s[client] = now_s
        if owns:
            self._owned_until_s[client] = now_s + OWNED_S
        else:
            self._owned_until_s.pop(client, None)
            if next_s is not None:
                rank = self.rank(client, live)
                next_s = next_s + RANK_S * rank if rank < FOLLOWERS else VISIT_S
        self._due_s.pop(client, None)
        if next_s is not None:
            self.ring_at(client, now_s + next_s)

    def seen_since(self, moment_s: float) -> list[str]:
        """The clients that were rung or visited since then."""
        return [client for client, seen_s in self._seen_s.items() if seen_s >= moment_s]

    @property
    def owned(self) -> list[str]:
        """The clients for which this process rang last."""
        return [*self._owned_until_s]

    @property
    def first(self) -> tuple[str, float] | None:
        """The client whose turn comes first, and when; None = nobody's."""
        while self._queue:
            moment_s, client = self._queue[0]
            if self._due_s.get(client) == moment_s:
                return client, moment_s
            heappop(self._queue)
        return None

    def without_turn(self, clients: Iterable[str], until_s: float) -> list[str]:
        """Those of these clients that have no turn until then."""
        return [client for client in clients if self._due_s.get(client, inf) > until_s]


def _weight(process: str, client: str) -> int:
    return crc32(f"{process} {client}".encode())
