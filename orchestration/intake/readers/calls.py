"""Rows of kind `calls`, from JSON lines.

A line is one request, `{"id", "method", "path", "body", "headers", "guard", "lookup",
"after_unknown", "poll", "parts", "tenant", "lane"}`, or a chain of them, `{"id", "steps":
[{"name", "method", …}], "tenant", "lane"}`. Both become rows with steps; a single request is the
step `call`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, Never

from orchestration.intake.readers.lookups import read_lookup, read_meanings
from orchestration.intake.readers.requests import read_request
from orchestration.intake.readers.rows import (
    BAD_ID,
    TOO_LONG,
    Bad,
    is_id,
    only,
    rejected,
    shown,
    turn_of,
)
from orchestration.intake.readers.several import read_parts, read_poll
from tasks.rest.calls import GUARDS, PART, REFERENCE, guard_of, references
from workers.answer.guards import READS, Guard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestration.intake.readers.source import Line
    from workers.ledger.ledger import Row
    from workers.settings.client import ClientSettings

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MAX_STEPS: Final = 20
#: Deepest nesting of objects and arrays in a line.
MAX_DEPTH: Final = 64

_ROW = frozenset(("id", "tenant", "lane"))
_STEP = frozenset(
    ("method", "path", "headers", "body", "guard", "lookup", "after_unknown", "poll", "parts")
)
_SINGLE, _CHAIN, _NAMED = _ROW | _STEP, _ROW | {"steps"}, _STEP | {"name"}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_calls(lines: Iterable[Line], client: ClientSettings) -> Iterator[Row]:
    """One row a line, good or rejected; blank lines are none."""
    for number, text in lines:
        if text is None:
            yield rejected(number, TOO_LONG)
        elif text.strip():
            yield _row(number, text, client)


def _row(number: int, text: str, client: ClientSettings) -> Row:
    given: Any = None
    try:
        given = parse(text)
        return {"line": number, **_checked(given, client)}
    except Bad as error:
        return rejected(number, str(error), given.get("id") if isinstance(given, dict) else None)


def _checked(given: Any, client: ClientSettings) -> Row:  # noqa: ANN401 -- any JSON value
    if not isinstance(given, dict):
        raise Bad("must be a JSON object")
    is_chain = "steps" in given
    beside = ' beside "steps"' if is_chain and given.keys() - _CHAIN <= _STEP else ""
    only(given, _CHAIN if is_chain else _SINGLE, beside=beside)
    if not is_id(given.get("id")):
        raise Bad(f"id: {BAD_ID}")
    row: Row = {"id": given["id"], **turn_of(given, client)}
    if is_chain:
        row["steps"] = _chain(given["steps"], client)
    else:
        step = _step(given, client, "")
        _paths_refer(step, (), "")
        row["steps"] = [{"name": "call", **step}]
    return row


def _chain(given: Any, client: ClientSettings) -> list[dict[str, Any]]:  # noqa: ANN401
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_STEPS:
        raise Bad(f"steps: must be a list of 1 to {MAX_STEPS} steps")
    steps, names = [], list[str]()
    for number, it in enumerate(given, 1):
        place = f"step {number}, "
        if not isinstance(it, dict):
            raise Bad(f"step {number}: must be a JSON object")
        only(it, _NAMED, place)
        name = it.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Bad(f"{place}name: must be text of 1 to 64 characters out of A-Z a-z 0-9 _ -")
        if name == PART and any("parts" in one for one in given if isinstance(one, dict)):
            raise Bad(f"{place}name: {PART} means a part of steps with parts; use another one")
        if name in names:
            raise Bad(f"{place}name: step {names.index(name) + 1} has the same one")
        names.append(name)
        steps.append({"name": name, **_step(it, client, place)})
    for index, step in enumerate(steps):
        _refers_back(step, names, index)
    _all_run(steps, client)
    return steps


def _refers_back(step: dict[str, Any], names: Sequence[str], index: int) -> None:
    """Only the answers of earlier steps can be used."""
    place = f"step {index + 1}, "
    _paths_refer(step, names[:index], place)
    for wrong in references(step, names[index:]):
        raise Bad(f"{place}{{{shown(wrong)}}} refers to no earlier step of this row")


def _paths_refer(step: dict[str, Any], earlier: Sequence[str], place: str) -> None:
    earlier = [*earlier, PART] if "parts" in step else earlier
    _path_refers(step["path"], earlier, place)
    if "lookup" in step:
        _path_refers(step["lookup"]["path"], earlier, f"{place}lookup, ")


def _path_refers(path: str, earlier: Sequence[str], place: str) -> None:
    """Braces in a path are references; sent as they stand they would ask for something else."""
    for name, field in REFERENCE.findall(path):
        if name not in earlier:
            wrong = shown(name + field)
            raise Bad(f"{place}path: {{{wrong}}} refers to no earlier step of this row")
    if set("{}").intersection(REFERENCE.sub("", path)):
        raise Bad(f"{place}path: has a brace outside of a reference; quote it as %7B or %7D")


def _all_run(steps: Sequence[dict[str, Any]], client: ClientSettings) -> None:
    """Under one key a provider answers the second of two equal calls without running it."""
    if client.key_scope == "step":
        return
    writes = [
        (n, it)
        for n, it in enumerate(steps, 1)
        if it["method"] not in READS and len(it.get("parts", ())) <= 1  # else they have their own
    ]
    for (first, one), (second, other) in combinations(writes, 2):
        if _place(one) != _place(other):
            continue
        guards = guard_of(one, client), guard_of(other, client)
        if client.idempotency == "key" or Guard.KEY in guards:
            raise Bad(
                f"step {second} ({other['name']}): has method, path and key of step {first} "
                f"({one['name']}), so the provider would not run it; set key_scope = "
                f'"step" for the client'
            )


def _place(step: dict[str, Any]) -> tuple[str, str]:
    """What a provider compares beside the key."""
    return step["method"], step["path"].partition("?")[0]


def _step(given: dict[str, Any], client: ClientSettings, place: str) -> dict[str, Any]:
    step, guard = read_request(given, client, place, METHODS), given.get("guard")
    if guard is not None:
        if not isinstance(guard, str) or guard not in GUARDS:
            raise Bad(f"{place}guard: must be one of {' '.join(GUARDS)}")
        step["guard"] = guard
    if (guard == "lookup") != (given.get("lookup") is not None):
        raise Bad(f'{place}guard: guard "lookup" and the field lookup go together; add the other')
    if guard == "lookup":
        step["lookup"] = read_lookup(given["lookup"], client, f"{place}lookup")
    if (said := given.get("after_unknown")) is not None:
        step["after_unknown"] = read_meanings(said, guard_of(step, client), place)
    if (poll := given.get("poll")) is not None:
        if given.get("parts") is not None or guard is not None:
            raise Bad(f"{place}poll: goes with neither parts nor a guard")
        step["poll"] = read_poll(poll, step["method"], place)
    if (parts := given.get("parts")) is not None:
        step["parts"] = read_parts(parts, step, place)
    return step


def parse(text: str) -> Any:  # noqa: ANN401 -- any JSON value
    """A JSON value that can be written again as it was read; raises `Bad`."""
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at").rstrip(": ")
        raise Bad(f"is not JSON: {what} at column {error.colno}") from None
    except RecursionError:
        raise Bad(f"is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        raise Bad("holds a number of too many digits") from None
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise Bad(f"is nested deeper than {MAX_DEPTH} levels")
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Bad("holds half of a surrogate pair, which is no character") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise Bad(f"{shown(names.most_common(1)[0][0])}: given twice in one object")
    return found


def _not_finite(constant: str) -> Never:
    raise Bad(f"is not JSON: {constant} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Bad("holds a number that is too large")
    return number


# Made once: to make one for each line costs half of the reading.
_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_not_finite, parse_float=_finite
).decode


def _depth(value: Any) -> int:  # noqa: ANN401 -- any JSON value
    depth, level = 0, [value]
    while level := [it for it in level if isinstance(it, dict | list)]:
        depth += 1
        level = [part for it in level for part in (it.values() if isinstance(it, dict) else it)]
    return depth
