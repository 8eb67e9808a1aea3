"""The users of the containers' servers may do what Headgate, Celery and Flower do.

What they may not is in tests/unit/store/test_users.py.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_flower_page import flower, online
from tests.support import store_users
from tests.support.fleet import ROOT, Fleet, calls, until
from workers.governor.registry import Registry
from workers.store.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.connection import Store

COMMANDS = [
    "status", "jobs", "doctor", "watch job", "report job", "audit", "dead list acme", "limits",
    "client pause acme --for 1s --reason test", "client resume acme --reason test",
    "limits set acme app --rate 90 --reason test", "limits unset acme app --reason test",
    "worker --name w2 --check",
]  # fmt: skip


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A store and a broker with these users."""
    with Fleet(broker=True) as it:
        store_users.add_users(it.client.store)
        with broker_of(it) as broker:
            store_users.add_users(broker, "broker")
        it.environment |= store_users.settings_as(it.store_port, it.broker_port)
        yield it


def broker_of(fleet: Fleet) -> Store:
    """Its broker, as somebody who may do everything."""
    return connect(f"redis://127.0.0.1:{fleet.broker_port}/0")


def run(fleet: Fleet, command: str) -> subprocess.CompletedProcess[str]:
    """What `headgate COMMAND` does as the ledger's user."""
    return subprocess.run(
        [sys.executable, "-m", "orchestration.cli", *command.split()],
        cwd=ROOT, env=fleet.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def load_functions(fleet: Fleet) -> None:
    """As the service `admin` does."""
    as_admin = {"HEADGATE_STORE__URL": store_users.url_as("admin", fleet.store_port)}
    command = [sys.executable, "-m", "orchestration.cli", "deploy"]
    subprocess.run(command, cwd=ROOT, env=fleet.environment | as_admin, check=True)


def test_everything_works_as_these_users(fleet: Fleet) -> None:
    load_functions(fleet)
    broker = store_users.url_as("flower", fleet.broker_port)
    nowhere = {
        "HEADGATE_STORE__URL": "redis://headgate@127.0.0.1:9/0",
        "HEADGATE_STORE__PASSWORD_FILE": "/nowhere",
        "HEADGATE_STORE__BROKER_URL": broker,
        "FLOWER_ENABLE_EVENTS": "false",
    }
    with flower(fleet, nowhere) as url:
        for name in ("w1", "w2"):
            fleet.start_worker(name)
        until(lambda: len(online(url)) == 2, 30, "two workers in Flower")
        fleet.submit(calls(400))
        fleet.wait_for(100)
        fleet.kill_worker("w1", signal.SIGKILL)
        assert fleet.wait() == {"succeeded": 400}
        for command in COMMANDS:
            done = run(fleet, command)
            assert done.returncode == 0, (command, done.stderr)

    assert store_users.refused(fleet.client.store) == []
    with broker_of(fleet) as server:
        assert store_users.refused(server) == []


def test_a_worker_whose_queue_is_refused_is_no_worker(fleet: Fleet) -> None:
    load_functions(fleet)
    server = broker_of(fleet)
    server.execute_command(
        "ACL", "SETUSER", "broker", "resetkeys", "~headgate.calls", "~headgate:*"
    )
    fleet.start_worker("m1", pool="media")
    registry = Registry(fleet.client.store, "headgate")
    until(lambda: [one.takes_none for one in registry.look().live.values()] > [""], 20, "a refusal")

    look = run(fleet, "worker --name m1 --check")
    assert look.returncode == 1
    assert "takes no bells: the broker refuses (NoPermissionError" in look.stderr
    assert len(fleet.log("m1").splitlines()) < 10  # it asks at growing distances

    given = store_users.rules_of("broker", server, "broker")
    server.execute_command("ACL", "SETUSER", "broker", *given)
    until(lambda: [one.takes_none for one in registry.look().live.values()] == [""], 30, "bells")


def test_a_worker_without_the_functions_says_who_loads_them_and_goes_on_then(
    fleet: Fleet,
) -> None:
    fleet.client.store.function_flush()
    fleet.start_worker("w1")
    until(lambda: "give `headgate deploy` as a user who may" in fleet.log("w1"), 20, "a sentence")

    load_functions(fleet)
    fleet.submit(calls(10))

    assert fleet.wait() == {"succeeded": 10}


@pytest.mark.parametrize("role", ["store", "broker"])
def test_there_is_no_user_without_a_password(role: store_users.Role) -> None:
    users = store_users.lines(role)

    # Nobody can be it, but Redis replays the ledger's file as it: without rights, what stands in a
    # transaction there is dropped, and with it the ledger. The broker has no file.
    rights = {"store": "~* &* +@all", "broker": "resetkeys resetchannels -@all"}[role]
    assert " ".join(users.pop("default")) == f"off resetpass {rights}"
    assert set(users) == set(store_users.USERS[role])
    assert not [name for name, rules in users.items() if "nopass" in rules or rules[0] != "on"]
