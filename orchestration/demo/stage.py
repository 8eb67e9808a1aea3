"""The stage of a demo: a provider, a store and two workers, all in one folder.

Whatever is started has ended when the stage is left. Nothing of the user's configuration is read.
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
from workers.settings.load import load
from workers.store.embedded import stop_embedded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from orchestration.views.progress import Progress
    from workers.clients import Client

#: The client of the demo, and its workers.
CLIENT: Final = "demo"
WORKERS: Final = ("w1", "w2")
CONCURRENCY: Final = 32
#: The one for files, of the demo that has any.
MEDIA_WORKER: Final = "m1"
EVERY_S: Final = 0.5
#: A run in which nothing moves for so long has failed.
STUCK_S: Final = 30.0
#: Longest time for a worker to drain.
DRAIN_S: Final = 20.0
_PAGE: Final = 1000


class Moving(Protocol):
    """One look at what is going on."""

    @property
    def ended(self) -> int:
        """So much has come to its end."""


Moves = TypeVar("Moves", bound=Moving)


@dataclass(frozen=True, slots=True)
class Stage:
    """A client, whose provider is the sandbox, and the workers that do its calls."""

    folder: Path
    client: Client
    sandbox: SandboxControl
    workers: list[subprocess.Popen[bytes]]

    def looks(self, job: str) -> Iterator[Progress]:
        """The looks at a job until it is finished; raises `HeadgateError` when nothing moves."""
        return moving(follow(self.client, job, every_s=EVERY_S), self.workers, self.folder)


@contextmanager
def staged(folder: Path, provider: Mapping[str, Any], *, media: bool = False) -> Iterator[Stage]:
    """A stage in an empty folder, with a provider of this configuration.

    With `media` there is a worker for files too.

    Raises:
        HeadgateError: it could not be set.
    """
    with ExitStack() as stack:
        stack.enter_context(_stoppable())
        stack.enter_context(alone(folder / "headgate.toml"))
        sandbox = _start_sandbox(stack, folder, provider)
        config = _write_config(folder, sandbox)
        client = Clients(load(config))[CLIENT]
        stack.callback(stop_embedded, client.fleet.store.data_dir)
        workers: list[subprocess.Popen[bytes]] = []
        stack.callback(_stop, workers)
        workers.extend(_start_worker(folder, name) for name in WORKERS)
        if media:
            workers.append(_start_worker(folder, MEDIA_WORKER, "media"))
        yield Stage(folder, client, sandbox, workers)


def _start_sandbox(stack: ExitStack, folder: Path, provider: Mapping[str, Any]) -> SandboxProcess:
    try:
        sandbox = SandboxProcess(provider, journal=folder / "journal.jsonl")
    except RuntimeError as error:
        raise HeadgateError(str(error)) from None
    stack.callback(sandbox.stop)
    return sandbox


def _write_config(folder: Path, sandbox: SandboxProcess) -> Path:
    """The configuration as a user would write it; the secret travels in no argument."""
    secret, secret_file = secrets.token_urlsafe(24), folder / "client_secret"
    sandbox.post("config", {"clients": {CLIENT: secret}})
    _write(secret_file, secret)
    config = folder / "headgate.toml"
    _write(
        config,
        f"[store]\n"
        f"data_dir = {json.dumps(str(folder / 'store'))}\n\n"
        f"[clients.{CLIENT}]\n"
        f'provider = "genesys-guide"\n'
        f"base_url = {json.dumps(sandbox.url)}\n"
        f"token_url = {json.dumps(sandbox.url + '/oauth/token')}\n"
        f"client_id = {json.dumps(CLIENT)}\n"
        f"client_secret_file = {json.dumps(str(secret_file))}\n",
    )
    return config


def _write(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text, "utf-8")


def _start_worker(folder: Path, name: str, pool: str = "calls") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "orchestration.cli", "worker"]
    command += ["--name", name, "--concurrency", str(CONCURRENCY), "--for", pool]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 -- our own interpreter and module
            command,
            cwd=folder,
            env=os.environ | {"HEADGATE_PARENT": str(os.getpid())},  # if this is killed, they end
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
            worker.wait(DRAIN_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(worker.pid, signal.SIGKILL)  # the session that we made for it
            worker.wait()


def moving(
    looks: Iterable[Moves], workers: list[subprocess.Popen[bytes]], folder: Path
) -> Iterator[Moves]:
    """The looks, while workers live and something moves."""
    ended, moved_s = -1, time.monotonic()
    for look in looks:
        yield look
        if look.ended > ended:
            ended, moved_s = look.ended, time.monotonic()
        names = (*WORKERS, MEDIA_WORKER)
        for name, worker in zip(names, workers, strict=False):  # not each demo has files
            if worker.poll() is not None:
                raise HeadgateError(f"worker {name} ended: {_last_words(folder / f'{name}.log')}")
        if time.monotonic() - moved_s > STUCK_S:
            words = _last_words(folder / f"{WORKERS[0]}.log")
            raise HeadgateError(f"nothing has moved for {STUCK_S:.0f} s: {words}")


def _last_words(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as lines:
        last = deque(lines, maxlen=1)
    return last[0].strip() if last else "it said nothing"


def effects_of(sandbox: SandboxControl) -> list[dict[str, Any]]:
    """Every effect that the provider's journal holds, the first one first."""
    found: list[dict[str, Any]] = []
    while page := sandbox.get(f"effects?after={len(found)}&limit={_PAGE}"):
        found += page
    return found


@contextmanager
def alone(config: Path) -> Iterator[None]:
    """Hide the user's settings from this process and those that it starts.

    Which server program the embedded store runs depends on the machine, so that one stays.
    """
    before = dict(os.environ)
    for name in [it for it in os.environ if it.startswith("HEADGATE_")]:
        if name != "HEADGATE_STORE_BINARY":
            del os.environ[name]
    os.environ |= {
        "HEADGATE_CONFIG": str(config),
        "PYTHONSAFEPATH": "1",  # a folder `workers` beside the user is none of ours
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does: with everything stopped."""
    before = {it: signal.signal(it, _interrupt) for it in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt
