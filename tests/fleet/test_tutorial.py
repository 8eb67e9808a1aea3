"""Every command of the tutorial runs as it stands there, and prints what stands below it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import free_port, hide_settings
from workers.store.embedded import stop_embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

PAGE = (Path(__file__).parents[2] / "docs/tutorial/first-run.md").read_text("utf-8")
#: A block of commands, and the output that the page shows below it.
BLOCK = re.compile(r"```sh\n(?P<commands>.*?)```(?:\n\n```text\n(?P<shown>.*?)```)?", re.DOTALL)
#: What differs from run to run: keys and the provider's ids; numbers such as times and rates.
IDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NUMBERS = re.compile(r"[0-9][0-9.:]*")
#: What a worker says by itself, whenever that is.
SAID_LATER = re.compile(r"headgate: worker|worker: Warm shutdown")
MARK = "@@ block"


def test_the_tutorial_runs_and_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_settings(monkeypatch)
    port = free_port()
    blocks = [(it["commands"], it["shown"] or "") for it in BLOCK.finditer(PAGE)]
    script = "".join(_script(commands, port) for commands, _ in blocks)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    began_s = time.monotonic()
    try:
        ran = subprocess.run(
            ["/bin/bash"],
            input=script.replace("8080", str(port)) + "wait\n",
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        stop_embedded(tmp_path / "first-run/.headgate")

    printed = ran.stdout.replace(str(tmp_path), "/home/you").split(f"{MARK}\n")
    assert len(printed) == len(blocks) + 1, ran.stdout
    for (commands, shown), output in zip(blocks, printed, strict=False):
        told = list(_told(output))
        assert sorted(told) == sorted(_told(shown)), f"{commands}\nprinted\n{output}"
    assert time.monotonic() - began_s < 120


def _script(commands: str, port: int) -> str:
    """The commands, and a mark behind their output; a provider that starts is waited for."""
    wait = f"until (: > /dev/tcp/127.0.0.1/{port}) 2> /dev/null; do sleep 0.05; done\nsleep 0.2\n"
    return f"{commands}{wait if 'sandbox --port' in commands else ''}echo {shlex.quote(MARK)}\n"


def _told(output: str) -> Iterator[str]:
    """The lines of an output, without what varies and without progress on the way."""
    for line in output.splitlines():
        if line.strip() and "  running  " not in line and not SAID_LATER.search(line):
            yield NUMBERS.sub("#", IDS.sub("ID", line.replace("ahead", "behind")))
