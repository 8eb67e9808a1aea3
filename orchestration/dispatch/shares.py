"""How many bells of each client may be out, so that those of all clients fit the threads. Pure.

Of one client `ring` bounds the bells by itself. With more, one whose calls hang would take every
thread, and a hundred would put a hundred times as many bells on the broker. Every process shares
for the clients that it rings for; what others ring for, it hears at its visits. Times are seconds
of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: So much more than there are threads may be out, in parts of them: each finds a bell waiting.
SPARE: Final = 0.25
#: Where calls are short, threads do more than that until the next ring: so often what ended before
#: the last one.
SPARE_OF_ENDED: Final = 1.5
#: Never more than so many bells a thread.
MOST_A_THREAD: Final = 4
#: A client of which no call ended for so long has at most half of the threads while others work.
HANGS_S: Final = 2.0
#: How old a number may be that decides, and how often all are counted again.
COUNT_AGAIN_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a client has of a pool's threads."""

    out: int  #: bells and calls that are out
    threads: int  #: of all workers that do its calls
    owns: bool = True  #: this process is the one that rings
    waits: bool = True  #: something may wait
    at_s: float = 0.0  #: when that was counted
    ended: int = 0  #: calls that ended between the last two rings
    ended_s: float = 0.0  #: when a call of it was seen to have ended


class Shares:
    """The clients of one process, and what they have of one pool.

    Args:
        grows: Where calls are short, more may be out.
    """

    def __init__(self, *, grows: bool) -> None:
        self._grows = grows
        self._uses: dict[str, Use] = {}
        self._out = self._own_out = self._own_count = 0  #: of all, and of those it rings for
        self._counted_s = 0.0

    def note(self, client: str, use: Use, rung: int) -> None:
        """Note what a ring found, and how many bells it has rung beyond."""
        known = self._uses.get(client, use)
        ended = max(0, known.out - use.out)
        is_new = ended or not known.out or known is use
        ended_s = use.at_s if is_new else known.ended_s
        self._keep(client, replace(use, out=use.out + rung, ended=ended, ended_s=ended_s))

    def recount(self, outs: Mapping[str, int], now_s: float) -> None:
        """Note what of these clients is out now."""
        for client, out in outs.items():
            known = self._uses[client]
            ended = known.ended + max(0, known.out - out)
            ended_s = now_s if out < known.out else known.ended_s
            self._keep(client, replace(known, out=out, at_s=now_s, ended=ended, ended_s=ended_s))
        self._counted_s = now_s

    def to_count(self, client: str, now_s: float) -> Sequence[str]:
        """The clients that have to be counted again before this one rings; mostly none."""
        use = self._uses.get(client)
        if not use or now_s - self._counted_s < COUNT_AGAIN_S:
            return ()
        if self._out - use.out < self._bound(use) / 2:
            return ()
        return [name for name, one in self._uses.items() if now_s - one.at_s >= COUNT_AGAIN_S]

    def most(self, client: str, now_s: float) -> int | None:
        """How many bells of this client may be out; None = nobody knows how many threads it has."""
        use = self._uses.get(client)
        if not use:
            return None
        bound = self._bound(use)
        if len(self._uses) == 1:
            return bound
        left = bound - (self._out - use.out)
        own_others, own_out = self._own_count, self._own_out
        if use.owns:
            own_others, own_out = own_others - 1, own_out - use.out
        fair = bound * (own_others + 1) // len(self._uses) - own_out
        room = max(left, fair, 0)
        if use.out and now_s - use.ended_s > HANGS_S:
            room = min(room, max(1, use.threads // 2))
        return room

    def _keep(self, client: str, use: Use) -> None:
        """Keep what a client has, and the sums; one without work is forgotten."""
        for one, sign in ((self._uses.pop(client, None), -1), (use, 1)):
            if one is None or not (one.out or one.waits):
                continue
            self._out += sign * one.out
            if one.owns:
                self._own_out += sign * one.out
                self._own_count += sign
        if use.out or use.waits:
            self._uses[client] = use

    def _bound(self, use: Use) -> int:
        if not self._grows:
            return use.threads
        spare = max(use.threads * SPARE, use.ended * SPARE_OF_ENDED)
        return min(int(use.threads + spare), MOST_A_THREAD * use.threads)
