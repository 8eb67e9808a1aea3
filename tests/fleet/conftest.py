"""Fixtures of the unit tests, for tests that start real processes."""

from __future__ import annotations

from tests.unit.conftest import world
from tests.unit.intake.conftest import desk

__all__ = ["desk", "world"]
