from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]


def listens(host: str, port: int) -> bool:
    with socket.socket() as it:
        return it.connect_ex((host, port)) == 0


@pytest.mark.usefixtures("world")  # for its configuration
@pytest.mark.parametrize(
    ("options", "where", "elsewhere"),
    [([], "127.0.0.1", "127.0.0.2"), (["--address=127.0.0.2"], "127.0.0.2", "127.0.0.1")],
)
def test_flower_listens_on_loopback_unless_another_address_is_named(
    options: list[str], where: str, elsewhere: str
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "flower", f"--port={port}"]
    with subprocess.Popen(
        [*command, *options], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as flower:
        try:
            give_up = time.monotonic() + 20
            while not listens(where, port):
                assert flower.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.05)
            assert not listens(elsewhere, port)
        finally:
            flower.kill()
