"""The channel on which the store wakes dispatchers: from a moment on, a client has work.

Each script that makes work publishes the client's name (lua/includes/wake.lua). A message
may be lost: after each subscription, and now and then, dispatchers look by themselves.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from redis.exceptions import NoPermissionError, RedisError

from orchestration.dispatch.delays import Warnings

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis.client import PubSub

    from workers.store.connection import Store

#: Seconds between two tries to subscribe.
SUBSCRIBE_AGAIN_S: Final = 0.5

_logger = logging.getLogger(__name__)


class Wakes:
    """A subscription to the wake-ups of one namespace, for one thread.

    Args:
        store: Whose scripts publish.
        namespace: Of the clients.
    """

    def __init__(self, store: Store, namespace: str) -> None:
        self._store, self._channel = store, f"{namespace}:wake"
        self._subscription: PubSub | None = None
        self._again_s = 0.0  #: when it subscribes again, by `time.monotonic`
        self._warnings = Warnings(_logger)

    def wait(self, timeout_s: float) -> Collection[str] | None:
        """The clients that were woken meanwhile, at the latest after so many seconds.

        Returns:
            Their names; None: it has just subscribed, and anything may have been missed before.
        """
        try:
            subscription = self._subscription or self._subscribe(timeout_s)
            if subscription is None:
                return ()
            names = set[str]()
            while message := subscription.get_message(timeout=0 if names else timeout_s):
                if message["type"] == "subscribe":
                    return None
                names.add(str(message["data"]))
        except (RedisError, OSError) as error:
            self._warnings.warn("store", _why(error, self._channel))
            self.close()
            return ()
        return names

    def close(self) -> None:
        """End the subscription; the next wait begins another one."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def _subscribe(self, timeout_s: float) -> PubSub | None:
        wait_s = self._again_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            return None
        self._again_s = time.monotonic() + SUBSCRIBE_AGAIN_S
        self._subscription = self._store.pubsub()  # type: ignore[no-untyped-call]
        self._subscription.subscribe(self._channel)
        return self._subscription


def _why(error: Exception, channel: str) -> str:
    if isinstance(error, NoPermissionError):
        return (
            f"the store's user may not subscribe, so that new work is found up to 2 s late; "
            f"give it +subscribe +unsubscribe +publish &{channel}"
        )
    return f"no wake-ups for now, the store is away ({type(error).__name__})"
