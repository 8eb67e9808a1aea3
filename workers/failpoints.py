"""Named moments of the main path at which a fault test kills or freezes the process.

Off, which is always outside of tests, a failpoint costs one comparison. Switched on by
`HEADGATE_FAILPOINT=name[:action[:nth]]`: action `kill` (default: SIGKILL to this process) or `stop`
(SIGSTOP), at the nth time the failpoint is reached in this process (default 1). With
`HEADGATE_FAILPOINT_ONCE=FILE` only the first process that creates the file acts: a restarted worker
runs through.
"""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path

#: Every failpoint, in the order in which a call passes them.
NAMES = (
    "accepted",  # a page of rows is in the store
    "page_opened",  # its transactions stand in the backlog
    "rung",  # bells are out, nothing is published yet
    "published",  # the bells are published
    "popped",  # a worker has the message, admit was not asked yet
    "admitted",  # SENT is durable, no byte left
    "first_byte",  # the request is on its way
    "half_sent",  # half of a file is on its way to a signed URL
    "answer_read",  # the answer is here, nothing is recorded
    "settled",  # the answer is recorded
    "next_published",  # settled with RING: Celery is about to publish the next link
    "released",  # the contacts of a campaign may go, its step is not settled
    "retry_published",  # Task.retry has published its message
    "split",  # two halves wait in the place of a batch that was refused
    "taken_over",  # an expired lease was taken from a dead worker
    "replayed",  # a dead letter waits in the backlog again
    "recovered",  # some transactions are marked after a restored backup
)

_name, _, _rest = os.environ.get("HEADGATE_FAILPOINT", "").partition(":")
_action, _, _nth = _rest.partition(":")
_counter = itertools.count(1)


def reach(name: str) -> None:
    """Note that the process has come to this failpoint."""
    if name == _name:
        _end_or_freeze()


def _end_or_freeze() -> None:
    if next(_counter) != int(_nth or 1):
        return
    once = os.environ.get("HEADGATE_FAILPOINT_ONCE")
    if once:
        try:
            Path(once).touch(exist_ok=False)
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGSTOP if _action == "stop" else signal.SIGKILL)
