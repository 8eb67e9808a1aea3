"""The idle connections of a process: a few, whatever the number of its clients."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from workers.clock import now_ns

if TYPE_CHECKING:
    from collections.abc import Hashable

#: A connection that was idle for longer is not used again. Most servers close theirs after 20 s or
#: more, and a request that meets the close is of unknown outcome.
MAX_IDLE_S: Final = 15.0
#: Idle connections that a process of few threads keeps, so that each call of many clients need not
#: open one.
FEW: Final = 64


def most_idle(threads: int) -> int:
    """How many idle connections a process keeps: all that its threads may use at one moment."""
    return max(threads, FEW)


class _Closable(Protocol):
    """What of a connection is looked at while it is idle."""

    idle_since_ns: int

    def close(self) -> None: ...


_Connection = TypeVar("_Connection", bound=_Closable)


class IdleConnections(Generic[_Connection]):
    """Connections that wait to be used again by their owner, the newest first.

    The one that has waited for longest is closed when there are too many, whoever owns it, and when
    it has waited for too long. A client without work so ends up without connections.

    Args:
        most: How many are kept, of all owners.
        idle_s: A connection is not used again after this time.
    """

    def __init__(self, most: int, idle_s: float = MAX_IDLE_S) -> None:
        self._most = most
        self._idle_ns = int(idle_s * 1e9)
        self._by_age: dict[_Connection, Hashable] = {}  #: the oldest first
        #: The newest on the right; an owner without any stays until it is closed.
        self._by_owner: dict[Hashable, deque[_Connection]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._by_age)

    def has(self, owner: Hashable) -> bool:
        """Whether this owner has any."""
        return owner in self._by_owner

    def take(self, owner: Hashable) -> _Connection | None:
        """The newest connection of this owner; None: there is none, or it is too old."""
        with self._lock:
            own = self._by_owner.get(owner)
            if not own:
                return None
            connection = own.pop()
            del self._by_age[connection]
        if connection.idle_since_ns >= now_ns() - self._idle_ns:
            return connection
        connection.close()
        self.close_old()
        return None

    def keep(self, owner: Hashable, connection: _Connection, most: int) -> None:
        """Keep a connection until its owner takes it, or close it.

        Args:
            owner: Whose it is.
            connection: It can be used again.
            most: How many the owner may keep.
        """
        connection.idle_since_ns = now_ns()
        surplus = None
        with self._lock:
            own = self._by_owner.get(owner)
            if own is None:
                own = self._by_owner[owner] = deque()
            if len(own) < most:
                own.append(connection)
                self._by_age[connection] = owner
                if len(self._by_age) > self._most:
                    surplus = self._pop_oldest()
            else:
                surplus = connection
        if surplus is not None:
            surplus.close()

    def close_old(self) -> None:
        """Close those that have waited for too long."""
        oldest_ns = now_ns() - self._idle_ns
        old = []
        with self._lock:
            while self._by_age and next(iter(self._by_age)).idle_since_ns < oldest_ns:
                old.append(self._pop_oldest())
        for connection in old:
            connection.close()

    def close(self, owner: Hashable) -> None:
        """Close all that this owner has."""
        with self._lock:
            own = self._by_owner.pop(owner, ())
            for connection in own:
                del self._by_age[connection]
        for connection in own:
            connection.close()

    def _pop_oldest(self) -> _Connection:
        """Forget the oldest connection, which is also the oldest one of its owner."""
        connection = next(iter(self._by_age))
        self._by_owner[self._by_age.pop(connection)].popleft()
        return connection
