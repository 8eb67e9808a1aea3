"""How the answer to a poll is read: ready, failed, or not yet. Pure.

A poll is `{"until": conditions, "failed": conditions, "every_s", "times"}`; a condition is that of
a look-up (`tasks.rest.looking`), and of several one suffices.

| the answer                                        | is                                      |
| ------------------------------------------------- | --------------------------------------- |
| fits `until`                                      | ready                                   |
| fits `failed`                                     | failed                                  |
| is another 2xx, or 404: reads lag behind writes   | not yet                                 |
| is any other one, or none                         | unsaid: judged like that of any read    |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tasks.kind import Polled
from tasks.rest.looking import matches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.answer.outcome import Answer

_NOT_YET: Final = (*range(200, 300), 404)


def read_poll(answer: Answer, poll: Mapping[str, Any]) -> Polled:
    """What the answer to a poll says."""
    if any(matches(answer, condition) for condition in poll["until"]):
        return Polled.READY
    if any(matches(answer, condition) for condition in poll.get("failed", ())):
        return Polled.FAILED
    return Polled.NOT_YET if answer.status in _NOT_YET else Polled.UNSAID
