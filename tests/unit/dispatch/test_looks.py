"""What a dispatcher sees of many clients, some of whose keys are damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestration.dispatch.looks import count_out, find_due, find_work
from workers.store.connection import store_now_us
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from workers.store.connection import Store

SPACE = "looks"
#: Microseconds.
S = 1_000_000


def keys_of(client: str) -> ClientKeys:
    return ClientKeys(SPACE, client)


@pytest.mark.parametrize(
    ("next_s", "at_s", "is_due"),
    [
        (None, None, False),
        (None, -60, False),
        (-60, -60, True),
        (1, -60, True),  # it has work
        (60, -60, False),
        (None, 60, True),  # the clock was set back
        (60, 60, True),
    ],
)
def test_a_client_is_due_when_a_ring_is_needed_soon_or_the_clock_was_set_back(
    store: Store, next_s: int | None, at_s: int | None, *, is_due: bool
) -> None:
    now_us = store_now_us(store)
    for field, seconds in (("next", next_s), ("at", at_s)):
        if seconds is not None:
            store.hset(keys_of("one").governor, field, now_us + seconds * S)

    assert find_due(store, SPACE, ["one", "none"]) == (["one"] if is_due else [])


def test_work_is_found_whatever_kind_it_is_of(store: Store) -> None:
    store.sadd(keys_of("waits").active, "a flow")
    store.sadd(keys_of("opens").needs_page, "a job")
    store.zadd(keys_of("out").deadlines, {"a key": 1})

    names = ["none", "waits", "opens", "out"]
    assert find_work(store, SPACE, names) == ["waits", "opens", "out"]


def test_a_client_whose_keys_cannot_be_read_is_due_and_hides_no_other_one(store: Store) -> None:
    store.set(keys_of("damaged").governor, "no hash")
    store.set(keys_of("worse").deadlines, "no sorted set")
    store.zadd(keys_of("busy").deadlines, {"a": 1, "b": 1, "c": 1, "d": 1})
    store.zadd(keys_of("busy").retries, {"a": 1})
    store.hset(keys_of("busy").governor, "b:pool:media", 1)

    assert find_due(store, SPACE, ["damaged", "busy"]) == ["damaged"]
    assert count_out(store, SPACE, ["damaged", "busy", "worse", "none"]) == {"busy": 2, "none": 0}
