"""A real worker tells of events; what one could not tell before it stopped, the next one tells."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration.notify import Notifier
from tests.support.fleet import until
from workers.clients import Clients
from workers.settings.load import load

if TYPE_CHECKING:
    from tests.support.world import World

ROOT = Path(__file__).parents[2]
#: A command that hangs the first time that it runs, and notes each event after that.
TELL = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
if not (folder / "first").exists():
    (folder / "first").write_text("")
    time.sleep(600)
with (folder / "told").open("a") as told:
    told.write(sys.stdin.read() + "\\n")
"""


def start_worker() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "orchestration.cli", "worker", "-c", "1"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def test_a_worker_whose_command_hangs_stops_and_the_next_one_tells_the_event_once(
    world: World, tmp_path: Path
) -> None:
    command = json.dumps([sys.executable, "-c", TELL, str(tmp_path)])
    with world.config.open("a") as config:
        config.write(f"\n[notify]\ncommand = {command}\n")
    letter = {"key": "a", "job": "j", "state": "failed", "why": "canary"}
    world.client.store.xadd(world.client.keys.dead, letter)
    with start_worker() as worker:
        until((tmp_path / "first").exists, what="the command runs")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
    Notifier(Clients(load(world.config))).take_turn()  # as the next worker does first

    (line,) = (tmp_path / "told").read_text().splitlines()
    assert json.loads(line)["type"] == "dead_letter.appeared"
