"""What the sandbox is configured to do: the fields, their checks, and how JSON becomes them.

`config` holds the fields of the provider and its limits, `fault` those of faults and storms, and
`json_values` builds any of them from JSON. This package never counts a limit and never applies a
fault: it is data, and everything else reads it.
"""

from orchestration.sandbox.config.config import Config, Limit, compile_glob
from orchestration.sandbox.config.fault import Fault, FaultKind, Storm, When
from orchestration.sandbox.config.json_values import (
    InvalidConfig,
    Json,
    JsonObject,
    build_from_json,
    parse_json,
)

__all__ = [
    "Config",
    "Fault",
    "FaultKind",
    "InvalidConfig",
    "Json",
    "JsonObject",
    "Limit",
    "Storm",
    "When",
    "build_from_json",
    "compile_glob",
    "parse_json",
]
