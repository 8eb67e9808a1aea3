"""Two namespaces on one server, and in one database of it, have nothing in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import store_users
from tests.support.fleet import Fleet, calls, until
from workers.clients import Clients
from workers.settings import load as load_settings
from workers.store.scripts import library, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.connection import Store

OTHER = "other"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet of the namespace `headgate`, whose bells are in the database of its store."""
    with Fleet() as it:
        url = f"redis://127.0.0.1:{it.store_port}/0"
        it.environment |= {"HEADGATE_STORE__BROKER_URL": url}
        yield it


def add_users(store: Store, namespace: str) -> None:
    """The users of the containers, for a namespace: of its ledger, and of its broker."""
    ledger = store_users.rules_of("headgate", store, namespace=namespace)
    broker = store_users.rules_of("broker", store, "broker", namespace=namespace)
    for name, given in ((namespace, ledger), (f"{namespace}-broker", broker)):
        store.execute_command("ACL", "SETUSER", name, "reset", *given, f">{name}")


def of_users(fleet: Fleet, namespace: str) -> dict[str, str]:
    """The variables of a process of this namespace, which may touch nothing of the other's."""
    port = fleet.store_port
    given = store_users.settings_as(port, port, ledger=namespace, broker=f"{namespace}-broker")
    return {**named(namespace), **given}


def named(namespace: str) -> dict[str, str]:
    """The variables of a namespace, which has a data folder of its own."""
    return {"HEADGATE_STORE__NAMESPACE": namespace, "HEADGATE_STORE__DATA_DIR": f"data.{namespace}"}


def test_a_worker_takes_no_bell_of_another_namespace(fleet: Fleet) -> None:
    once = fleet.folder / "died"
    env = {"HEADGATE_FAILPOINT": "popped:kill:1", "HEADGATE_FAILPOINT_ONCE": str(once)}
    fleet.start_worker("thief", env={**named(OTHER), **env})
    fleet.start_worker("w1")
    until(lambda: fleet.client.store.client_list(_type="pubsub")[1:], 20, what="both workers")

    fleet.submit(calls(150))

    assert fleet.wait() == {"succeeded": 150}
    assert not once.exists()


def test_two_namespaces_work_side_by_side_and_touch_nothing_of_each_other(fleet: Fleet) -> None:
    store = fleet.client.store
    load(store, *library())
    for namespace in ("headgate", OTHER):
        add_users(store, namespace)
        events = {"HEADGATE_WORKER__EVENTS": "true"}
        fleet.start_worker(namespace, env={**of_users(fleet, namespace), **events})
    settings = load_settings(fleet.config)
    other = {"namespace": OTHER, "data_dir": fleet.folder / f"data.{OTHER}"}
    theirs = settings.model_copy(update={"store": settings.store.model_copy(update=other)})
    both = {"headgate": fleet, OTHER: fleet.of("acme")}
    both[OTHER].client = Clients(theirs)["acme"]

    for namespace, side in both.items():
        side.submit(calls(60, prefix=f"{namespace}-", steps=2), job=f"{namespace}-job")

    for namespace, side in both.items():
        assert side.wait(f"{namespace}-job") == {"succeeded": 60}
    assert {it["business_id"].partition("-")[0] for it in fleet.effects()} == set(both)
    assert store_users.refused(store) == []
