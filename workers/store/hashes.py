"""Reads many hashes at once, of which one may be damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from workers.errors import LedgerDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.store.connection import Store


def read_hashes(store: Store, names: Sequence[str]) -> list[dict[str, str]]:
    """Many hashes in one round trip; one of a wrong type is as one that is not there.

    Raises:
        StoreAway: the store gives no answer.
    """
    pipe = store.pipeline(transaction=False)
    for name in names:
        pipe.hgetall(name)
    replies = pipe.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, RedisError) and not isinstance(store.fail(reply), LedgerDamaged):
            raise store.fail(reply)
    return [{} if isinstance(reply, RedisError) else reply for reply in replies]
