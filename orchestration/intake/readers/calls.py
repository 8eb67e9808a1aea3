"""Rows of kind `calls`, from JSON lines.

A line is one request with the fields of `ROW_FIELDS` and `STEP_FIELDS`, or a chain of them:
`{"id", "steps": [{"name", "method", …}], "tenant", "lane"}`. Both become rows with steps; a single
request is the step `call`.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.readers.rows import (
    BAD_ID,
    TOO_LONG,
    TURN_FIELDS,
    BadRow,
    is_id,
    json_lines,
    read_turn,
    refuse_unknown,
    reject,
    show_name,
)
from orchestration.intake.readers.steps import (
    REQUEST_FIELDS,
    read_lookup,
    read_meanings,
    read_parts,
    read_poll,
    read_request,
)
from orchestration.intake.readers.strict_json import parse
from tasks.rest.calls import GUARDS, guard_of
from tasks.rest.references import PART, REFERENCE, references
from workers.answer.guards import READS, Guard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestration.intake.readers.source import NumberedLine
    from workers.ledger.ledger import Row
    from workers.settings.client import ClientSettings

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MAX_STEPS: Final = 20

#: The tables of fields: field → its meaning. A row has `steps`, or the fields of a step itself.
ROW_FIELDS: Final = {
    "id": "What you call the row: 1 to 128 characters out of A-Z a-z 0-9 . _ : @ + -",
    **TURN_FIELDS,
}
STEP_FIELDS: Final = {
    **REQUEST_FIELDS,
    "guard": "What protects a second send: `key`, `upsert`, `lookup` or `none`.",
    "lookup": "The call that asks what became of a send; for guard `lookup`.",
    "after_unknown": "What a refusal after an unknown attempt means, by its status.",
    "poll": "What a GET or HEAD waits for.",
    "parts": "Objects for each of which the step is sent once; `{part.…}` stands for their values.",
}
CHAIN_FIELDS: Final = {
    **ROW_FIELDS,
    "steps": f"1 to {MAX_STEPS} steps, which are sent one after the other.",
}
NAMED_STEP_FIELDS: Final = {
    "name": "What later steps call this one, 1 to 64 characters out of A-Z a-z 0-9 _ -",
    **STEP_FIELDS,
}

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_calls(lines: Iterable[NumberedLine], client: ClientSettings) -> Iterator[Row]:
    """One row a line, good or rejected; blank lines are none; errors as `json_lines`."""
    for number, text in json_lines(lines):
        if text is None:
            yield reject(number, TOO_LONG)
        else:
            yield _read_line(number, text, client)


def _read_line(number: int, text: str, client: ClientSettings) -> Row:
    given: object = None
    try:
        given = parse(text)
        return {"line": number, **_read_row(given, client)}
    except BadRow as error:
        return reject(number, str(error), given.get("id") if isinstance(given, dict) else None)


def _read_row(given: object, client: ClientSettings) -> Row:
    if not isinstance(given, dict):
        raise BadRow("must be a JSON object")
    is_chain = "steps" in given
    is_both = is_chain and given.keys() - CHAIN_FIELDS.keys() <= STEP_FIELDS.keys()
    fields = CHAIN_FIELDS if is_chain else {**ROW_FIELDS, **STEP_FIELDS}
    refuse_unknown(given, fields, beside=' beside "steps"' if is_both else "")
    if not is_id(given.get("id")):
        raise BadRow(f"id: {BAD_ID}")
    row: Row = {"id": given["id"], **read_turn(given, client)}
    if is_chain:
        row["steps"] = _read_chain(given["steps"], client)
    else:
        step = _read_step(given, client, "")
        _check_paths(step, (), "")
        row["steps"] = [{"name": "call", **step}]
    return row


def _read_chain(given: object, client: ClientSettings) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_STEPS:
        raise BadRow(f"steps: must be a list of 1 to {MAX_STEPS} steps")
    has_parts = any("parts" in step for step in given if isinstance(step, dict))
    steps, names = [], list[str]()
    for number, step in enumerate(given, 1):
        place = f"step {number}, "
        if not isinstance(step, dict):
            raise BadRow(f"step {number}: must be a JSON object")
        refuse_unknown(step, NAMED_STEP_FIELDS, place)
        name = step.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadRow(f"{place}name: must be text of 1 to 64 characters out of A-Z a-z 0-9 _ -")
        if name == PART and has_parts:
            raise BadRow(f"{place}name: {PART} means a part of steps with parts; use another one")
        if name in names:
            raise BadRow(f"{place}name: step {names.index(name) + 1} has the same one")
        names.append(name)
        steps.append({"name": name, **_read_step(step, client, place)})
    for index, step in enumerate(steps):
        _check_references(step, names, index)
    _check_all_run(steps, client)
    return steps


def _check_references(step: Mapping[str, Any], names: Sequence[str], index: int) -> None:
    """A step can use only the answers of earlier steps."""
    place = f"step {index + 1}, "
    _check_paths(step, names[:index], place)
    for reference in references(step, names[index:]):
        raise BadRow(f"{place}{{{show_name(reference)}}} refers to no earlier step of this row")


def _check_paths(step: Mapping[str, Any], earlier: Sequence[str], place: str) -> None:
    earlier = [*earlier, PART] if "parts" in step else earlier
    _check_path(step["path"], earlier, place)
    if "lookup" in step:
        _check_path(step["lookup"]["path"], earlier, f"{place}lookup, ")


def _check_path(path: str, earlier: Sequence[str], place: str) -> None:
    """Braces in a path are references; sent as they stand they would ask for something else."""
    for name, field in REFERENCE.findall(path):
        if name not in earlier:
            wrong = show_name(name + field)
            raise BadRow(f"{place}path: {{{wrong}}} refers to no earlier step of this row")
    if set("{}").intersection(REFERENCE.sub("", path)):
        raise BadRow(f"{place}path: has a brace outside of a reference; quote it as %7B or %7D")


def _check_all_run(steps: Sequence[Mapping[str, Any]], client: ClientSettings) -> None:
    """Refuse two equal writes: under one key a provider answers the second without running it."""
    if client.key_scope == "step":
        return
    writes = [
        (number, step)
        for number, step in enumerate(steps, 1)
        # Each part of several has a key of its own.
        if step["method"] not in READS and len(step.get("parts", ())) <= 1
    ]
    for (first, one), (second, other) in combinations(writes, 2):
        if _compared_with_key(one) != _compared_with_key(other):
            continue
        guards = guard_of(one, client), guard_of(other, client)
        if client.idempotency == "key" or Guard.KEY in guards:
            raise BadRow(
                f"step {second} ({other['name']}): has method, path and key of step {first} "
                f"({one['name']}), so the provider would not run it; set key_scope = "
                f'"step" for the client'
            )


def _compared_with_key(step: Mapping[str, Any]) -> tuple[str, str]:
    """What a provider compares beside the key: method, and path without its query."""
    return step["method"], step["path"].partition("?")[0]


def _read_step(given: Mapping[str, Any], client: ClientSettings, place: str) -> dict[str, Any]:
    step, guard = read_request(given, client, place, METHODS), given.get("guard")
    if guard is not None:
        if not isinstance(guard, str) or guard not in GUARDS:
            raise BadRow(f"{place}guard: must be one of {' '.join(GUARDS)}")
        step["guard"] = guard
    if (guard == "lookup") != (given.get("lookup") is not None):
        raise BadRow(
            f'{place}guard: guard "lookup" and the field lookup go together; add the other'
        )
    if guard == "lookup":
        step["lookup"] = read_lookup(given["lookup"], client, f"{place}lookup")
    if (meanings := given.get("after_unknown")) is not None:
        step["after_unknown"] = read_meanings(meanings, guard_of(step, client), place)
    if (poll := given.get("poll")) is not None:
        if given.get("parts") is not None or guard is not None:
            raise BadRow(f"{place}poll: goes with neither parts nor a guard")
        step["poll"] = read_poll(poll, step["method"], place)
    if (parts := given.get("parts")) is not None:
        step["parts"] = read_parts(parts, step, place)
    return step
