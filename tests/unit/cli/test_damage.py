"""Garbage in any stored key or field: what people look with shows the rest, and doctor names it."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from orchestration.cli import watch
from orchestration.views.progress import follow
from tests.support.lua_legend import read_legend
from tests.support.world import DONE, FAILED, World
from workers.governor.grants import Grant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.store.connection import Store

GARBAGE: Final = "ga<rb>age"
#: What stands for the open parts of a stored name.
NAMES: Final = {
    "limit": "app",
    "scope": "client",
    "lane": "1",
    "tenant": "-",
    "worker": "w1",
    "job": "j1",
    "slot": "3",
    "n": "0",
    "task": "t",
    "name": "x",
}
COMMANDS: Final = (
    ("doctor",),
    ("status",),
    ("status", "--json"),
    ("jobs",),
    ("watch", "j1", "--json"),
    ("report", "j1"),
    ("limits", "list"),
    ("dead", "list"),
    ("audit",),
)
#: Fields of gov that hold a text.
TEXTS: Final = ("y:", "opened", "refused", "quarantined", "capped")
#: Keys in which any text is as good as another, or one more member is only one that is not there.
NOT_WRONG: Final = {
    *("active", "backlog:<flow>", "backlog:<flow>:due", "deadlines", "retries", "quarantine"),
    *("permits", "needs_page", "dead", "attempts", "audit", "refusals", "healthy", "oauth"),
    *("oauth:lock", "bound"),
}
LEGEND: Final = read_legend()
HASHES: Final = {"gov", "overrides", "oauth", "breaker", "tx", "job"}


def fields() -> Iterator[tuple[str, str]]:
    """Each field of the legend, as (hash, field)."""
    for where in sorted(HASHES):
        yield from ((where, field) for field in LEGEND[where])


def filled(name: str, names: dict[str, str]) -> str:
    return re.sub(r"<(\w+)>", lambda match: names[match[1]], name)


@pytest.fixture
def damaged(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[World, dict[str, str]]]:
    """A client with a job of which some rows ended, and what open parts of names stand for."""
    monkeypatch.setenv("ACME_SECRET", "canary")
    world = World(tmp_path, store_url)
    monkeypatch.setenv("HEADGATE_CONFIG", str(world.config))
    world.start_heartbeat()
    world.submit(4)
    governor = world.client.governor()
    first, second = world.bells(2)
    for bell, verdict in ((first, FAILED), (second, DONE)):
        grant = governor.admit(bell.key, bell.step)
        assert isinstance(grant, Grant)
        governor.settle(grant, verdict)
    store, keys = world.client.store, world.client.keys
    (flow, *_) = store.hkeys(keys.flows)  # type: ignore[misc]
    store.hset(keys.governor, mapping={"k:client": "1"})
    store.hset(keys.breaker("client"), mapping={"cause": "failing", "opened_us": "1"})
    store.hset(keys.evidence, "client", "3 1 7-other\nit failed")
    names = {**NAMES, "key": second.key, "flow": flow, "id": "x"}
    monkeypatch.setattr(watch, "follow", partial(follow, wait=stop))
    yield world, names
    for name in store.scan_iter(f"{world.namespace}:*"):
        store.delete(name)


def stop(seconds: float) -> None:
    del seconds
    raise KeyboardInterrupt


def look(world: World) -> tuple[list[str], str]:
    """Run all commands; what failed with a traceback, and what doctor says."""
    failed, said = [], ""
    for command in COMMANDS:
        try:
            result = world.run(*command)
        except Exception as error:  # noqa: BLE001 -- what a user would see as a traceback
            failed.append(f"{' '.join(command)}: {error!r}")
        else:
            said = result.output if command == ("doctor",) else said
    return failed, said


def name_of(world: World, where: str, names: dict[str, str]) -> str:
    keys = world.client.keys
    return {
        "gov": keys.governor,
        "overrides": keys.overrides,
        "oauth": keys.oauth,
        "breaker": keys.breaker("client"),
        "tx": keys.transaction(names["key"]),
        "job": keys.job("j1"),
    }[where]


def test_garbage_in_any_field_leaves_every_command_without_a_traceback(
    damaged: tuple[World, dict[str, str]],
) -> None:
    world, names = damaged
    store: Store = world.client.store
    wrong, unnamed = [], []
    for where, stored in fields():
        key, field = name_of(world, where, names), filled(stored, names)
        before: Any = store.hget(key, field)
        store.hset(key, field, GARBAGE)
        failed, said = look(world)
        if where == "gov" and not stored.startswith(TEXTS) and f"field {field} of gov" not in said:
            unnamed.append(stored)
        wrong += [f"{where}.{field}: {one}" for one in failed]
        store.hset(key, field, before) if before is not None else store.hdel(key, field)
    assert not wrong, "\n".join([f"{len(wrong)} of them", *wrong])
    assert not unnamed


def put_garbage(store: Store, name: str) -> None:
    """Add to a key what nobody can read."""
    kind = store.type(name)
    if kind == "hash":
        fields: Any = store.hkeys(name)
        for field in [*fields, "1:-:deadbeef"]:
            store.hset(name, field, GARBAGE)
    elif kind == "zset":
        store.zadd(name, {GARBAGE: 1})
    elif kind == "set":
        store.sadd(name, GARBAGE)
    elif kind == "list":
        store.lpush(name, GARBAGE)
    elif kind == "stream":
        store.xadd(name, {GARBAGE: GARBAGE})
    else:
        store.set(name, GARBAGE)


@pytest.mark.parametrize("how", ["a wrong type", "garbage inside"])
def test_a_damaged_key_leaves_every_command_without_a_traceback(
    damaged: tuple[World, dict[str, str]], how: str
) -> None:
    world, names = damaged
    store: Store = world.client.store
    wrong, unnamed = [], []
    for stored in LEGEND["key"]:
        if stored.startswith(("installation", "damaged:")):
            continue  # without the mark nothing runs, and nobody reads what stands aside
        if stored.startswith(("writes", "waiters")):
            continue  # of tasks that are no rows; a wrong one wakes nobody, and those go when due
        name = world.client.keys.prefix + filled(stored, names)
        dump: Any = store.execute_command("DUMP", name, NEVER_DECODE=True)
        if how == "a wrong type":
            kind = store.type(name)
            store.delete(name)
            if kind == "string" or stored == "oauth:lock":
                store.hset(name, "of", "another kind")
            else:
                store.set(name, "of another kind")
        else:
            put_garbage(store, name)
        failed, said = look(world)
        wrong += [f"{stored}: {one}" for one in failed]
        if "FAIL" not in said and not (how == "garbage inside" and stored in NOT_WRONG):
            unnamed.append(stored)
        store.delete(name)
        if dump is not None:
            store.restore(name, 0, dump)
    assert not wrong, "\n".join([f"{len(wrong)} of them", *wrong])
    assert not unnamed
