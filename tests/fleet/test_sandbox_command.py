from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from orchestration.cli import main


def test_its_options_reach_the_sandbox(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    command = [sys.executable, "-m", "orchestration.cli", "sandbox", "--port", "0"]
    with subprocess.Popen(
        [*command, "--config", '{"auth": false}', "--journal", str(journal)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        process.terminate()
        code = process.wait(timeout=10)

    assert ready.startswith("sandbox listening on http://127.0.0.1:")
    assert code == 0
    assert journal.exists()


def test_a_wrong_configuration_of_the_sandbox_is_exit_2() -> None:
    result = CliRunner().invoke(main, ["sandbox", "--port", "0", "--config", '{"limit": []}'])

    assert result.exit_code == 2
    assert "unknown fields ['limit']" in result.stderr
