"""What workers with [notify] see and deliver, by a clock that the test moves."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from orchestration.notify.outbox import Outbox
from orchestration.notify.watch import Watch
from workers.clients import Clients
from workers.settings.load import load
from workers.store import keys

if TYPE_CHECKING:
    from orchestration.notify.events import Notice
    from tests.support.world import World

MINUTE_US = 60_000_000


class Looks:
    """The looks of a fleet at one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.store = world.client.store
        self.ahead_us = 0  #: of the store's clock
        self.outbox = Outbox(self.store, world.namespace, lambda: self.now_us)

    @property
    def now_us(self) -> int:
        """The moment of the next look."""
        return time.time_ns() // 1000 + self.ahead_us

    def look(self, after_us: int = 0) -> None:
        """Another worker process looks, so much later."""
        self.ahead_us += after_us
        clients = Clients(load(self._world.config))
        Watch(clients, self.store, self.outbox).look()

    def deliver(self, after_us: int = 0) -> list[Notice]:
        """Look, and deliver all that waits; returns it."""
        self.look(after_us)
        claimed = [self.outbox.claim(notice) for notice in self.outbox.waiting()]
        delivered = [notice for notice in claimed if notice]
        for notice in delivered:
            self.outbox.finish(notice)
        return delivered

    def events(self, after_us: int = 0) -> list[str]:
        """The names of what `deliver` returns."""
        return [str(notice.event) for notice in self.deliver(after_us)]

    def documents(self) -> list[dict[str, Any]]:
        """Look, and deliver all that waits; returns the documents."""
        return [json.loads(notice.document) for notice in self.deliver()]

    def end_claim(self, notice: Notice) -> None:
        """Let the lifetime of a claim be over."""
        self.store.delete(keys.notice_claim(self._world.namespace, notice.id))

    def claim_ms(self, notice: Notice) -> int:
        """How long the claim of a notice still lasts."""
        return int(self.store.pttl(keys.notice_claim(self._world.namespace, notice.id)))
