"""What a server says that is not the primary, or not yet: its connections are to be let go.

After a failover an address leads to another server, but a connection that is open stays with the
one that it has. That one may live on as a replica: it refuses writes, and its data grow old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redis.exceptions import BusyLoadingError, ResponseError

if TYPE_CHECKING:
    from redis import ConnectionPool
    from redis.exceptions import RedisError

_REPLICA: Final = (
    "the server at the store's address is a replica, after a failover perhaps: nothing is sent "
    "until the address leads to the primary"
)
#: First word of the server's answer → what it means.
_WORDS: Final = {
    "READONLY": _REPLICA,
    "MASTERDOWN": _REPLICA,
    "UNBLOCKED": _REPLICA,  # it became one while a command was blocked
    "NOREPLICAS": (
        "the store takes no writes, for too few replicas follow it (min-replicas-to-write); "
        "nothing is sent until they do, or its address leads to another primary"
    ),
    "CLUSTERDOWN": (
        "the server at the store's address belongs to a cluster that is down; nothing is sent "
        "until it is up"
    ),
}
_LOADING: Final = "the store is still loading its data; try again in a moment"


def reason_to_reconnect(error: RedisError) -> str:
    """The sentence for users, where the server is not a primary that may be used; else ""."""
    if isinstance(error, BusyLoadingError):
        return _LOADING
    if not isinstance(error, ResponseError):
        return ""
    return _WORDS.get(getattr(error, "status_code", None) or str(error).partition(" ")[0], "")


def let_connections_go(pool: ConnectionPool) -> None:
    """Close what is idle now, and what is in use as soon as it is given back."""
    pool.update_active_connections_for_reconnect()  # first: one given back meanwhile is idle then
    pool.disconnect(inuse_connections=False)
