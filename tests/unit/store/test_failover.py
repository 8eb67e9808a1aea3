"""A server that was primary and is a replica now: nothing of it is used any more."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import until
from tests.support.pair import Pair, a_pair
from workers.errors import StoreAway
from workers.store import connection
from workers.store.connection import Store, connect
from workers.store.keys import ClientKeys
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two servers that hold different values of the key `where`."""
    with a_pair(tmp_path) as both:
        yield both


def write_by(store: Store, how: str) -> None:
    """One write over each of the ways that a store has."""
    if how == "script":
        Scripts(store, ClientKeys("failover", "acme"), None)("define", "0")
    elif how == "command":
        store.set("what", 1)
    else:
        pipe = store.pipeline(transaction=how == "transaction")
        pipe.set("what", 1)
        pipe.execute()


@pytest.mark.parametrize("how", ["script", "command", "pipeline", "transaction"])
def test_one_refusal_of_a_replica_lets_every_connection_go(pair: Pair, how: str) -> None:
    store = connect(pair.endpoint.url)
    write_by(store, "script")
    hold_several(store)
    pair.fail_over()

    with pytest.raises(StoreAway, match="is a replica"):
        write_by(store, how)

    assert [store.get("where") for _ in range(20)] == ["second"] * 20
    write_by(store, "script")
    write_by(store, "command")


def test_a_connection_that_is_in_use_at_the_refusal_is_not_kept_either(pair: Pair) -> None:
    store = connect(pair.endpoint.url)
    store.ask("PING")
    store.ping()
    pair.endpoint.hold()
    under_way = [
        threading.Thread(target=store.get, args=["where"]),
        threading.Thread(target=store.ask, args=("GET", "where")),
    ]
    for call in under_way:
        call.start()
    until(lambda: len(clients_of(pair.first, "get")) == len(under_way), what="calls under way")
    pair.endpoint.target, old = pair.ports[1], pair.endpoint.target
    pair.first.execute_command("REPLICAOF", "127.0.0.1", "1")
    pair.endpoint.target = old
    with pytest.raises(StoreAway):
        store.set("what", 1)
    pair.endpoint.target = pair.ports[1]
    pair.endpoint.let_go()
    for call in under_way:
        call.join()

    assert [store.get("where") for _ in range(20)] == ["second"] * 20
    assert [store.ask("GET", "where") for _ in range(20)] == ["second"] * 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replica-serve-stale-data": "no"}, "is a replica"),
        ({"min-replicas-to-write": "1"}, "too few replicas"),
    ],
)
def test_a_server_that_cannot_be_the_primary_is_left_in_one_sentence(
    pair: Pair, options: dict[str, str], words: str
) -> None:
    store = connect(pair.endpoint.url)
    hold_several(store)
    for name, value in options.items():
        pair.first.config_set(name, value)
    if "min-replicas-to-write" in options:
        pair.endpoint.target = pair.ports[1]
        with pytest.raises(StoreAway, match=words):
            store.set("what", 1)
    else:
        pair.fail_over()
        with pytest.raises(StoreAway, match=words):
            store.get("where")

    assert [store.get("where") for _ in range(20)] == ["second"] * 20


def test_who_only_reads_leaves_a_replica_too(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ROLE_S", 0.0)
    store = connect(pair.endpoint.url)
    store.look_at_role()
    assert store.get("where") == "first"
    pair.fail_over()

    with pytest.raises(StoreAway, match="is a replica"):
        store.get("where")
    assert store.get("where") == "second"


def clients_of(store: Store, command: str) -> list[object]:
    return [one for one in store.client_list() if one["cmd"] == command]


def hold_several(store: Store) -> None:
    """Leave several idle connections in the pool, and several of `ask`."""
    pool = store.connection_pool
    for one in [pool.get_connection() for _ in range(5)]:
        pool.release(one)
    kept = [store._take()[1] for _ in range(5)]
    for one in kept:
        one.send_command("PING")
        one.read_response()
    store._idle.extend(kept)
