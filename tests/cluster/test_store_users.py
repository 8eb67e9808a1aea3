"""The store's user of the containers may do what Headgate, Celery and Flower do, and no more."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_flower_page import flower, online
from tests.support.fleet import ROOT, Fleet, calls, until
from workers.errors import StoreAway
from workers.store.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PASSWORD = "a-password"
COMMANDS = [
    "status", "jobs", "doctor", "watch job", "report job", "audit", "dead list acme", "limits",
    "client pause acme --for 1s --reason test", "client resume acme --reason test",
    "limits set acme app --rate 90 --reason test", "limits unset acme app --reason test",
]  # fmt: skip
#: Tried with arguments that would do something.
FORBIDDEN = [
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET appendonly no", "KEYS *", "SCAN 0",
    "EVAL return(1) 0", "SHUTDOWN NOSAVE", "ACL LIST", "ACL WHOAMI", "SAVE",
    "CLIENT LIST", "MONITOR", "REPLICAOF NO ONE", "MODULE LIST", "FUNCTION FLUSH", "SWAPDB 0 1",
    "SCRIPT FLUSH", "GET other", "SET other 1", "PUBLISH other 1", "RENAME headgate.calls x",
    "LPUSH other.calls 1",
    "LPUSH calls 1", "PUBLISH /0.other.pidbox 1", "GET other:kombu.unacked", "BGREWRITEAOF",
]  # fmt: skip


def rules() -> list[str]:
    """What the file gives the user, with the password of this test."""
    text = (ROOT / "compose/store_users").read_text()
    (line,) = [it for it in text.splitlines() if it.startswith("user headgate ")]
    secret = hashlib.sha256(PASSWORD.encode()).hexdigest()
    return line.replace("@HASH@", secret).split()[2:]


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A store with this user, and no other broker."""
    with Fleet() as it:
        it.client.store.execute_command("ACL", "SETUSER", "headgate", "reset", *rules())
        yield it


def as_user(fleet: Fleet) -> Mapping[str, str]:
    url = f"redis://headgate:{PASSWORD}@127.0.0.1:{fleet.store_port}/0"
    names = {"URL": url, "BROKER_URL": url, "DURABLE": "always"}
    return {f"HEADGATE_STORE__{name}": value for name, value in names.items()}


def test_everything_works_as_this_user(fleet: Fleet) -> None:
    fleet.environment |= as_user(fleet)
    with flower(fleet) as url:
        for name in ("w1", "w2"):
            fleet.start_worker(name)
        until(lambda: len(online(url)) == 2, 30, "two workers in Flower")
        fleet.submit(calls(400))
        fleet.wait_for(100)
        fleet.kill_worker("w1", signal.SIGKILL)
        assert fleet.wait() == {"succeeded": 400}
        for command in COMMANDS:
            done = subprocess.run(
                [sys.executable, "-m", "orchestration.cli", *command.split()],
                cwd=ROOT, env=fleet.environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, (command, done.stderr)

    log = fleet.client.store.execute_command("ACL", "LOG")
    refused = {dict(zip(it[::2], it[1::2], strict=True))["object"] for it in log}
    assert refused <= {"config|get"}  # what it says is stated: store.durable


def test_nothing_else_is_allowed(fleet: Fleet) -> None:
    url = f"redis://headgate:{PASSWORD}@127.0.0.1:{fleet.store_port}/0"
    with connect(url) as store:
        assert store.ping()
        for command in FORBIDDEN:
            with pytest.raises(StoreAway, match=r"(?i)NoPermission|no permissions"):
                store.execute_command(*command.split())


def test_there_is_no_user_without_a_password() -> None:
    lines = (ROOT / "compose/store_users").read_text().splitlines()

    # Nobody can be it, but Redis replays its file as it: without rights, what stands in a
    # transaction there is dropped, and with it the ledger.
    assert lines[0] == "user default off resetpass ~* &* +@all"
    assert len(lines) == 2
    assert "nopass" not in rules()
