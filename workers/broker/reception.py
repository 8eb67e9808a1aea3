"""Whether this process can take bells from the broker, and why not.

A worker that cannot is of no use, though its process runs and its threads are free: the broker may
be away for it alone, or refuse its user the queue.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds for which a broker may be away, or refuse, before that is said of the process.
GRACE_S: Final = 3.0
#: Seconds until a queue that was refused is asked for again; each refusal doubles them.
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 10.0


class Reception:
    """What keeps this process from taking bells, for all its threads.

    Args:
        clock: Seconds, for tests that hold the clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._cause = ""  #: "" = bells are taken
        self._since_s = 0.0
        self._refused = False
        self._wait_s = FIRST_WAIT_S

    @property
    def why(self) -> str:
        """Why no bells are taken, one sentence, once that has lasted; "" = they are taken."""
        with self._lock:
            has_lasted = self._clock() - self._since_s >= GRACE_S
            return self._cause if has_lasted else ""

    @property
    def is_refused(self) -> bool:
        """Whether the broker answers and refuses, as far as `why` says."""
        return bool(self.why) and self._refused

    def note_away(self) -> None:
        """There is no connection to the broker."""
        self._note("there is no connection to the broker", refused=False)

    def note_failure(self, error: Exception) -> float:
        """A connection has ended with this error; returns seconds until the next one.

        A new connection does not show that a queue is not refused any more: only a bell does, or
        the answer that there is none.
        """
        refused = isinstance(error, ResponseError)
        if not refused:
            self.note_away()
            return 0.0
        # The server's text names commands and keys, never values.
        self._note(f"the broker refuses ({type(error).__name__}: {error})", refused=True)
        with self._lock:
            wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, LONGEST_WAIT_S)
        return wait_s

    def note_connection(self) -> None:
        """There is a connection again. While all threads are busy, no bell is asked for."""
        if not self._refused:
            self.clear()

    def clear(self) -> None:
        """The broker answered for the queue."""
        if self._cause:
            with self._lock:
                self._cause, self._refused, self._wait_s = "", False, FIRST_WAIT_S

    def _note(self, cause: str, *, refused: bool) -> None:
        with self._lock:
            if not self._cause:
                self._since_s = self._clock()
            if refused or not self._refused:
                self._cause, self._refused = cause, refused


#: That of this process.
reception: Final = Reception()
