from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.world import World


def test_ctrl_c_while_submitting_is_130_and_the_same_command_goes_on(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"id": f"r{n}", "method": "POST", "path": "/things"} for n in range(600)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["submit", "calls", str(file), "--client", "acme"]
    with subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "HEADGATE_FAILPOINT": "accepted:stop:1"},
    ) as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)  # in the middle of it
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        stdout, stderr = process.communicate(timeout=20)

    assert (process.returncode, stdout) == (130, "")
    assert stderr.strip() == "interrupted; the same command goes on where this one ended"
    result = world.run(*command)
    assert result.exit_code == 0
    assert world.client.ledger.job(result.stdout.strip()).rows == 600


def test_a_report_on_a_job_with_a_damaged_page_is_one_sentence_and_exit_1(world: World) -> None:
    world.submit(2)
    world.client.store.set(world.client.keys.page("j1", 0), "damaged")

    result = world.run("report", "j1")

    assert result.exit_code == 1
    assert "job j1: page 0 of its rows is missing or damaged" in result.stderr
    assert result.stderr.count("\n") == 1
