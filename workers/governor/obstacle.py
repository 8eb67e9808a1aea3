"""What keeps this process from making the calls of a client while others may make them.

Its secret is missing or refused, a file with certificates is away, or its configuration does not go
together with what holds. Nothing of that pauses the client: the process puts its bells back, rings
no more for it, and looks again at growing distances until the cause is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds until the process looks again whether the cause is gone; each look in vain doubles them.
FIRST_LOOK_S: Final = 1.0
LONGEST_S: Final = 10.0

logger = logging.getLogger(__name__)


class Obstacle:
    """What stands in the way of one client in this process, for all its threads.

    Args:
        client: Its name.
        clock: Seconds, for tests that hold the clock.
    """

    def __init__(self, client: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.why = ""  #: one sentence; "" = nothing stands in the way
        self._client = client
        self._clock = clock
        self._wait_s = 0.0
        self._look_at_s = 0.0
        self._looking = False
        self._lock = threading.Lock()

    def note(self, why: str) -> None:
        """Note what stands in the way; several threads may meet it at the same moment."""
        with self._lock:
            now_s, before = self._clock(), self.why
            if before and not self._looking and now_s < self._look_at_s:
                return
            self._wait_s = min(2 * self._wait_s, LONGEST_S) if before else FIRST_LOOK_S
            self._look_at_s = now_s + self._wait_s
            self._looking, self.why = False, why
        if why != before:
            logger.warning("this worker makes no calls of client %s: %s", self._client, why)

    def claim_look(self) -> bool:
        """Whether the caller is to look again now, and then to `note` or to `clear`."""
        with self._lock:
            if not self.why or self._looking or self._clock() < self._look_at_s:
                return False
            self._looking = True
            return True

    def clear(self) -> None:
        """Nothing stands in the way any more."""
        with self._lock:
            before, self.why, self._looking = self.why, "", False
        if before:
            logger.warning("this worker makes calls of client %s again", self._client)


class Obstacles(dict[str, Obstacle]):
    """The obstacles of a process by client, each made when somebody first asks for it."""

    def __missing__(self, client: str) -> Obstacle:
        """What stands in the way of this client: nothing yet."""
        return self.setdefault(client, Obstacle(client))

    def sentences(self) -> dict[str, str]:
        """Client → why this process makes none of its calls; another thread may add to them."""
        return {client: one.why for client, one in list(self.items()) if one.why}
