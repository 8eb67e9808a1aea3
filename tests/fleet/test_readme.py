"""What the README tells a newcomer to type works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from click.testing import CliRunner

from orchestration.cli import main
from tests.conftest import free_port, hide_settings
from workers.settings.client import profiles
from workers.settings.load import load
from workers.store.embedded import stop_embedded

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def test_the_first_run_of_the_readme_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_settings(monkeypatch)
    (script,) = [it for it in BLOCKS if "headgate sandbox" in it]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        ran = subprocess.run(
            ["/bin/bash", "-e"],
            input=script.replace("8080", str(free_port())) + "wait\n",
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        stop_embedded(tmp_path / "first-run/.headgate")

    assert ran.returncode == 0, ran.stderr
    assert "3 of 3 rows  3 succeeded" in ran.stdout
    assert ran.stdout.count(",succeeded,") == 3


def test_every_command_that_the_readme_names_is_there() -> None:
    lines = [line for block in BLOCKS for line in block.splitlines()]
    named = {
        it for line in lines for it in re.findall(r"headgate ([a-z]+(?: calls| contacts)?)", line)
    }

    assert {"submit calls", "submit contacts", "worker", "watch", "report", "status"} <= named
    for command in named:
        assert CliRunner().invoke(main, [*command.split(), "--help"]).exit_code == 0, command


def test_the_limit_that_the_readme_changes_is_one_of_the_client_that_it_configures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_settings(monkeypatch)
    (text,) = re.findall(
        r"cat > headgate.toml <<'END'\n(.*?)^END$", README, re.DOTALL | re.MULTILINE
    )
    (tmp_path / "headgate.toml").write_text(text)
    ((client, limit),) = re.findall(r"headgate limits set (\S+) (\S+) ", README)

    limits = load(tmp_path / "headgate.toml").client(client).limits

    assert limit in {known.name for known in limits}
    assert "`token`" in README
    assert [known["name"] for known in profiles()["genesys"]["limits"]] == ["token"]
