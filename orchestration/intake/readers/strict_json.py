"""A JSON value of a row, read strictly: nothing in it is dropped, guessed or too much."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Final, Never

from orchestration.intake.readers.rows import BadRow, show_name

#: Deepest nesting of objects and arrays in a line.
MAX_DEPTH: Final = 64
#: Most values in a row: each takes up to 240 bytes in the memory of a thread that sends it, though
#: it be three on the line.
MAX_VALUES: Final = 20_000


def parse(text: str) -> object:
    """A JSON value that can be written again as it was read; raises `BadRow`."""
    try:
        value: object = _decode(text)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at").rstrip(": ")
        raise BadRow(f"is not JSON: {what} at column {error.colno}") from None
    except RecursionError:
        raise BadRow(f"is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        raise BadRow("holds a number of too many digits") from None
    _require_bounded(text, value)
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadRow("holds half of a surrogate pair, which is no character") from None
    return value


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise BadRow(f"{show_name(names.most_common(1)[0][0])}: given twice in one object")
    return members


def _refuse_constant(constant: str) -> Never:
    raise BadRow(f"is not JSON: {constant} is no number")


def _read_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadRow("holds a number that is too large")
    return number


# There is one decoder: making one for each line would cost half of the reading.
_decode = json.JSONDecoder(
    object_pairs_hook=_read_object, parse_constant=_refuse_constant, parse_float=_read_number
).decode


def _require_bounded(text: str, value: object) -> None:
    """Refuse what is nested too deep, or has too many values, with `BadRow`."""
    containers = text.count("{") + text.count("[")
    if containers <= MAX_DEPTH and containers + text.count(",") < MAX_VALUES:
        return  # it cannot be either
    depth, values = _measure(value)
    if depth > MAX_DEPTH:
        raise BadRow(f"is nested deeper than {MAX_DEPTH} levels")
    if values > MAX_VALUES:
        raise BadRow(f"has {values:,} values, more than {MAX_VALUES:,}; make several rows of it")


def _measure(value: object) -> tuple[int, int]:
    """How deep a value is nested, and how many values it has, itself included."""
    depth, values, level = 0, 1, [value]
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        level = [
            child for node in level for child in (node.values() if isinstance(node, dict) else node)
        ]
        values += len(level)
    return depth, values
