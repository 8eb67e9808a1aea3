"""The look-up of a step as it is given, and what a refusal means after an unknown attempt."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.readers.requests import read_request
from orchestration.intake.readers.rows import Bad, only
from workers.answer.guards import Guard, Meaning

if TYPE_CHECKING:
    from workers.settings.client import ClientSettings

#: A look-up has no effect; some providers search by POST.
METHODS: Final = ("GET", "HEAD", "POST")

_FIELDS = ("method", "path", "headers", "body", "found", "absent")
_CONDITION = ("status", "at", "equals", "id")
_POINTER = re.compile(r"(/([^~/]|~[01])*)*")
#: A refusal that may be the doing of an earlier send: not 401, 408, 429.
_REFUSAL = re.compile(r"4(?!01|08|29)\d\d( [A-Za-z0-9._-]{1,64})?")


def read_lookup(given: Any, client: ClientSettings, place: str) -> dict[str, Any]:  # noqa: ANN401
    """The look-up, checked; raises `Bad`."""
    if not isinstance(given, dict):
        raise Bad(f"{place}: must be a JSON object")
    only(given, _FIELDS, f"{place}, ")
    lookup = read_request(given, client, f"{place}, ", METHODS)
    for name in ("found", "absent"):
        if name == "found" or given.get(name) is not None:
            lookup[name] = read_condition(given.get(name), lookup["method"], f"{place}, {name}")
    return lookup


def read_meanings(given: Any, guard: Guard, place: str) -> dict[str, str]:  # noqa: ANN401
    """What a refusal after an unknown attempt means, by status; raises `Bad`."""
    place = f"{place}after_unknown"
    if guard not in (Guard.KEY, Guard.UPSERT):
        raise Bad(f"{place}: is for guards key and upsert; with another one leave it out")
    if not isinstance(given, dict) or not all(map(_REFUSAL.fullmatch, given)):
        raise Bad(f'{place}: must be a JSON object whose fields are named like "409" or "409 code"')
    if not all(isinstance(it, str) and it in set(Meaning) for it in given.values()):
        raise Bad(f"{place}: a meaning must be one of {' '.join(Meaning)}")
    return given


def read_condition(given: Any, method: str, place: str) -> dict[str, Any]:  # noqa: ANN401
    """A condition on the answer to a request of this method, checked; raises `Bad`."""
    if not isinstance(given, dict) or not given:
        raise Bad(f"{place}: must be a JSON object with some of {' '.join(_CONDITION)}")
    only(given, _CONDITION, f"{place}, ")
    if method == "HEAD" and given.keys() - {"status"}:
        raise Bad(f"{place}: the answer to HEAD has no body; use GET or status alone")
    status = given.get("status", 200)
    if type(status) is not int or not 200 <= status <= 499:  # noqa: PLR2004
        raise Bad(f"{place}, status: must be a number from 200 to 499")
    if status in (401, 429):
        raise Bad(f"{place}, status: {status} says nothing of what was sent; use another one")
    for name in ("at", "id"):
        _pointer(given.get(name, ""), f"{place}, {name}")
    equals = given.get("equals", {})
    if not isinstance(equals, dict):
        raise Bad(f"{place}, equals: must be a JSON object, JSON pointer to value")
    for pointer in equals:
        _pointer(pointer, f"{place}, equals")
    return given


def _pointer(given: Any, place: str) -> None:  # noqa: ANN401 -- any JSON value
    if not isinstance(given, str) or not _POINTER.fullmatch(given):
        raise Bad(f'{place}: must be a JSON pointer such as "/entities/0"')
