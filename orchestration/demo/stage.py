"""The stage of a demo: a provider, a store and two workers, all in one folder.

Everything that is started here has ended when the stage is left. Nothing of the user's
configuration is read.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from orchestration.sandbox.process import SandboxControl, SandboxProcess
from orchestration.views.progress import follow
from workers.clients import Clients
from workers.errors import HeadgateError
from workers.governor.flows import CALLS_POOL, MEDIA_POOL
from workers.settings.load import load
from workers.store.embedded import stop_embedded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from orchestration.views.progress import Progress
    from workers.clients import Client

#: The client of the demo, its workers for calls, and the threads of each.
_CLIENT: Final = "demo"
WORKERS: Final = ("w1", "w2")
CONCURRENCY: Final = 32
#: The worker for files, in the demo that has files.
MEDIA_WORKER: Final = "m1"
#: Seconds between two looks.
LOOK_EVERY_S: Final = 0.5
#: A run in which nothing moves for so many seconds has failed.
_STUCK_S: Final = 30.0
#: A worker may take so many seconds to drain.
_DRAIN_S: Final = 20.0
#: Effects that one request to the sandbox asks for.
_AT_ONCE: Final = 1000


class DemoLook(Protocol):
    """One look at a demo that runs."""

    @property
    def ended(self) -> int:
        """How many things have ended so far."""


_Look = TypeVar("_Look", bound=DemoLook)


@dataclass(frozen=True, slots=True)
class DemoStage:
    """A client, whose provider is the sandbox, and the workers that do its calls."""

    folder: Path
    client: Client
    sandbox: SandboxControl
    workers: list[subprocess.Popen[bytes]]

    def looks(self, job: str) -> Iterator[Progress]:
        """The looks at a job until it is finished; raises `HeadgateError` when nothing moves."""
        looks = follow(self.client, job, every_s=LOOK_EVERY_S)
        return require_movement(looks, self.workers, self.folder)


@contextmanager
def set_stage(
    folder: Path, provider: Mapping[str, Any], *, media: bool = False
) -> Iterator[DemoStage]:
    """Set a stage in an empty folder, with a provider of this configuration.

    With `media` there is a worker for files too.

    Raises:
        HeadgateError: the stage could not be set.
    """
    with ExitStack() as stack:
        stack.enter_context(_stoppable())
        stack.enter_context(hide_user_settings())
        sandbox = _start_sandbox(stack, folder, provider)
        config = _write_config(folder, sandbox)
        client = Clients(load(config))[_CLIENT]
        stack.callback(stop_embedded, client.fleet.store.data_dir)
        workers: list[subprocess.Popen[bytes]] = []
        stack.callback(_stop, workers)
        workers.extend(_start_worker(folder, config, name, CALLS_POOL) for name in WORKERS)
        if media:
            workers.append(_start_worker(folder, config, MEDIA_WORKER, MEDIA_POOL))
        yield DemoStage(folder, client, sandbox, workers)


def _start_sandbox(stack: ExitStack, folder: Path, provider: Mapping[str, Any]) -> SandboxProcess:
    try:
        sandbox = SandboxProcess(provider, journal=folder / "journal.jsonl")
    except RuntimeError as error:
        raise HeadgateError(str(error)) from None
    stack.callback(sandbox.stop)
    return sandbox


def _write_config(folder: Path, sandbox: SandboxProcess) -> Path:
    """Write the configuration as a user would; the secret travels in no argument."""
    secret, secret_file = secrets.token_urlsafe(24), folder / "client_secret"
    sandbox.post("config", {"clients": {_CLIENT: secret}})
    _write(secret_file, secret)
    config = folder / "headgate.toml"
    _write(
        config,
        f"[store]\n"
        f"data_dir = {json.dumps(str(folder / 'store'))}\n\n"
        f"[clients.{_CLIENT}]\n"
        f'provider = "genesys-guide"\n'
        f"base_url = {json.dumps(sandbox.url)}\n"
        f"token_url = {json.dumps(sandbox.url + '/oauth/token')}\n"
        f"client_id = {json.dumps(_CLIENT)}\n"
        f"client_secret_file = {json.dumps(str(secret_file))}\n",
    )
    return config


def _write(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text, "utf-8")


def _start_worker(folder: Path, config: Path, name: str, pool: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "orchestration.cli", "worker", "--config", str(config)]
    command += ["--name", name, "--concurrency", str(CONCURRENCY), "--for", pool]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 -- our own interpreter and module
            command,
            cwd=folder,
            # If this process is killed, the workers end.
            env=os.environ | {"HEADGATE_PARENT": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the demo, which drains its workers
        )


def _stop(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(_DRAIN_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(worker.pid, signal.SIGKILL)  # the session that we made for it
            worker.wait()


def require_movement(
    looks: Iterable[_Look], workers: list[subprocess.Popen[bytes]], folder: Path
) -> Iterator[_Look]:
    """Pass the looks on while all workers live and something moves.

    Raises:
        HeadgateError: a worker has ended, or nothing has moved for long.
    """
    ended, moved_s = -1, time.monotonic()
    for look in looks:
        yield look
        if look.ended > ended:
            ended, moved_s = look.ended, time.monotonic()
        names = (*WORKERS, MEDIA_WORKER)
        for name, worker in zip(names, workers, strict=False):  # not each demo has files
            if worker.poll() is not None:
                line = _read_last_line(folder / f"{name}.log")
                raise HeadgateError(f"worker {name} ended: {line}")
        if time.monotonic() - moved_s > _STUCK_S:
            line = _read_last_line(folder / f"{WORKERS[0]}.log")
            raise HeadgateError(f"nothing has moved for {_STUCK_S:.0f} s: {line}")


def _read_last_line(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as lines:
        last = deque(lines, maxlen=1)
    return last[0].strip() if last else "it logged nothing"


def read_effects(sandbox: SandboxControl) -> list[dict[str, Any]]:
    """Every effect that the provider's journal holds, the first one first."""
    effects: list[dict[str, Any]] = []
    while page := sandbox.get(f"effects?after={len(effects)}&limit={_AT_ONCE}"):
        effects += page
    return effects


@contextmanager
def hide_user_settings() -> Iterator[None]:
    """Hide the user's settings from this process and those that it starts.

    The variable with the server program of the embedded store stays: it belongs to the machine.
    """
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith("HEADGATE_") and name != "HEADGATE_STORE_BINARY":
            del os.environ[name]
    # A folder `workers` in the current folder must not be taken for ours.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does: with everything stopped."""
    asking = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt) for number in asking}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt
