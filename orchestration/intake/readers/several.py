"""Steps of several calls as they are given: polls, and parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.readers.lookups import read_condition
from orchestration.intake.readers.rows import Bad, only, shown
from tasks.kind import CannotSay
from tasks.rest.calls import PART, check_part, of_part, references
from workers.answer.guards import READS

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How often, and how many times at most, a poll asks unless it says so.
EVERY_S, TIMES = 10, 60
MAX_EVERY_S, MAX_TIMES, MAX_PARTS = 86_400, 10_000, 1000
#: Conditions of one field.
MAX_CONDITIONS: Final = 10

_POLL = ("until", "failed", "every_s", "times")


def read_poll(given: Any, method: str, place: str) -> dict[str, Any]:  # noqa: ANN401 -- any JSON
    """The poll of a step, checked, its conditions as lists; raises `Bad`."""
    place = f"{place}poll"
    if method not in READS:
        raise Bad(f"{place}: is for GET and HEAD, which have no effect")
    if not isinstance(given, dict):
        raise Bad(f"{place}: must be a JSON object")
    only(given, _POLL, f"{place}, ")
    every_s, times = given.get("every_s", EVERY_S), given.get("times", TIMES)
    if type(every_s) not in (int, float) or not 0 < every_s <= MAX_EVERY_S:
        raise Bad(f"{place}, every_s: must be a number of seconds above 0, at most {MAX_EVERY_S}")
    if type(times) is not int or not 1 <= times <= MAX_TIMES:
        raise Bad(f"{place}, times: must be a whole number from 1 to {MAX_TIMES}")
    poll = {"every_s": every_s, "times": times}
    for name in ("until", "failed"):
        if name == "until" or given.get(name) is not None:
            poll[name] = _conditions(given.get(name), method, f"{place}, {name}")
    return poll


def _conditions(given: Any, method: str, place: str) -> list[dict[str, Any]]:  # noqa: ANN401
    several = given if isinstance(given, list) else [given]
    if not 1 <= len(several) <= MAX_CONDITIONS:
        raise Bad(f"{place}: must be a condition, or a list of 1 to {MAX_CONDITIONS} of them")
    return [read_condition(it, method, place) for it in several]


def read_parts(given: Any, step: Mapping[str, Any], place: str) -> list[dict[str, Any]]:  # noqa: ANN401
    """The parts of a step, checked; raises `Bad`."""
    if step["method"] in READS:
        raise Bad(f"{place}parts: are for calls that have an effect; give each read a step")
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_PARTS:
        raise Bad(f"{place}parts: must be a list of 1 to {MAX_PARTS} JSON objects")
    for number, part in enumerate(given, 1):
        if not isinstance(part, dict):
            raise Bad(f"{place}parts, part {number}: must be a JSON object")
        for it in references(step, [PART]):
            if of_part(part, it) is None:
                raise Bad(f"{place}parts, part {number}: has no value for {{{shown(it)}}}")
        try:
            check_part(step, part)
        except (CannotSay, ValueError) as error:
            raise Bad(f"{place}parts, part {number}: {error}") from None
    return given
