"""A store that would forget what was sent is refused before anything is sent, on every server."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import start_server
from workers.errors import StoreUnfit
from workers.settings.load import StoreSettings
from workers.store.connection import Store, connect, require_durable

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EVICTING = ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
MEMORY_ONLY = ("--appendonly", "no")
SAID_EVICTING = "the store evicts keys (maxmemory-policy allkeys-lru)"
SAID_MEMORY_ONLY = "the store keeps its data in memory only (appendonly no)"


@contextmanager
def server(*options: str) -> Iterator[str]:
    """The URL of a server with these options."""
    with tempfile.TemporaryDirectory(prefix="hg-") as folder:
        process, url = start_server(Path(folder), *options)
        try:
            yield url
        finally:
            process.terminate()
            process.wait(timeout=10)


@pytest.fixture(scope="module")
def keeping() -> Iterator[Store]:
    """A server on disk, and a user `app` who may do all but read its configuration."""
    with server("--appendfsync", "always") as url, connect(url) as store:
        store.execute_command("ACL SETUSER app on >secret ~* &* +@all -config")
        yield store


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EVICTING, SAID_EVICTING),
        (("--maxmemory-policy", "volatile-ttl"), "(maxmemory-policy volatile-ttl)"),
        (MEMORY_ONLY, SAID_MEMORY_ONLY),
        (("--appendfsync", "no"), "(appendfsync no)"),
    ],
)
def test_a_store_that_may_forget_is_refused_with_its_setting(
    options: tuple[str, ...], said: str
) -> None:
    with server(*options) as url, connect(url) as store, pytest.raises(StoreUnfit) as refusal:
        require_durable(store, StoreSettings())

    assert said in str(refusal.value)


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_store_that_keeps_its_data_tells_how(keeping: Store, fsync: str) -> None:
    keeping.config_set("appendfsync", fsync)

    assert require_durable(keeping, StoreSettings()) == fsync


def test_a_store_that_hides_its_configuration_is_taken_at_the_word_of_its_operator(
    keeping: Store,
) -> None:
    port = keeping.connection_pool.connection_kwargs["port"]

    with connect(f"redis://app:secret@127.0.0.1:{port}/0") as store:
        with pytest.raises(StoreUnfit, match="CONFIG GET is not allowed"):
            require_durable(store, StoreSettings())
        stated = require_durable(store, StoreSettings(durable="everysec"))

    assert stated == "everysec"


@pytest.mark.parametrize(
    ("options", "said"), [(EVICTING, SAID_EVICTING), (MEMORY_ONLY, SAID_MEMORY_ONLY)]
)
def test_no_worker_starts_on_a_store_that_may_forget(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    config = tmp_path / "headgate.toml"
    command = [sys.executable, "-m", "orchestration.cli", "worker", "--config", str(config)]
    with server(*options) as url:
        config.write_text(f'[store]\nurl = "{url}"\n[clients.acme]\nbase_url = "http://h"\n')
        worker = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )

    assert (worker.returncode, worker.stdout) == (1, "")
    assert said in worker.stderr
    assert worker.stderr.count("\n") == 1
