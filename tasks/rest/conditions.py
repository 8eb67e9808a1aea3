"""Conditions on an answer, and how they read a look-up and a poll. Pure.

A condition is `{"status", "at", "equals", "id"}`, all of it optional. An answer fits when

- it has that `status`; without one, any 2xx;
- something other than null stands in its body `at` that JSON pointer, such as `/entities/0`;
- from there on, each pointer of `equals` leads to its value.

The value there is taken for the answer to the send itself: later steps find their values in it, and
its `id`, or the value that the pointer `id` leads to, is the provider's name for it.

A look-up:

| the answer                                                       | is              |
| ---------------------------------------------------------------- | --------------- |
| fits `found`                                                     | found           |
| fits `absent`; without one: 404, 410, 204, or a 2xx of any JSON  | absent          |
| is any other one, or none                                        | not yet sure    |

A poll is `{"until": conditions, "failed": conditions, "every_s", "times"}`; of several conditions
one suffices:

| the answer                                        | is                                      |
| ------------------------------------------------- | --------------------------------------- |
| fits `until`                                      | ready                                   |
| fits `failed`                                     | failed                                  |
| is another 2xx, or 404: reads lag behind writes   | not yet                                 |
| is any other one, or none                         | unsaid: judged like that of any read    |
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from tasks.kind import Polled
from workers.answer.guards import LookupResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.answer.outcome import Answer

#: Statuses of a poll that came too early; a 404, for reads lag behind writes.
_NOT_YET: Final = (*range(200, 300), 404)
#: With these a provider says that there is nothing.
NOTHING: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
#: More digits than the index of any list has.
_MAX_DIGITS: Final = 7
_SUCCESS: Final = range(200, 300)
#: More digits than the place in any list has.
MAX_DIGITS: Final = 7


def read_lookup(answer: Answer, lookup: Mapping[str, Any]) -> LookupResult:
    """What a look-up, `{"found": condition, "absent": condition or missing}`, saw."""
    if matches(answer, lookup["found"]):
        return LookupResult.FOUND
    if "absent" in lookup:
        absent = matches(answer, lookup["absent"])
    else:
        absent = answer.status in NOTHING or (
            answer.status in _SUCCESS and _body(answer) is not None
        )
    return LookupResult.ABSENT if absent else LookupResult.UNSURE


def find_value(answer: Answer, condition: Mapping[str, Any]) -> object:
    """The value in an answer that matches, in place of an answer to the send."""
    value = follow_pointer(_body(answer), condition.get("at", ""))
    if "id" in condition:
        named = value if isinstance(value, dict) else {}
        return {**named, "id": follow_pointer(value, condition["id"])}
    return value if isinstance(value, dict | list) else {"id": value}


def follow_pointer(value: object, pointer: str) -> object:
    """What a JSON pointer (RFC 6901) leads to; None when there is nothing."""
    names = pointer.split("/")[1:]
    return walk(value, [name.replace("~1", "/").replace("~0", "~") for name in names])


def walk(value: Any, names: Iterable[str]) -> Any:  # noqa: ANN401 -- any JSON value
    """What stands in a JSON value under these names, one inside the other; None: nothing does.

    In a list a name is the place of an element, from 0.
    """
    for name in names:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and len(name) < MAX_DIGITS and _is_number(name):
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return None
    return value


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def matches(answer: Answer, condition: Mapping[str, Any]) -> bool:
    """Whether an answer is as a condition says."""
    status = condition.get("status")
    if answer.status != status if status else answer.status not in _SUCCESS:
        return False
    if not condition.keys() & {"at", "equals", "id"}:
        return True
    value = follow_pointer(_body(answer), condition.get("at", ""))
    if value is None or ("id" in condition and follow_pointer(value, condition["id"]) is None):
        return False
    return all(
        _is_same(follow_pointer(value, pointer), expected)
        for pointer, expected in condition.get("equals", {}).items()
    )


def _is_same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)  # 1 is not true


def _body(answer: Answer) -> object:
    """The body; None when it is not whole, or no JSON."""
    return None if answer.error else answer.json()


def read_poll(answer: Answer, poll: Mapping[str, Any]) -> Polled:
    """What the answer to a poll says."""
    if any(matches(answer, condition) for condition in poll["until"]):
        return Polled.READY
    if any(matches(answer, condition) for condition in poll.get("failed", ())):
        return Polled.FAILED
    return Polled.NOT_YET if answer.status in _NOT_YET else Polled.UNSAID
