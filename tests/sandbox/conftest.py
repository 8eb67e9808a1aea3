"""One real sandbox process for all these tests, as new for each of them."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import pytest
import requests

from orchestration.sandbox import SandboxProcess
from orchestration.sandbox.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULTS = dataclasses.asdict(Config())


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[SandboxProcess]:
    """The process; tests take `sandbox`."""
    with SandboxProcess() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: SandboxProcess) -> SandboxProcess:
    """A sandbox with the default configuration and an empty journal."""
    shared_sandbox.post("config", DEFAULTS)
    shared_sandbox.post("reset")
    return shared_sandbox


@pytest.fixture
def http(sandbox: SandboxProcess) -> Iterator[requests.Session]:
    """A session with a token of the client `demo`."""
    token = requests.post(
        f"{sandbox.url}/oauth/token",
        data={"grant_type": "client_credentials"},
        auth=("demo", "demo-secret"),
        timeout=10,
    ).json()["access_token"]
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        yield session


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object]], None]:
    """A function that asks again and again until the answer is true, or fails after 10 s."""

    def wait(holds: Callable[[], object]) -> None:
        give_up = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < give_up
            time.sleep(0.005)

    return wait
