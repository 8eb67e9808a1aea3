"""What a dispatcher looks at of many clients at once, in few round trips.

Where a client cannot be looked at, that hides no other one; its own ring says what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workers.errors import HeadgateError
from workers.store.connection import store_now_us
from workers.store.keys import ClientKeys
from workers.store.many import ask_many
from workers.store.reading import number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.store.connection import Store

#: A ring that is due so soon belongs to a client that has work.
SOON_US: Final = 2_000_000


def find_due(store: Store, namespace: str, clients: Sequence[str]) -> list[str]:
    """Which of these clients are to be rung by now or soon, by what their scripts noted.

    Raises:
        StoreAway: the store gives no answer.
    """
    now_us = store_now_us(store)
    keys = [ClientKeys(namespace, name).governor for name in clients]
    answers = ask_many(store, (("HMGET", key, "next", "at") for key in keys))
    return [
        name for name, moments in zip(clients, answers, strict=True) if _is_due(moments, now_us)
    ]


def _is_due(moments: list[str | None] | HeadgateError, now_us: int) -> bool:
    """Whether a ring is needed within `SOON_US`, or the store's clock was set back."""
    if isinstance(moments, HeadgateError):
        return True
    next_us, at_us = moments
    return 0 < number_of(next_us or 0) <= now_us + SOON_US or number_of(at_us or 0) > now_us


def find_work(store: Store, namespace: str, clients: Sequence[str]) -> list[str]:
    """The clients of which something waits or is out, or a page is to be opened.

    Raises:
        StoreAway: the store gives no answer.
    """
    every = (ClientKeys(namespace, name) for name in clients)
    counts = ask_many(
        store, (("EXISTS", keys.active, keys.needs_page, keys.deadlines) for keys in every)
    )
    return [name for name, count in zip(clients, counts, strict=True) if count != 0]


def count_out(store: Store, namespace: str, clients: Sequence[str]) -> dict[str, int]:
    """How many bells and calls are out for the pool calls, by client, of those that can be counted.

    Raises:
        StoreAway: the store gives no answer.
    """
    every = [ClientKeys(namespace, name) for name in clients]
    answers = iter(ask_many(store, (command for keys in every for command in _counts(keys))))
    outs = {}
    for name, *counts in zip(clients, answers, answers, answers, strict=True):
        if not any(isinstance(one, HeadgateError) for one in counts):
            out, retries, media = counts
            outs[name] = max(0, out - retries - sum(number_of(text or 0) for text in media))
    return outs


def _counts(keys: ClientKeys) -> tuple[tuple[str, ...], ...]:
    """What is asked of a client to count what is out: all, countdowns, and what is for media."""
    media = ("HMGET", keys.governor, "b:pool:media", "l:pool:media")
    return ("ZCARD", keys.deadlines), ("ZCARD", keys.retries), media
