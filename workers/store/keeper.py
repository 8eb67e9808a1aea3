"""The keeper: a detached process that starts one embedded server and watches over it.

`workers.store.embedded` runs it as `python -m workers.store.keeper FOLDER LOCK BINARY IDLE_S`,
where LOCK is the descriptor of the folder's lock, already held. The command returns when the server
answers (exit code 0) or with the reason why there is none (stderr, exit code 1); the keeper lives
on in the background until nobody needs the server.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from redis.exceptions import BusyLoadingError, RedisError

from workers.errors import StoreAway
from workers.store.embedded import END_S, EmbeddedStore, connect, read_config, take_data, url_of

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

#: These lie below the ports of outgoing connections. On one of those somebody's connection could
#: hold the port while the server restarts, even one of its own clients, connected to itself.
PORTS = range(20_000, 30_000)

#: A server that ends sooner than this died quickly; after so many quick deaths the keeper gives up.
QUICK_S = 10.0
QUICK_DEATHS = 5

#: Longest silence of a starting server.
SILENCE_S = 10.0

LOG_BYTES = 1_000_000

#: Linux: ask for a signal at the parent's death.
_PR_SET_PDEATHSIG = 1

#: The server runs in the data folder, so there is no path here that would need quoting.
#: There is no crash report, for it would print the arguments of commands.
CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir .
daemonize no
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
loglevel notice
enable-debug-command no
crash-log-enabled no
"""


class Keeper:
    """Keeps one server running on `folder` until nobody has needed it for `idle_s` seconds."""

    def __init__(self, folder: Path, lock: int, binary: str, idle_s: float) -> None:
        self.folder, self.lock, self.binary, self.idle_s = folder, lock, binary, idle_s
        self.quick_deaths = 0
        self.visits = 0  # connections that the server had accepted at the last look

    def start(self) -> None:
        """Start the server and publish where it is.

        Raises:
            StoreAway: it died quickly too often.
        """
        while self.quick_deaths < QUICK_DEATHS:
            self._launch()
            if self._answers():
                self._publish()
                return
            self.stop_server()
            self.quick_deaths += 1
        raise StoreAway(
            f"the server ended or stayed silent {QUICK_DEATHS} times in a row; "
            f"store.log in that folder says why"
        )

    def watch(self) -> None:
        """Return when the server was asked to end, or when nobody needs it any more.

        Raises:
            StoreAway: it died quickly too often.
        """
        while True:
            try:
                status = self.server.wait(min(1.0, self.idle_s / 2))
            except subprocess.TimeoutExpired:
                if not self._owns_folder() or self._is_unneeded():
                    return
                continue
            if status == 0:
                return
            log.warning("the server ended with status %d and is started again", status)
            if time.monotonic() - self.started > QUICK_S:
                self.quick_deaths = 0
            self.quick_deaths += 1
            self.start()

    def stop(self) -> None:
        """Withdraw the server and end it."""
        self._withdraw()
        if hasattr(self, "server"):  # else the start failed before there was one
            self.stop_server()

    def stop_server(self) -> None:
        """End the server process, gently if it listens."""
        self.server.terminate()
        try:
            self.server.wait(END_S)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    def _launch(self) -> None:
        data_lock = take_data(self.folder)
        try:
            port, password = self._address()
            text = CONFIG.format(port=port, password=password)
            _write(self.folder / "server.conf", text)
            data = self.folder / "data"
            data.mkdir(exist_ok=True)
            self.server = subprocess.Popen(  # noqa: S603 -- the program the user chose
                [self.binary, self.folder / "server.conf"],
                cwd=data,
                pass_fds=[data_lock],
                preexec_fn=_end_with_parent,  # noqa: PLW1509 -- the keeper has no threads
            )
        finally:
            os.close(data_lock)
        self.client: Redis = connect(url_of(read_config(self.folder)))
        self.started = self.idle_since = time.monotonic()

    def _address(self) -> tuple[int, str]:
        """Port and password of the last time, so that URLs stay valid.

        Both are new when the port is taken: clients may have sent the password to who sits there.
        """
        try:
            config = read_config(self.folder)
            port, password = int(config["port"]), config["requirepass"]
        except (OSError, ValueError, KeyError):
            port, password = _free_port(), ""
        if not password or not _is_free(port):
            port, password = _free_port(), secrets.token_urlsafe(32)
        return port, password

    def _answers(self) -> bool:
        """Wait until this very server, not another one on its port, has read its data."""
        deadline = time.monotonic() + SILENCE_S
        while self.server.poll() is None and time.monotonic() < deadline:
            try:
                self.client.ping()
                return bool(self.client.info("server")["process_id"] == self.server.pid)
            except BusyLoadingError:
                deadline = time.monotonic() + SILENCE_S
            except RedisError:
                pass
            time.sleep(0.01)
        return False

    def _publish(self) -> None:
        url = url_of(read_config(self.folder))
        store = EmbeddedStore(url=url, pid=self.server.pid, keeper_pid=os.getpid())
        _write(self.folder / "server.json", json.dumps(asdict(store)))

    def _withdraw(self) -> None:
        if self._owns_folder():
            (self.folder / "server.json").unlink(missing_ok=True)

    def _owns_folder(self) -> bool:
        """Whether the folder is still the one that was locked, not deleted or made anew."""
        try:
            return os.path.samestat(os.fstat(self.lock), (self.folder / "lock").stat())
        except OSError:
            return False

    def _is_unneeded(self) -> bool:
        """Whether nobody was connected for `idle_s`; if so, nobody is sent here any more."""
        now = time.monotonic()
        if not self._is_alone():
            self.idle_since = now
        if now - self.idle_since < self.idle_s:
            return False
        self._withdraw()
        if self._is_alone():  # whoever read server.json until now has connected by this look
            return True
        self._publish()
        self.idle_since = now
        return False

    def _is_alone(self) -> bool:
        """Whether nobody else is connected and nobody came since the last look."""
        try:
            info = self.client.info()
        except RedisError:
            return False  # dead or busy: not the moment to stop
        came = info["total_connections_received"] != self.visits
        self.visits = info["total_connections_received"]
        return not came and info["connected_clients"] == 1


def main(arguments: list[str]) -> None:
    """Start the server; leave a keeper behind and return, or exit with the reason in a sentence."""
    folder, lock, binary, idle_s = arguments
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as report:
            sys.exit(report.read() or 0)
    os.close(reader)
    _detach(Path(folder))
    keeper = Keeper(Path(folder), int(lock), binary, float(idle_s))
    try:
        with os.fdopen(writer, "w", encoding="utf-8") as report:
            try:
                keeper.start()
            except (StoreAway, OSError) as error:
                report.write(str(error))
                raise
        keeper.watch()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        keeper.stop()


def _detach(folder: Path) -> None:
    os.umask(0o077)  # all that keeper and server write is for this user alone
    os.chdir(folder)
    path = folder / "store.log"
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(folder / "store.log.1")
    with path.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s keeper: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _end_with_parent() -> None:
    """Let the kernel end this process when its parent is killed.

    Elsewhere than on Linux a server that outlived its keeper runs until the next opener.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole: readers see the old one or the new one."""
    new = path.with_suffix(".new")
    new.write_text(text, "utf-8")
    new.replace(path)


def _free_port() -> int:
    while not _is_free(port := secrets.choice(PORTS)):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
