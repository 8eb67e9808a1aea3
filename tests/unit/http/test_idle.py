"""The idle connections of a process: bounded over all clients, and none where there is no work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workers.clients import Clients
from workers.http import idle
from workers.http.connection import count_descriptors
from workers.http.idle import FEW, IdleConnections, most_idle

if TYPE_CHECKING:
    from tests.support.world import World

S = 10**9


class FakeConnection:
    """What of a connection is looked at while it is idle."""

    def __init__(self) -> None:
        self.idle_since_ns = 0
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Clock:
    def __init__(self) -> None:
        self.ns = S

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which connections grow old."""
    held = Clock()
    monkeypatch.setattr(idle, "now_ns", held)
    return held


def keep(
    connections: IdleConnections[FakeConnection], owner: str, count: int = 1
) -> list[FakeConnection]:
    opened = [FakeConnection() for _ in range(count)]
    for connection in opened:
        connections.keep(owner, connection, 1_000)
    return opened


def test_a_process_keeps_few_idle_connections_whatever_the_number_of_its_clients() -> None:
    connections = IdleConnections[FakeConnection](8)

    opened = [keep(connections, f"client {number}")[0] for number in range(200)]

    assert len(connections) == 8
    assert [number for number, one in enumerate(opened) if not one.is_closed] == list(
        range(192, 200)
    )
    assert connections.take("client 191") is None
    assert connections.take("client 192") is opened[192]


def test_the_newest_connection_of_a_client_goes_first_and_its_oldest_is_closed() -> None:
    connections = IdleConnections[FakeConnection](3)

    first, second, third, fourth = keep(connections, "acme", 4)

    assert [first.is_closed, second.is_closed] == [True, False]
    taken = [connections.take("acme") for _ in range(4)]
    assert taken == [fourth, third, second, None]
    assert not len(connections)


def test_a_client_keeps_no_more_than_its_own_pool_holds() -> None:
    connections, one, two = IdleConnections[FakeConnection](8), FakeConnection(), FakeConnection()

    for connection in (one, two):
        connections.keep("acme", connection, 1)

    assert (one.is_closed, two.is_closed, len(connections)) == (False, True, 1)


def test_connections_of_clients_without_work_are_closed_when_they_are_old(clock: Clock) -> None:
    connections = IdleConnections[FakeConnection](8, idle_s=15)
    (old,) = keep(connections, "quiet")
    clock.ns += 10 * S
    (young,) = keep(connections, "busy")
    clock.ns += 6 * S

    connections.close_old()

    assert (old.is_closed, young.is_closed, len(connections)) == (True, False, 1)


def test_a_client_that_is_closed_leaves_the_connections_of_others() -> None:
    connections = IdleConnections[FakeConnection](8)
    ours, theirs = keep(connections, "acme", 2), keep(connections, "other", 2)

    connections.close("acme")

    assert [one.is_closed for one in ours + theirs] == [True, True, False, False]
    assert len(connections) == 2


def test_all_clients_of_a_process_share_one_place_for_idle_connections(world: World) -> None:
    acme = world.client
    world.configure(more="")
    settings = world.clients.settings
    several = settings.model_copy(
        update={
            "clients": {name: acme.configured.model_copy(update={"name": name}) for name in "ab"}
        }
    )
    ours = Clients(several)

    assert ours["a"].idle is ours["b"].idle is ours.idle
    assert ours["a"].caller()._idle is ours["b"].caller()._idle
    assert ours["a"].transfers()._idle is ours.idle


def test_what_a_process_may_open_follows_from_its_threads_alone() -> None:
    assert most_idle(1) == most_idle(FEW) == FEW
    assert most_idle(1_000) == 1_000
    assert count_descriptors(32) == 4 * 32 + FEW
