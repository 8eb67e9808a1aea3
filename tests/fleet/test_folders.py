"""Folders below one configuration are one installation: one store, one quota, one list of jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from workers.store.embedded import stop_embedded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
[clients.acme]
provider = "rest"
base_url = "http://127.0.0.1:9"
auth = "none"
limits = [{name = "app", count = 10, window_s = 1, shape = "bucket"}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A folder with a configuration, and two folders below it."""
    (tmp_path / "headgate.toml").write_text(CONFIG)
    (tmp_path / "web").mkdir()
    (tmp_path / "jobs" / "nightly").mkdir(parents=True)
    yield tmp_path
    stop_embedded(tmp_path / ".headgate")


def ended(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in this folder, with no configuration of the environment."""
    environment = {name: value for name, value in os.environ.items() if "HEADGATE" not in name}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


def run(folder: Path, *arguments: str) -> str:
    """What a command in this folder prints."""
    result = ended(folder, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_commands_and_celery_in_three_folders_use_one_store(project: Path) -> None:
    folders = [project, project / "web", project / "jobs" / "nightly"]
    rows = project / "web" / "rows.jsonl"
    rows.write_text(json.dumps({"id": "1", "method": "POST", "path": "/x", "guard": "key"}) + "\n")

    headgate = ("-m", "orchestration.cli")
    run(project / "web", *headgate, "submit", "calls", str(rows), "--client", "acme")

    listed = [run(folder, *headgate, "jobs", "--json") for folder in folders]
    assert len(json.loads(listed[0])) == 1
    assert len({json.loads(text)[0]["job"] for text in listed}) == 1
    celery = "from workers.app import app; print(app.conf.broker_url)"
    assert len({run(folder, "-c", celery) for folder in folders}) == 1
    assert [path.parent for path in project.rglob(".headgate")] == [project]


@pytest.mark.parametrize("command", [["inspect", "ping"], ["worker"], ["flower"], ["report"]])
def test_celery_without_a_configuration_says_one_sentence(
    command: list[str], tmp_path: Path
) -> None:
    result = ended(tmp_path, "-m", "celery", "-A", "workers.app", *command)

    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    (sentence,) = [line for line in result.stderr.splitlines() if "configuration" in line]
    assert sentence.startswith("Error: there is no configuration: ")
    assert list(tmp_path.iterdir()) == []
