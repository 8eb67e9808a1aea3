"""The Docker engine, where there is one: commands, and the product's image."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.support.fleet import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DOCKER = "docker"


def docker(*command: str, check: bool = True, timeout_s: float = 60) -> str:
    """What a command prints."""
    done = subprocess.run(
        [DOCKER, *command], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert not check or done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def answers() -> bool:
    """Whether there is an engine."""
    version = ("version", "--format", "{{.Server.Version}}")
    return bool(shutil.which(DOCKER) and docker(*version, check=False))


def find_pinned(folder: Path) -> None:
    """Let an engine without a registry take what it has of a minor release for the pinned one."""
    text = "".join((folder / name).read_text() for name in ("compose.yaml", "Dockerfile"))
    for name, minor, end in re.findall(r"(?:image: |FROM )((\w+:\d+\.\d+)\.\d+(-\w+)?)", text):
        if not docker("image", "ls", "-q", name):
            docker("tag", minor + end, name, check=False)  # else it is pulled


def copy_project(folder: Path) -> Path:
    """What an image is built from, and compose.yaml with what is beside it; returns `folder`."""
    for part in ("workers", "tasks", "orchestration", "compose"):
        skipped = shutil.ignore_patterns("__pycache__", "secrets")
        shutil.copytree(ROOT / part, folder / part, ignore=skipped)
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, folder)
    return folder
