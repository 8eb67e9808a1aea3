"""Reads what the store holds: JSON, records and numbers, whatever stands there instead. Pure.

A key may be damaged in any way: nested 100,000 times, a number of 400 digits, of another type. Who
reads has one failure to handle, `Unreadable`.
"""

from __future__ import annotations

import json
from dataclasses import fields
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: No number that is stored is as large: the scripts hold integers below 2^53.
LARGEST: Final = 2**53
#: Digits of an integer in JSON, which may be a provider's: every such number fits a float.
MOST_DIGITS: Final = 300

_Record = TypeVar("_Record")


class Unreadable(ValueError):
    """What is stored cannot be read."""


def read_json(text: str | None) -> Any:  # noqa: ANN401 -- a JSON value
    """The JSON value of a stored text.

    Raises:
        Unreadable: there is no text, or no JSON, or it holds a number that nobody can use.
    """
    try:
        return _DECODER.decode(text or "")
    except (ValueError, RecursionError):
        raise Unreadable("it is no JSON, or nested too deeply") from None


def read_integer(text: str) -> int:
    """The whole number of a stored text; raises `Unreadable`."""
    try:
        number = int(text)
    except ValueError:
        raise Unreadable("it is no number") from None
    if not -LARGEST < number < LARGEST:
        raise Unreadable("the number is too large")
    return number


def is_number(text: str | float) -> bool:
    """Whether this is a number as the scripts write them."""
    try:
        return abs(float(text)) < LARGEST
    except ValueError:
        return False


def number_of(text: str | float, default: int = 0) -> int:
    """The whole number of a stored text or score; the default where there is none, as in Lua."""
    return int(float(text)) if is_number(text) else default


def read_record(kind: type[_Record], text: str | None, *, exact: bool = False) -> _Record:
    """The dataclass `kind` of a stored JSON object.

    Args:
        kind: Its class.
        text: What is stored.
        exact: Fields that it does not know change what it means; else they are left out.

    Raises:
        Unreadable: the text is no JSON object, lacks a field, or one of them is of another type.
    """
    stored = read_json(text)
    if not isinstance(stored, dict):
        raise Unreadable("it is no JSON object")
    known = {one.name: str(one.type) for one in fields(kind) if one.name in stored}  # type: ignore[arg-type]
    if wrong := [name for name, hint in known.items() if not _FITS[hint](stored[name])]:
        raise Unreadable(f"{wrong[0]} is of another type")
    if exact and len(known) < len(stored):
        raise Unreadable("it has a field of another release")
    try:
        return kind(**{name: stored[name] for name in known})
    except TypeError:
        raise Unreadable("it lacks a field") from None


def _read_digits(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise Unreadable("the number is too large")
    return int(text)


def _read_float(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise Unreadable("the number is too large")
    return number


def _refuse(name: str) -> object:
    raise Unreadable(f"{name} is no number")


_DECODER: Final = json.JSONDecoder(
    parse_int=_read_digits, parse_float=_read_float, parse_constant=_refuse
)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return type(value) is int and abs(value) < LARGEST


def _is_float(value: object) -> bool:
    return type(value) in {int, float} and abs(value) < LARGEST  # type: ignore[arg-type]


def _or_none(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or fits(value)


def _of_names(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


#: The annotation of a field → whether a JSON value fits it.
_FITS: Final[Mapping[str, Callable[[object], bool]]] = {
    "str": _is_text,
    "bool": _is_flag,
    "int": _is_integer,
    "int | None": _or_none(_is_integer),
    "float": _is_float,
    "float | None": _or_none(_is_float),
    "Mapping[str, str]": _of_names(_is_text),
    "Mapping[str, int]": _of_names(_is_integer),
    "Mapping[str, int | None]": _of_names(_or_none(_is_integer)),
    "Mapping[str, Any]": lambda value: isinstance(value, dict),
}
