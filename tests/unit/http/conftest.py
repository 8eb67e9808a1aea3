"""Fixtures of the command line, for tests of connections that look from a whole configuration."""

from __future__ import annotations

from tests.unit.cli.conftest import world

__all__ = ["world"]
