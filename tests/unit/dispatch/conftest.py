"""Fixtures of the command line, for tests of workers that look from there."""

from __future__ import annotations

from tests.unit.cli.conftest import world

__all__ = ["world"]
