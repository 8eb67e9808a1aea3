"""How the answer to a look-up is read: found, absent, or not yet sure. Pure.

A condition is `{"status", "at", "equals", "id"}`, all of it optional. An answer fits when

- it has that `status`; without one, any 2xx;
- something other than null stands in its body `at` that JSON pointer, such as `/entities/0`;
- from there on, each pointer of `equals` leads to its value.

What stands there is taken for the answer to the send itself: later steps find their values in it,
and its `id`, or what the pointer `id` leads to, is what the provider calls it.

| the answer                                                       | is              |
| ---------------------------------------------------------------- | --------------- |
| fits `found`                                                     | found           |
| fits `absent`; without one: 404, 410, 204, or a 2xx of any JSON  | absent          |
| is any other one, or none                                        | not yet sure    |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from workers.answer.guards import Sight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.answer.outcome import Answer

#: With these a provider says that there is nothing.
NOTHING: Final = (204, 404, 410)
_SUCCESS: Final = range(200, 300)
#: More digits than the place in any list has.
MAX_DIGITS: Final = 7


def sight(answer: Answer, lookup: Mapping[str, Any]) -> Sight:
    """What a look-up, `{"found": condition, "absent": condition or missing}`, saw."""
    if fits(answer, lookup["found"]):
        return Sight.FOUND
    if "absent" in lookup:
        absent = fits(answer, lookup["absent"])
    else:
        absent = answer.status in NOTHING or (
            answer.status in _SUCCESS and _body(answer) is not None
        )
    return Sight.ABSENT if absent else Sight.UNSURE


def made(answer: Answer, found: Mapping[str, Any]) -> Any:  # noqa: ANN401 -- any JSON value
    """What the found answer holds in place of an answer to the send."""
    there = pointed(_body(answer), found.get("at", ""))
    if "id" in found:
        named = there if isinstance(there, dict) else {}
        return {**named, "id": pointed(there, found["id"])}
    return there if isinstance(there, dict | list) else {"id": there}


def pointed(value: Any, pointer: str) -> Any:  # noqa: ANN401 -- any JSON value
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


def fits(answer: Answer, condition: Mapping[str, Any]) -> bool:
    """Whether an answer is as a condition says."""
    status = condition.get("status")
    if answer.status != status if status else answer.status not in _SUCCESS:
        return False
    if not condition.keys() & {"at", "equals", "id"}:
        return True
    there = pointed(_body(answer), condition.get("at", ""))
    if there is None or ("id" in condition and pointed(there, condition["id"]) is None):
        return False
    return all(
        _same(pointed(there, it), value) for it, value in condition.get("equals", {}).items()
    )


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 -- any JSON value
    return one == other and isinstance(one, bool) == isinstance(other, bool)  # 1 is not true


def _body(answer: Answer) -> Any:  # noqa: ANN401 -- any JSON value
    """The body; None when it is not whole, or no JSON."""
    return None if answer.error else answer.json()
