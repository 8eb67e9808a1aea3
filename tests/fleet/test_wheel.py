"""The wheel: what a user installs works without the sources beside it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Lines of the demo's file that are sent here; the rest would only take time.
LINES = 400


def run(*command: object, cwd: Path) -> str:
    """What the command prints; it must succeed, without any setting of this machine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "HEADGATE_")) or name == "HEADGATE_STORE_BINARY"
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=kept, capture_output=True, text=True,
        timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its dependencies, but not the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check",
        "install", "--no-deps", "--no-index", wheel, cwd=folder)  # fmt: skip
    # A .pth file names the dependencies' folder; the .pth files in there, and with them an
    # editable install of the sources, do not count.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def test_the_demo_runs_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    python = installed / "bin" / "python"
    for room in ("orchestration", "tasks", "workers"):
        file = run(python, "-c", f"import {room}; print({room}.__file__)", cwd=tmp_path)
        assert Path(file).is_relative_to(installed)
        assert (Path(file).parent / "py.typed").is_file()
    shorten(next(installed.glob("lib/python*/site-packages/orchestration/demo/contacts.csv")))

    said = run(installed / "bin" / "headgate", "demo", cwd=tmp_path)

    assert f"{LINES:,} rows" in said
    assert said.splitlines()[-3:] == ["429s: 0", "lost: 0", "duplicates: 0"]


def shorten(contacts: Path) -> None:
    """Keep the head of the demo's file; a cell may hold a line break."""
    with contacts.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    with contacts.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows[: LINES + 1])
