"""The demo: a real CSV through real workers to a strict provider, and what its journal says.

    folder ─ sandbox ─ store ─ submit contacts.csv ─ two workers ─ watch ─ ask the journal ─ stop

Everything lives in one folder and ends with the demo. Nothing of the user's configuration is read.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from orchestration.progress import follow
from orchestration.sandbox.process import SandboxControl, SandboxProcess
from workers.clients import Clients
from workers.embedded import stop_embedded
from workers.errors import HeadgateError
from workers.flows import LANES
from workers.limits import cell
from workers.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from orchestration.intake import Checked
    from orchestration.progress import Progress
    from workers.clients import Client

#: The client of the demo, its contact list, and its workers.
CLIENT: Final = "demo"
LIST: Final = "demo-contacts"
WORKERS: Final = ("w1", "w2")
CONCURRENCY: Final = 32
#: What the provider enforces and how long a call takes: the guide's numbers for Genesys Cloud.
PROVIDER: Final = {
    "limits": [{"name": "app", "count": 200, "window_s": 1, "shape": "bucket"}],
    "latency_ms": 80,
}
#: The steady part of a run, by executions.
STEADY: Final = (0.15, 0.95)
EVERY_S: Final = 0.5
#: A run in which nothing moves for so long has failed.
STUCK_S: Final = 30.0
#: Longest time for a worker to drain.
DRAIN_S: Final = 20.0
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What became of the demo: the ledger's word, and the journal's on the same rows."""

    last: Progress
    rejected: list[tuple[int, str]]  #: line and reason
    joined: int  #: rows that repeat an earlier one
    requests: int  #: calls that reached the provider
    effects: int  #: contacts that they made or changed
    calls_per_s: float  #: of the steady part
    use: float  #: part of the governed rate that these are
    throttled: int  #: answers of 429
    lost: int  #: accepted contacts that the provider never got
    duplicates: int  #: effects beyond the first one on a contact

    @property
    def confirmed(self) -> bool:
        """Whether the journal agrees: each good row once, nothing refused."""
        good = self.last.rows - self.last.counts["rejected"]
        return (
            not (self.throttled or self.lost or self.duplicates)
            and self.last.counts["succeeded"] == good
            and self.effects == good - self.joined
        )


def run(
    folder: Path,
    watch: Callable[[Iterable[Progress], Client], Progress],
    say: Callable[[str], None],
) -> Summary:
    """Run the demo in `folder`, which it fills; whatever it started has ended when this returns.

    Args:
        folder: An empty folder.
        watch: Shows the progress, and returns the last look.
        say: Told what happens, one line at a time.

    Raises:
        HeadgateError: it could not come to its end.
    """
    with ExitStack() as stack:
        stack.enter_context(_stoppable())
        stack.enter_context(_alone(folder / "headgate.toml"))
        sandbox = _start_sandbox(stack, folder)
        config = _write_config(folder, sandbox)
        client = Clients(load(config))[CLIENT]
        stack.callback(stop_embedded, client.fleet.store.data_dir)
        say(f"a provider that allows 200 calls/s and takes 80 ms a call: {sandbox.url}")
        workers: list[subprocess.Popen[bytes]] = []
        stack.callback(_stop, workers)
        workers.extend(_start_worker(folder, name) for name in WORKERS)
        say(f"two workers of {CONCURRENCY} threads: {' and '.join(WORKERS)}, and a store")
        job, checked = _submit(client)
        say(f"submitted {checked.file}: {checked.rows:,} rows, {checked.calls:,} calls")
        last = watch(_moving(follow(client, job, every_s=EVERY_S), workers, folder), client)
        return _summary(client, last, checked, sandbox)


