"""What every part of the configuration is made of: a frozen model that knows its own keys."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Names that may stand in store keys, messages and headers.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
#: A span of time that a person would wait for.
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Model(BaseModel):
    """A section of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:  # noqa: ANN401 -- raw TOML, checked by the model
        """Say what else the key could be."""
        if isinstance(data, dict):
            require_known(data, cls.model_fields)
        return data


def require_known(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a key that is none of the known ones with a `ValueError` that names the nearest."""
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"unknown key {key!r}; {hint}")


def require_plain(what: str, name: str) -> None:
    """Refuse a name that may not stand in store keys, messages and headers."""
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"{what} {name!r}: use at most 64 letters, digits, dots, dashes and underscores"
        )
