"""The world of the tests of commands, for commands that start real processes."""

from __future__ import annotations

from tests.unit.cli.conftest import world

__all__ = ["world"]