def run_on(client: Client, watch: Callable[[str], Progress], say: Callable[[str], None]) -> Summary:
    """Run the demo through workers that run already, to the sandbox that `client` names.

    Done again it is the same job: what was sent is not sent again, and the journal is asked anew.

    Args:
        client: Whose quota is used; its provider is a sandbox with a journal of its own.
        watch: Follows a job to its end, and returns the last look.
        say: Told what happens, one line at a time.

    Raises:
        HeadgateError: its provider is no sandbox, or it could not come to its end.
    """
    sandbox = SandboxControl(client.settings.base_url)
    try:
        sandbox.get("report")
    except (OSError, HTTPException, ValueError, TypeError):
        raise HeadgateError(
            f"client {client.name}: there is no sandbox at {sandbox.url}; name a client whose "
            f"provider is one, or leave out --client"
        ) from None
    job, checked = _submit(client)
    say(f"submitted {checked.file} as {job}: {checked.rows:,} rows, {checked.calls:,} calls")
    return _summary(client, watch(job), checked, sandbox)


def _start_sandbox(stack: ExitStack, folder: Path) -> SandboxProcess:
    try:
        sandbox = SandboxProcess(PROVIDER, journal=folder / "journal.jsonl")
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


def _start_worker(folder: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "orchestration.cli", "worker"]
    command += ["--name", name, "--concurrency", str(CONCURRENCY)]
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


def _submit(client: Client) -> tuple[str, Checked]:
    """What `headgate submit contacts --batch-size 1` does with the shipped file; its job."""
    # Late: the tasks behind it read the configuration, which must be the demo's own.
    from orchestration.intake import Submission, accept, check

    with resources.as_file(resources.files(__name__) / "contacts.csv") as csv:
        submission = Submission(
            client=client,
            kind="contacts",
            path=csv,
            lane=LANES.index("normal"),
            contact_list=LIST,
            id_column="contact_id",
            phone_column="phone",
            batch_size=1,  # it shows the rate: 5,000 contacts would be 5 calls
        )
        with check(submission) as checked:
            return accept(submission, checked).job, checked


def _moving(
    looks: Iterable[Progress], workers: list[subprocess.Popen[bytes]], folder: Path
) -> Iterator[Progress]:
    """The looks, while workers live and something moves."""
    ended, moved_s = -1, time.monotonic()
    for look in looks:
        yield look
        if look.ended > ended:
            ended, moved_s = look.ended, time.monotonic()
        for name, worker in zip(WORKERS, workers, strict=True):
            if worker.poll() is not None:
                raise HeadgateError(f"worker {name} ended: {_last_words(folder / f'{name}.log')}")
        if time.monotonic() - moved_s > STUCK_S:
            words = _last_words(folder / f"{WORKERS[0]}.log")
            raise HeadgateError(f"nothing has moved for {STUCK_S:.0f} s: {words}")


def _last_words(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as lines:
        last = deque(lines, maxlen=1)
    return last[0].strip() if last else "it said nothing"


def _summary(client: Client, last: Progress, checked: Checked, sandbox: SandboxControl) -> Summary:
    """Hold the rows of the file against the effects in the provider's journal."""
    report, effects = sandbox.get("report"), _effects(sandbox)
    pages = int(client.ledger.job(last.job)["pages"])
    rows = [row for page in range(pages) for row in client.ledger.page(last.job, page)]
    sent = {row["id"] for row in rows if "error" not in row}
    calls_per_s = _steady(sorted(it["t_us"] for it in effects))
    return Summary(
        last=last,
        rejected=checked.reasons,
        joined=checked.joined,
        requests=report["requests"],
        effects=report["effects"],
        calls_per_s=calls_per_s,
        use=calls_per_s / min(cell(limit).rate or math.inf for limit in client.settings.limits),
        throttled=report["refused_429"],
        lost=len(sent - {it["business_id"] for it in effects}),
        duplicates=report["duplicates"],
    )


def _effects(sandbox: SandboxControl) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := sandbox.get(f"effects?after={len(found)}&limit={_PAGE}"):
        found += page
    return found


def _steady(moments_us: list[int]) -> float:
    """Executions per second in the steady part, 0.0 when there are too few."""
    first, last = (int(part * (len(moments_us) - 1)) for part in STEADY)
    if last <= first:
        return 0.0
    return (last - first) * 1e6 / max(1, moments_us[last] - moments_us[first])


@contextmanager
def _alone(config: Path) -> Iterator[None]:
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
