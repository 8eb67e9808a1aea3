"""Values of the configuration that stand in variables; JSON in one is read as strictly as TOML."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_settings import EnvSettingsSource

from workers.errors import ConfigError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class Environment(EnvSettingsSource):
    """The variables of the configuration."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: str) -> object:
        """Decode JSON; `ValueError` where it is none, `ConfigError` for a name given twice."""
        del field
        return json.loads(value, object_pairs_hook=partial(_read_object, field_name))


def _read_object(field_name: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ConfigError(
            f"environment: the JSON for {field_name} gives one name twice in an object; keep one "
            f"of them"
        )
    return members
