"""The legend of the stored names, as Lua's prelude says it."""

from __future__ import annotations

import re
from typing import Final

from tests.support.source import ROOT

PRELUDE: Final = ROOT / "workers/lua/prelude.lua"

#: A line of a comment: where, stored name, full name, meaning.
_COMMENT: Final = re.compile(r"--   (key|gov|overrides|oauth|breaker)\.(\S+) +(\S+)(?: +(.+))?")
#: A table of the fields of a hash, and one row of it: full name, stored name, meaning.
_TABLE: Final = re.compile(r"^local (TX|JOB) = \{\n(.*?)^\}$", re.MULTILINE | re.DOTALL)
_ROW: Final = re.compile(r'  (?:\["([\w.]+)"\]|(\w+)) = "([^"]+)",(?: +-- (.+))?')


def read_legend() -> dict[str, dict[str, str]]:
    """Where → stored name → full name: `tx` and `job` from their tables, the rest from comments."""
    legend: dict[str, dict[str, str]] = {}

    def add(where: str, stored: str, full: str) -> None:
        fields = legend.setdefault(where, {})
        assert stored not in fields, f"{where}.{stored} stands twice"
        assert full not in fields.values(), f"{where} has two names for {full}"
        fields[stored] = full

    text = PRELUDE.read_text("utf-8")
    for line in text.splitlines():
        if entry := _COMMENT.fullmatch(line):
            add(entry[1], entry[2], entry[3])
    for table, rows in _TABLE.findall(text):
        for line in rows.splitlines():
            row = _ROW.fullmatch(line)
            assert row, f"{table} has a row that is no constant: {line}"
            add(table.lower(), row[3], row[1] or row[2])
    return legend
