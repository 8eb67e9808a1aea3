"""A real store for every test: one server of our own, one namespace a test."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from workers.errors import StoreAway
from workers.store.connection import Store, connect
from workers.store.embedded import find_binary

if TYPE_CHECKING:
    from collections.abc import Iterator


# How fast the machine is must decide nothing, and the tests share it.
settings.register_profile("headgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headgate")


# A shell that starts the tests in the background lets them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Spare the collector what lives to the end: all modules and all tests."""
    gc.collect()
    gc.freeze()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return int(it.getsockname()[1])


def start_server(folder: Path, *options: str, port: int = 0) -> tuple[subprocess.Popen[bytes], str]:
    """A server on loopback with its data in `folder`; returns it and its URL once it answers."""
    port = port or free_port()
    command = [
        find_binary(),
        "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
        "--appendonly", "yes", "--appendfsync", "everysec", *options,
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    deadline = time.monotonic() + 10
    while True:
        try:
            connect(url).ping()
        except StoreAway:
            if time.monotonic() > deadline or server.poll() is not None:
                server.kill()
                raise
            time.sleep(0.01)
        else:
            return server, url


def hide_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's variables, but for the server program on which all tests run."""
    for name in [it for it in os.environ if it.startswith("HEADGATE_")]:
        if name != "HEADGATE_STORE_BINARY":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def store_url() -> Iterator[str]:
    """The URL of a server that lives as long as the test run."""
    with tempfile.TemporaryDirectory(prefix="hg-") as folder:
        server, url = start_server(Path(folder))
        try:
            yield url
        finally:
            server.terminate()
            server.wait(timeout=10)


@pytest.fixture(scope="session")
def store(store_url: str) -> Store:
    """A client of that server."""
    return connect(store_url)
