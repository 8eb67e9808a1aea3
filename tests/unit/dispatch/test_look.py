"""What a worker finds when it looks again at what keeps it from a client's calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Never

import pytest

from orchestration.dispatch.obstacle_look import look_for_obstacle
from workers.errors import ConfigError, HeadgateError, StoreAway, TokenUnavailable
from workers.governor.flows import CALLS_POOL, MEDIA_POOL
from workers.governor.obstacle import Obstacle
from workers.http.route import ConnectFailed

if TYPE_CHECKING:
    from collections.abc import Callable


class World:
    """A client of which something was in the way; nothing is now, unless a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.fails_alone, self.connected = False, 0
        self.obstacle = Obstacle("acme", lambda: self.now_s)
        self.obstacle.note("what was before")
        self.now_s = 5.0
        assert self.obstacle.claim_look()
        self.client: Any = SimpleNamespace(
            name="acme",
            obstacle=self.obstacle,
            require_bound=lambda: None,
            governor=lambda: SimpleNamespace(
                fails_alone=lambda _: self.fails_alone, note_connected=self.connect
            ),
            caller=lambda: SimpleNamespace(reach=lambda: None),
            tokens=lambda: SimpleNamespace(get=lambda: None),
            transfers=lambda: SimpleNamespace(require_way=lambda: None),
        )

    def connect(self, _process: str) -> None:
        self.connected += 1

    def look(self, pool: str = CALLS_POOL) -> str:
        look_for_obstacle(self.client, pool)
        return self.obstacle.why


def failing(error: Exception) -> Callable[[], Never]:
    def fail() -> Never:
        raise error

    return fail


def test_where_nothing_is_in_the_way_any_more_the_calls_are_made_again() -> None:
    world = World()

    assert world.look() == ""
    assert world.connected == 1


@pytest.mark.parametrize("error", [RuntimeError("no idea"), StoreAway("away")], ids=repr)
def test_a_look_that_comes_to_nothing_is_not_the_last_one(error: Exception) -> None:
    world = World()
    world.client.tokens = lambda: SimpleNamespace(get=failing(error))

    assert world.look() == "what was before"

    world.now_s += 10
    assert world.obstacle.claim_look()


def test_a_way_that_others_have_keeps_this_worker_from_the_calls_and_one_that_nobody_has_does_not(
) -> None:  # fmt: skip
    world = World()
    world.client.caller = lambda: SimpleNamespace(reach=failing(ConnectFailed("no way")))
    world.fails_alone = True

    assert world.look() == "no way"

    world.fails_alone = False
    assert world.look() == ""
    assert world.connected == 0


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConfigError("no secret"), "no secret"),
        (TokenUnavailable("a wrong secret", refused=True), "a wrong secret"),
        (TokenUnavailable("the endpoint is away"), ""),
    ],
)
def test_a_token_that_nobody_has_is_no_matter_of_this_worker(
    error: HeadgateError, why: str
) -> None:
    world = World()
    world.client.tokens = lambda: SimpleNamespace(get=failing(error))

    assert world.look() == why


def test_a_worker_for_media_looks_at_what_its_transfers_need() -> None:
    world = World()
    way = SimpleNamespace(require_way=failing(ConfigError("no CA file")))
    world.client.transfers = lambda: way
    world.client.caller = failing(RuntimeError("no call is made"))

    assert world.look(MEDIA_POOL) == "no CA file"
