"""How many notices wait at most, over all clients of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestration.notify import jobs, outbox
from workers.clients import Clients
from workers.settings.load import load

if TYPE_CHECKING:
    from tests.support.notices import Looks
    from tests.support.world import World

PAGE, ROOM, JOBS = 5, 10, 16


@pytest.mark.parametrize("watched", [True, False])
def test_the_room_of_the_outbox_is_that_of_all_clients_and_no_end_is_lost(
    world: World, looks: Looks, monkeypatch: pytest.MonkeyPatch, *, watched: bool
) -> None:
    monkeypatch.setattr(jobs, "PAGE", PAGE)
    monkeypatch.setattr(outbox, "MOST_WAITING", ROOM)
    text = world.config.read_text()
    own = text[text.index("[clients.acme]") :]
    world.config.write_text(text + own.replace("acme", "bolt").replace("BOLT_", "ACME_"))
    world.clients = Clients(load(world.config))
    looks.look()
    for name in world.clients.names():
        world.client = world.clients[name]
        for number in range(JOBS):
            world.submit(1, f"j{number}")
        if watched:
            looks.look()
        world.work()

    told = [looks.deliver() for _ in range(8)]

    assert max(map(len, told)) <= ROOM + PAGE
    ends = [(notice.data["client"], notice.data["job"]) for some in told for notice in some]
    assert len(set(ends)) == len(ends) == 2 * JOBS
