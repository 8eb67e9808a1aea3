"""Every example in a docstring is true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from typing import TYPE_CHECKING

import orchestration
import tasks
import workers

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_every_example_in_a_docstring_gives_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "headgate.toml").touch()  # who looks at the Celery application reads one
    monkeypatch.chdir(tmp_path)
    tried = 0
    for room in (workers, tasks, orchestration):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if not module.name.endswith("__main__"):
                found = doctest.testmod(importlib.import_module(module.name))
                assert found.failed == 0, module.name
                tried += found.attempted
    assert tried
