"""A stranger on the broker, who knows every name and no secret, against a fleet under load."""

from __future__ import annotations

import random
import threading

import pytest

from tests.support.faults.checks import check_all
from tests.support.fleet import Fleet, calls
from tests.support.forging import (
    CONTROL,
    QUEUE,
    TASK,
    broker_of,
    forged_bells,
    forged_broadcasts,
    message,
)

#: Seconds between two bursts of the stranger.
PAUSE_S = 0.05
STEPS = 3


class Stranger(threading.Thread):
    """Sends forged bells and broadcasts, doubles true bells, rings early and steals, at random."""

    def __init__(self, fleet: Fleet, rng: random.Random, node: str) -> None:
        super().__init__(daemon=True)
        self._broker = broker_of(fleet)
        self._keys = [*fleet.keys().values()]
        self._rng = rng
        self._broadcasts = [*forged_broadcasts(node).values()]
        self._ended = threading.Event()
        self.sent = self.stolen = 0

    def run(self) -> None:
        """Go on until told to end."""
        while not self._ended.wait(PAUSE_S):
            key = self._rng.choice(self._keys)
            bells = [*forged_bells("acme", key, other="beta").values()]
            # Bells that could be true: of any step, whether it is out or not.
            bells += [message(TASK, ["acme", key, step]) for step in range(1, STEPS + 1)]
            chosen = self._rng.sample(bells, 6)
            self._broker.lpush(QUEUE, *chosen)
            for text in self._rng.sample(self._broadcasts, 2):
                self._broker.publish(f"/1.{CONTROL}", text)
            self.sent += len(chosen) + 2
            if self._rng.random() < 0.1:
                self.stolen += self._broker.rpop(QUEUE) is not None

    def end(self) -> None:
        """Send no more."""
        self._ended.set()
        self.join()


@pytest.mark.parametrize("seed", [random.SystemRandom().randrange(10**6)])
def test_forged_messages_under_load_lose_and_double_nothing(seed: int) -> None:
    with Fleet(broker=True, names=("acme", "beta")) as fleet:
        fleet.submit(calls(1200, steps=STEPS))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(20)
        pids = fleet.worker_pid("w1"), fleet.worker_pid("w2")
        stranger = Stranger(fleet, random.Random(seed), "w1@somewhere")
        stranger.start()

        states = fleet.wait(timeout_s=300)

        stranger.end()
        print(f"{stranger.sent} forged messages, {stranger.stolen} bells stolen")
        assert states == {"succeeded": 1200}
        assert stranger.sent > 100
        assert (fleet.worker_pid("w1"), fleet.worker_pid("w2")) == pids
        assert fleet.report()["duplicates"] == 0
        check_all(fleet)
