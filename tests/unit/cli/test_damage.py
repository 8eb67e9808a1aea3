"""Garbage in any stored key or field: what people look with shows the rest, and doctor names it."""

from __future__ import annotations

import re
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

import pytest

from orchestration.cli import watch
from orchestration.views.progress import follow
from tests.support.damage import STORED
from tests.support.lua_legend import read_legend
from tests.support.world import DONE, FAILED, World
from workers.governor.grants import Grant
from workers.governor.registry import APPLIED, AWAY
from workers.store import keys as stored_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.store.connection import Store

GARBAGE: Final = "ga<rb>age"
#: Bytes that are no UTF-8.
NO_TEXT: Final = b"\xff\xfe\x80"
#: What stands in the fields of a damaged hash, in turn.
HARMS: Final[tuple[str | bytes, ...]] = (GARBAGE, *STORED)
#: Three of them, each of another kind.
KINDS: Final = {"nested": STORED[2], "numbers": STORED[-1], "bytes": NO_TEXT}
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
TEXTS: Final = ("y:", "opened", "refused", "quarantined", "capped", "owner")
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
        for field, content in zip(["1:-:deadbeef", *fields, NO_TEXT], cycle(HARMS), strict=False):
            store.hset(name, field, content)
    elif kind == "zset":
        store.zadd(name, {GARBAGE: 1})
        store.zadd(name, {NO_TEXT: float("inf")})
    elif kind == "set":
        store.sadd(name, GARBAGE, NO_TEXT)
    elif kind == "list":
        store.lpush(name, GARBAGE, NO_TEXT)
    elif kind == "stream":
        store.xadd(name, {GARBAGE: GARBAGE, NO_TEXT: NO_TEXT})
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
        if stored.startswith(("writes", "waiters", "tx:caller")):
            continue  # of calls that are no rows; a wrong one wakes nobody, and those go when due
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


@pytest.mark.parametrize("kind", KINDS)
def test_damage_in_the_registry_stops_no_worker_and_no_command(
    damaged: tuple[World, dict[str, str]], kind: str
) -> None:
    world, _ = damaged
    store: Store = world.client.store
    registry = stored_names.registry(world.namespace)
    heartbeats: Any = store.hvals(registry)
    for number, harm in enumerate(HARMS):
        store.hset(registry, f"id{number}", harm)
    for huge in ("1e400", "9" * 400):
        text = re.sub(r'"at_us":\d+', f'"at_us":{huge}', heartbeats[0])
        store.hset(registry, f"id of {huge}", text)
    store.hset(registry, NO_TEXT, NO_TEXT)
    configurations = stored_names.configurations(world.namespace)
    store.hset(configurations, mapping={APPLIED: KINDS[kind], AWAY: KINDS[kind], "x": KINDS[kind]})

    presence = world.start_heartbeat("w2@here", worker_id="w2")
    presence.keep(now=True)
    presence.require_agreed("acme")

    failed, said = look(world)
    assert not failed
    assert "client acme" in said


def test_a_history_leaves_out_what_cannot_be_read(damaged: tuple[World, dict[str, str]]) -> None:
    world, names = damaged
    store, keys, key = world.client.store, world.client.keys, names["key"]
    store.xadd(keys.attempts, {"job": "j1", "key": key, "us": NO_TEXT, "step": "1"})
    store.xadd(keys.attempts, {GARBAGE: GARBAGE})
    store.xadd(keys.audit, {"action": "x", "key": key, "us": "9" * 400, "sent_us": "1e400"})
    store.xadd(keys.audit, {"action": "x", "key": key}, id=f"{2**63}-1")
    for field, harm in (("d", NO_TEXT), ("t2", "9" * 400), ("g", NO_TEXT), ("ids", NO_TEXT)):
        before = store.hget(world.tx(key), field)
        store.hset(world.tx(key), field, harm)
        for command in (("audit", "j1"), ("audit", key), ("dead", "show", key), ("audit", "acme")):
            assert world.run(*command).output
        if before is not None:
            store.hset(world.tx(key), field, before)
