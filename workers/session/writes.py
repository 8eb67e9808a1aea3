"""What a task outside of jobs has sent: no write goes again under an old key, or otherwise.

A task that runs again sends its writes under the same keys, so that the provider knows them. A key
that was first sent a day ago it knows no more, and it would act twice. The store keeps of each
write when its key was first sent and the digest of its request, a hash for each task.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from workers.errors import STORE_FAILS, RepeatRefused
from workers.governor.governor import KEY_LIFE_S
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from workers.clients import Client

#: How long a task that did not end may rest between two of its runs. It is forgotten then.
KEPT_S: Final = 30 * 86_400
#: How long it is kept once it has ended: its message may come a second time.
KEPT_ENDED_S: Final = 86_400


class Write(NamedTuple):
    """One write of a task."""

    task: str  #: name of the task's record
    key: str  #: idempotency key
    digest: str  #: see `identity.request_digest`


class Writes:
    """What tasks have sent through one session.

    Args:
        client: Whose calls they are.
        wait_s: How long a call may wait for its tokens before it is sent.
    """

    def __init__(self, client: Client, wait_s: float) -> None:
        self._client = client
        self._run = Scripts(client.store, client.keys, client.clock)
        life_s = KEY_LIFE_S - client.configured.total_timeout_s - wait_s
        self._max_age_us = round(max(0.0, life_s) * 1e6)

    def begin(self, write: Write) -> None:
        """Keep that a write is about to be sent.

        Raises:
            RepeatRefused: it was sent before, and must not be sent as it is now.
            StoreAway: the store gives no answer; nothing may leave.
        """
        word, age_us = self._run("begin_write", *write, self._max_age_us, KEPT_S)
        match word:
            case "OLD" if age_us < 0:
                why = "was first sent before the store's clock was set back, so its key may be old"
            case "OLD":
                why = (
                    f"was first sent {age_us / 3.6e9:.0f} h ago, and its key is too old for the "
                    f"provider to remember"
                )
            case "OTHER":
                why = (
                    "was sent before with another method, URL or body under its key: send the "
                    "same in each run, or give it a key of its own"
                )
            case _:
                return
        raise RepeatRefused(
            f"client {self._client.name}: a write of this task {why}; it was not sent again, so "
            f"look at the provider what became of it"
        )

    def forget(self, write: Write) -> None:
        """Forget a write that was surely not executed, unless it was begun more than once."""
        with suppress(*STORE_FAILS):  # it is only taken for older than it is
            self._run("forget_write", write.task, write.key)

    def end(self, task: str) -> None:
        """Keep what a task has sent only for a while, for it has succeeded."""
        with suppress(*STORE_FAILS):  # it is only kept for longer
            self._client.store.expire(self._client.keys.writes(task), KEPT_ENDED_S)
