"""What workers with [notify] see of a world."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.notices import Looks

if TYPE_CHECKING:
    from tests.support.world import World


@pytest.fixture
def looks(world: World) -> Looks:
    """What workers with [notify] see of that world."""
    return Looks(world)
