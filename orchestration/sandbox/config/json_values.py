"""JSON values: their types, and how a JSON object becomes a dataclass of the configuration."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, Final, Literal, NoReturn, TypeAlias, TypeVar, Union

#: Any JSON value, as `json.loads` returns it.
Json: TypeAlias = Any
#: A JSON object, as `json.loads` returns it.
JsonObject: TypeAlias = dict[str, Any]

#: A type hint of a dataclass field; hints have no common type.
_Hint: TypeAlias = Any
_T = TypeVar("_T")
#: Larger numbers mean nothing, neither do infinity and NaN.
_LARGEST: Final = 2**53


class InvalidConfig(ValueError):
    """The configuration names a field or a value that does not exist."""


def parse_json(text: str | bytes) -> Json:
    """Parse JSON; `ValueError` where it is none, or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def build_from_json(cls: type[_T], raw: object, where: str) -> _T:
    """Build the dataclass `cls` from a JSON object, and check names and types at every level.

    Args:
        cls: The dataclass to build.
        raw: What `json.loads` returned.
        where: The path of the object in the configuration, for error messages.

    Raises:
        InvalidConfig: A field is unknown or missing, or a value has the wrong type or range.
    """
    if not isinstance(raw, dict):
        raise InvalidConfig(f"{where} must be a JSON object, got {type(raw).__name__}")
    hints = typing.get_type_hints(cls)
    if unknown := sorted(set(raw) - set(hints)):
        raise InvalidConfig(f"{where} has unknown fields {unknown}; known are {sorted(hints)}")
    values = {name: _read(hints[name], value, f"{where}.{name}") for name, value in raw.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise InvalidConfig(f"{where} lacks a required field: {error}") from error
    except InvalidConfig as error:
        raise InvalidConfig(f"{where}: {error}") from error


def _read(hint: _Hint, value: object, where: str) -> object:
    """Return the value in the type that `hint` asks for; InvalidConfig if it does not fit."""
    origin: object = typing.get_origin(hint)
    choices = typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _read_union(hint, value, where)
    if dataclasses.is_dataclass(hint):
        return build_from_json(typing.cast("type[object]", hint), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_read(choices[0], item, f"{where}[{n}]") for n, item in enumerate(value))
    if origin is Literal:
        if value not in choices:
            _refuse(where, ", ".join(map(str, choices)), repr(value))
    elif origin is dict:
        # The values of a dict are secrets, so the message names only the type.
        if not isinstance(value, dict) or not all(
            isinstance(item, choices[1]) for item in value.values()
        ):
            _refuse(where, _name_of(hint), type(value).__name__)
    elif not _is_plain(hint, value):
        _refuse(where, _name_of(hint), repr(value))
    elif isinstance(value, int | float) and not abs(value) < _LARGEST:
        _refuse(where, "a number below 2^53", "another")
    return value


def _read_union(hint: _Hint, value: object, where: str) -> object:
    choices = typing.get_args(hint)
    if value is None and type(None) in choices:
        return None
    kinds = tuple(kind for kind in choices if kind is not type(None))
    if len(kinds) == 1:
        return _read(kinds[0], value, where)
    if not isinstance(value, kinds):
        _refuse(where, _name_of(hint), repr(value))
    return value


def _is_plain(hint: _Hint, value: object) -> bool:
    """Tell whether a value has a plain type; an int is a float, and a bool is neither."""
    origin: object = typing.get_origin(hint)
    if origin is tuple:
        return False
    kinds = (int, float) if hint is float else (hint,)
    return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))


def _name_of(hint: _Hint) -> str:
    return str(getattr(hint, "__name__", hint))


def _refuse(where: str, expected: str, got: str) -> NoReturn:
    raise InvalidConfig(f"{where} must be {expected}, got {got}")
