"""A live worker sees to it that its embedded store is there, whoever killed what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import RedisError

from tests.support.fleet import ROOT, until
from workers.settings.load import StoreSettings
from workers.store import embedded
from workers.store.connection import keep_embedded
from workers.store.embedded import connect, stop_embedded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
[store]
data_dir = "data"
[clients.acme]
base_url = "http://127.0.0.1:9"
[[clients.acme.limits]]
name = "app"
count = 10
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder at whose server a worker rings, and nobody else would start it."""
    (tmp_path / "headgate.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "orchestration.cli", "worker", "--config", "headgate.toml"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    path = tmp_path / "data"
    try:
        until(lambda: rings(path), what="a worker that rings")
        yield path
    finally:
        worker.terminate()
        worker.wait(timeout=20)
        stop_embedded(path)


def rings(folder: Path, keeper_but: int = 0) -> bool:
    """Whether a worker rings at the server of `folder` under another keeper than this one."""
    with suppress(OSError, ValueError, RedisError):
        store = embedded._published(folder)
        with connect(store.url) as client:
            worked = any(entry["cmd"] == "fcall" for entry in client.client_list())
        return worked and store.keeper_pid != keeper_but
    return False


@pytest.mark.parametrize("whom", [["keeper_pid"], ["keeper_pid", "pid"]])
def test_a_live_worker_gets_its_store_back_under_the_same_url(
    folder: Path, whom: list[str]
) -> None:
    before = embedded._published(folder)

    for who in whom:
        with suppress(ProcessLookupError):  # the server ends with its keeper where it can
            os.kill(getattr(before, who), signal.SIGKILL)
    until(lambda: rings(folder, keeper_but=before.keeper_pid), what="the worker that rings again")

    assert embedded._published(folder).url == before.url


def test_a_folder_that_was_deleted_is_not_made_anew(tmp_path: Path) -> None:
    keep_embedded(StoreSettings(data_dir=tmp_path / "gone"))

    assert not (tmp_path / "gone").exists()


def test_a_store_of_your_own_is_left_be(tmp_path: Path) -> None:
    (tmp_path / "server.conf").write_text("port 1\nrequirepass none\n")

    keep_embedded(
        StoreSettings.model_validate({"url": "redis://127.0.0.1:9/0", "data_dir": tmp_path})
    )

    assert [it.name for it in tmp_path.iterdir()] == ["server.conf"]
