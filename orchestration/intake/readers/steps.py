"""The steps of a row of calls as they are given: request, look-up, meanings, poll, parts.

Each function checks one field of a step and returns what is stored of it; it raises `BadRow` with a
sentence that begins with `place`, such as "step 2, lookup, ".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.readers.rows import BadRow, refuse_unknown, show_name
from tasks.kind import CannotSay
from tasks.rest.references import PART, check_part, of_part, references
from workers.answer.guards import READS, Guard, Meaning
from workers.http.request import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.settings.client import ClientSettings

#: Methods of a look-up, which has no effect; some providers search by POST.
LOOKUP_METHODS: Final = ("GET", "HEAD", "POST")
#: Seconds between two polls, and polls at most, of a poll that does not say so; and the most.
EVERY_S, TIMES = 10, 60
MAX_EVERY_S, MAX_TIMES = 86_400, 10_000
#: Most parts of a step, and most conditions of one field.
MAX_PARTS: Final = 1000
MAX_CONDITIONS: Final = 10

#: The tables of fields: field → its meaning.
REQUEST_FIELDS: Final = {
    "method": "The HTTP method.",
    "path": "The path and query below the client's `base_url`.",
    "headers": "Headers beside those that Headgate sets.",
    "body": "The body: any JSON value.",
}
LOOKUP_FIELDS: Final = {
    **REQUEST_FIELDS,
    "found": "The condition on the answer when the send was executed.",
    "absent": "The condition when it was not; default: 404, 410, 204, or any other 2xx of JSON.",
}
CONDITION_FIELDS: Final = {
    "status": "The status of the answer, 200 to 499; default: any 2xx.",
    "at": "JSON pointer to what must be there, and not null; default: the whole body.",
    "equals": "JSON pointers seen from `at`, each with the value that must stand there.",
    "id": "JSON pointer seen from `at` to what the provider calls the result.",
}
POLL_FIELDS: Final = {
    "until": "A condition, or a list of them: one that fits means ready.",
    "failed": "A condition, or a list of them: one that fits means that it will never be ready.",
    "every_s": f"Seconds between two polls; default {EVERY_S}.",
    "times": f"Polls at most; default {TIMES}.",
}

_CONTENT_TYPE: Final = "Content-Type"
_POINTER: Final = re.compile(r"(/([^~/]|~[01])*)*")
#: A refusal that an earlier send may have caused: not 401, 408, 429.
#: Longest path with its query, characters: most servers refuse a longer one (414).
MAX_PATH: Final = 8_192
_REFUSAL: Final = re.compile(r"4(?!01|08|29)\d\d( [A-Za-z0-9._-]{1,64})?")
#: Statuses that a condition may name.
_LOWEST, _HIGHEST = 200, 499
_SAY_NOTHING: Final = (401, 429)


def read_request(
    given: Mapping[str, Any], client: ClientSettings, place: str, methods: Sequence[str]
) -> dict[str, Any]:
    """The request of a step or look-up, checked, with one of these methods; raises `BadRow`."""
    method, path = given.get("method"), given.get("path")
    if not isinstance(method, str) or method.upper() not in methods:
        raise BadRow(f"{place}method: must be one of {' '.join(methods)}")
    if not isinstance(path, str):
        raise BadRow(f"{place}path: must be text")
    if len(path) > MAX_PATH:
        raise BadRow(f"{place}path: is longer than {MAX_PATH:,} characters; use the body")
    step: dict[str, Any] = {"method": method.upper(), "path": path}
    if (headers := given.get("headers")) is not None:
        step["headers"] = _read_headers(headers, client, place)
    if (body := given.get("body")) is not None:
        step["body"] = body
    try:
        Request(step["method"], path, step.get("headers", {}))
    except ValueError as error:
        raise BadRow(f"{place}{error}") from None
    return step


def _read_headers(given: object, client: ClientSettings, place: str) -> dict[str, str]:
    if not isinstance(given, dict):
        raise BadRow(f"{place}headers: must be a JSON object")
    key = client.api_key_header or "Authorization"
    reserved = {"authorization", client.idempotency_header.lower(), key.lower()}
    headers = {}
    for name, value in given.items():
        if name.lower() in reserved:
            raise BadRow(f"{place}headers: {show_name(name)} is set by Headgate; leave it out")
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            raise BadRow(
                f"{place}headers: the value of {show_name(name)} must be printable ASCII text"
            )
        # A step completes this one header itself, by this very name.
        headers[_CONTENT_TYPE if name.lower() == _CONTENT_TYPE.lower() else name] = value
    if len(headers) < len(given):
        raise BadRow(f"{place}headers: Content-Type is given twice")
    return headers


def read_lookup(given: object, client: ClientSettings, place: str) -> dict[str, Any]:
    """The look-up of a step, checked; raises `BadRow`."""
    if not isinstance(given, dict):
        raise BadRow(f"{place}: must be a JSON object")
    refuse_unknown(given, LOOKUP_FIELDS, f"{place}, ")
    lookup = read_request(given, client, f"{place}, ", LOOKUP_METHODS)
    for name in ("found", "absent"):
        if name == "found" or given.get(name) is not None:
            lookup[name] = read_condition(given.get(name), lookup["method"], f"{place}, {name}")
    return lookup


def read_meanings(given: object, guard: Guard, place: str) -> dict[str, str]:
    """What a refusal after an unknown attempt means, by status; raises `BadRow`."""
    place = f"{place}after_unknown"
    if guard not in (Guard.KEY, Guard.UPSERT):
        raise BadRow(f"{place}: is for guards key and upsert; with another one leave it out")
    if not isinstance(given, dict) or not all(map(_REFUSAL.fullmatch, given)):
        raise BadRow(
            f'{place}: must be a JSON object whose fields are named like "409" or "409 code"'
        )
    known = set(Meaning)
    if not all(isinstance(meaning, str) and meaning in known for meaning in given.values()):
        raise BadRow(f"{place}: a meaning must be one of {' '.join(Meaning)}")
    return given


def read_condition(given: object, method: str, place: str) -> dict[str, Any]:
    """A condition on the answer to a request of this method, checked; raises `BadRow`."""
    if not isinstance(given, dict) or not given:
        raise BadRow(f"{place}: must be a JSON object with some of {' '.join(CONDITION_FIELDS)}")
    refuse_unknown(given, CONDITION_FIELDS, f"{place}, ")
    if method == "HEAD" and given.keys() - {"status"}:
        raise BadRow(f"{place}: the answer to HEAD has no body; use GET or status alone")
    status = given.get("status", _LOWEST)
    if type(status) is not int or not _LOWEST <= status <= _HIGHEST:
        raise BadRow(f"{place}, status: must be a number from {_LOWEST} to {_HIGHEST}")
    if status in _SAY_NOTHING:
        raise BadRow(f"{place}, status: {status} says nothing of what was sent; use another one")
    for name in ("at", "id"):
        _check_pointer(given.get(name, ""), f"{place}, {name}")
    equals = given.get("equals", {})
    if not isinstance(equals, dict):
        raise BadRow(f"{place}, equals: must be a JSON object, JSON pointer to value")
    for pointer in equals:
        _check_pointer(pointer, f"{place}, equals")
    return given


def _check_pointer(given: object, place: str) -> None:
    if not isinstance(given, str) or not _POINTER.fullmatch(given):
        raise BadRow(f'{place}: must be a JSON pointer such as "/entities/0"')


def read_poll(given: object, method: str, place: str) -> dict[str, Any]:
    """The poll of a step, checked, its conditions as lists; raises `BadRow`."""
    place = f"{place}poll"
    if method not in READS:
        raise BadRow(f"{place}: is for GET and HEAD, which have no effect")
    if not isinstance(given, dict):
        raise BadRow(f"{place}: must be a JSON object")
    refuse_unknown(given, POLL_FIELDS, f"{place}, ")
    every_s, times = given.get("every_s", EVERY_S), given.get("times", TIMES)
    if type(every_s) not in (int, float) or not 0 < every_s <= MAX_EVERY_S:
        raise BadRow(
            f"{place}, every_s: must be a number of seconds above 0, at most {MAX_EVERY_S}"
        )
    if type(times) is not int or not 1 <= times <= MAX_TIMES:
        raise BadRow(f"{place}, times: must be a whole number from 1 to {MAX_TIMES}")
    poll = {"every_s": every_s, "times": times}
    for name in ("until", "failed"):
        if name == "until" or given.get(name) is not None:
            poll[name] = _read_conditions(given.get(name), method, f"{place}, {name}")
    return poll


def _read_conditions(given: object, method: str, place: str) -> list[dict[str, Any]]:
    conditions = given if isinstance(given, list) else [given]
    if not 1 <= len(conditions) <= MAX_CONDITIONS:
        raise BadRow(f"{place}: must be a condition, or a list of 1 to {MAX_CONDITIONS} of them")
    return [read_condition(condition, method, place) for condition in conditions]


def read_parts(given: object, step: Mapping[str, Any], place: str) -> list[dict[str, Any]]:
    """The parts of a step, checked; raises `BadRow`."""
    if step["method"] in READS:
        raise BadRow(f"{place}parts: are for calls that have an effect; give each read a step")
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_PARTS:
        raise BadRow(f"{place}parts: must be a list of 1 to {MAX_PARTS} JSON objects")
    for number, part in enumerate(given, 1):
        if not isinstance(part, dict):
            raise BadRow(f"{place}parts, part {number}: must be a JSON object")
        for reference in references(step, [PART]):
            if of_part(part, reference) is None:
                raise BadRow(
                    f"{place}parts, part {number}: has no value for {{{show_name(reference)}}}"
                )
        try:
            check_part(step, part)
        except (CannotSay, ValueError) as error:
            raise BadRow(f"{place}parts, part {number}: {error}") from None
    return given
