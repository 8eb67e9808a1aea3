"""What a worker does for clients without work follows neither their number nor its own restarts."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.dispatch import bootstep
from orchestration.dispatch.presence import Presence
from orchestration.operate.limits import apply_configuration
from workers.clients import Client, Clients
from workers.errors import ConfigError, LedgerDamaged
from workers.governor import overrides
from workers.governor.registry import LIVES_S, Registry
from workers.settings.load import load
from workers.store import keys
from workers.store.connection import Pipeline, Store
from workers.store.keys import ClientKeys
from workers.store.scripts import library

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.world import World

FEW, MANY = 2, 40


class Trips:
    """Counts the round trips to the store of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for kind, name in ((Store, "ask"), (Store, "execute_command"), (Pipeline, "execute")):
            monkeypatch.setattr(kind, name, self._counted(getattr(kind, name)))

    def _counted(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.count += 1
            return send(*args, **options)

        return counted

    def of(self, act: Callable[[], object]) -> int:
        before = self.count
        act()
        return self.count - before


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Trips:
    return Trips(monkeypatch)


def clients_of(world: World, number: int, mark: str = "c") -> Clients:
    """A process whose configuration has so many clients, `acme` among them."""
    text = world.config.read_text()
    more = "".join(
        f'[clients.{mark}{n}]\nbase_url = "http://127.0.0.1:9"\nlimits = '
        f'[{{name = "app", count = 100}}]\n'
        for n in range(number - 1)
    )
    file = world.config.with_name(f"{mark}{number}.toml")
    file.write_text(f"{text}\n{more}")
    return Clients(load(file))


def presence_of(clients: Clients, name: str = "w1") -> Presence:
    return Presence(clients, f"{name}@here", threads=4, pool="calls", worker_id=name)


def versions(world: World, clients: Clients) -> set[int]:
    """How often what holds was written, of all clients."""
    store = world.client.store
    return {
        overrides.read(store, ClientKeys(world.namespace, name)).version for name in clients.names()
    }


def edit(world: World, worker: str, **values: object) -> None:
    """Change the entry of a worker."""
    name = keys.registry(world.namespace)
    entry = json.loads(str(world.client.store.hget(name, worker)))
    world.client.store.hset(name, worker, json.dumps({**entry, **values}))


def test_a_first_start_takes_as_many_round_trips_with_many_clients_as_with_few(
    world: World, trips: Trips
) -> None:
    few, many = clients_of(world, FEW, "a"), clients_of(world, MANY, "b")

    of_few, of_many = trips.of(presence_of(few).keep), trips.of(presence_of(many, "w2").keep)

    assert versions(world, many) >= {1}
    assert of_many <= of_few + 1  # and one for what `acme` has by then


def test_a_worker_beside_one_of_the_same_configuration_reads_and_writes_no_client(
    world: World, trips: Trips
) -> None:
    clients = clients_of(world, MANY)
    first = presence_of(clients)
    first.keep()
    first.keep(now=True)

    second = presence_of(clients_of(world, MANY), "w2")
    with_many = trips.of(second.keep)

    assert versions(world, clients) == {1}
    assert all(second.require_agreed(name) is None for name in clients.names())
    few = clients_of(world, FEW)
    presence_of(few, "w3").keep()
    assert with_many <= trips.of(presence_of(few, "w4").keep)


def test_a_worker_that_is_started_again_at_once_writes_no_client(world: World) -> None:
    clients = clients_of(world, FEW)
    before = presence_of(clients)
    before.keep()
    before.keep(now=True)

    presence_of(clients_of(world, FEW)).keep()

    assert versions(world, clients) == {1}


@pytest.mark.parametrize("other", ["has not agreed itself", "is dead", "was before, and is dead"])
def test_a_worker_writes_every_client_where_no_equal_one_vouches_for_it(
    world: World, other: str
) -> None:
    clients = clients_of(world, FEW)
    first = presence_of(clients)
    first.keep()
    if other != "has not agreed itself":
        first.keep(now=True)
        edit(world, "w1", at_us=0)

    presence_of(clients_of(world, FEW), "w1" if "before" in other else "w2").keep()

    assert versions(world, clients) == {2}


def test_an_equal_one_that_dies_while_a_worker_joins_vouches_for_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = clients_of(world, FEW)
    before = presence_of(clients)
    before.keep()
    before.keep(now=True)
    late = presence_of(clients_of(world, FEW))
    first = late._registry.look()
    later = replace(first, now_us=first.now_us + round((LIVES_S + 1) * 1e6), live={})
    looks = iter([first, later])
    monkeypatch.setattr(late._registry, "look", lambda: next(looks))

    late.keep()

    assert versions(world, clients) == {2}


def test_a_client_that_is_refused_or_damaged_stops_no_other_one_of_many(world: World) -> None:
    clients, store = clients_of(world, 5), world.client.store
    store.hset(ClientKeys(world.namespace, "c0").bound, "base_url", "http://elsewhere")
    store.set(ClientKeys(world.namespace, "c1").bound, "no hash")
    store.set(ClientKeys(world.namespace, "c2").overrides, "no hash")
    presence = presence_of(clients)

    presence.keep()

    with pytest.raises(ConfigError, match="bound to another account"):
        presence.require_agreed("c0")
    for name in ("c1", "c2"):
        with pytest.raises(LedgerDamaged, match="WRONGTYPE"):
            presence.require_agreed(name)
    for name in ("acme", "c3"):
        presence.require_agreed(name)
    store.delete(ClientKeys(world.namespace, "c2").overrides)
    presence.keep(now=True)
    presence.require_agreed("c2")


def test_a_heartbeat_takes_as_many_round_trips_whatever_the_number_of_clients(
    world: World, trips: Trips
) -> None:
    counts = set()
    for number in (FEW, MANY):
        clients = clients_of(world, number, f"x{number}-")
        presence = presence_of(clients, f"w{number}")
        presence.keep()
        presence.keep(now=True)
        counts.add(trips.of(lambda presence=presence: presence.keep(now=True)))
        assert clients._by_name == {}
        assert clients.obstacles == {}

    assert len(counts) == 1


def test_only_clients_with_work_are_warmed_up(
    world: World, trips: Trips, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit(1)
    clients, warm = clients_of(world, MANY), list[str]()
    monkeypatch.setattr(bootstep, "clients", lambda: clients)
    monkeypatch.setattr(Client, "warm_up", lambda client: warm.append(client.name))
    clients.open_installation()

    count = trips.of(bootstep._warm_up)

    assert warm == ["acme"]
    assert [*clients._by_name] == ["acme"]
    assert count <= trips.of(bootstep._warm_up) + 2


def test_the_scripts_of_many_clients_are_loaded_into_a_store_that_forgot_them(
    world: World,
) -> None:
    clients = clients_of(world, FEW)
    world.client.store.execute_command("FUNCTION", "DELETE", library()[0])

    presence_of(clients).keep()

    assert versions(world, clients) == {1}


def test_a_choice_is_followed_by_all_clients_in_as_many_round_trips_as_by_few(
    world: World, trips: Trips
) -> None:
    counts = []
    for number in (FEW, MANY):
        for count in (100, 400):
            world.configure(limits=f"count = {count}")
            clients = clients_of(world, number, f"y{number}-")
            presence_of(clients, f"w{number}-{count}").keep()
        digest = clients.configuration.digest

        counts.append(
            trips.of(partial(apply_configuration, clients, digest, by="maria", reason="so"))
        )

        held = overrides.read(world.client.store, ClientKeys(world.namespace, "acme")).proposals
        assert [one.digest for one in held if one.holds] == [digest]
    assert counts[1] <= counts[0]


def test_status_reads_the_registry_once_for_all_clients(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence_of(clients_of(world, FEW)).keep()
    text = world.config.with_name(f"c{FEW}.toml").read_text()
    world.config.write_text(text)
    looks = list[str]()
    read = Registry.configurations
    monkeypatch.setattr(Registry, "configurations", lambda self: looks.append("one") or read(self))

    shown = json.loads(world.run("status", "--json").stdout)["clients"]

    assert [one["client"] for one in shown] == ["acme", "c0"]
    assert [one["workers"] for one in shown] == [1, 1]
    assert looks == ["one"]
