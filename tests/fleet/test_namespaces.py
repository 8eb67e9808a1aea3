"""Two namespaces on one server, and in one database of it, have nothing in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import ROOT, Fleet, calls, until
from workers.clients import Clients
from workers.settings.load import load

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER = "other"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet of the namespace `headgate`, whose bells are in the database of its store."""
    with Fleet() as it:
        url = f"redis://127.0.0.1:{it.store_port}/0"
        it.environment |= {"HEADGATE_STORE__BROKER_URL": url}
        yield it


def rules(namespace: str) -> list[str]:
    """What the containers' store lets its user do, for the user of another namespace."""
    text = (ROOT / "compose/store_users").read_text()
    (line,) = [it for it in text.splitlines() if it.startswith("user headgate ")]
    given = [it for it in line.split()[2:] if not it.startswith("#")]
    own = [it.replace("headgate", namespace) if it[0] in "~&" else it for it in given]
    return [*own, "+config|get", f">{namespace}"]


def of_user(fleet: Fleet, namespace: str) -> dict[str, str]:
    """The variables of a process of this namespace, which may touch nothing of the other's."""
    url = f"redis://{namespace}:{namespace}@127.0.0.1:{fleet.store_port}/0"
    names = {"NAMESPACE": namespace, "URL": url, "BROKER_URL": url}
    return {f"HEADGATE_STORE__{name}": value for name, value in names.items()}


def test_a_worker_takes_no_bell_of_another_namespace(fleet: Fleet) -> None:
    once = fleet.folder / "died"
    env = {"HEADGATE_FAILPOINT": "popped:kill:1", "HEADGATE_FAILPOINT_ONCE": str(once)}
    fleet.start_worker("thief", env={"HEADGATE_STORE__NAMESPACE": OTHER, **env})
    fleet.start_worker("w1")
    until(lambda: fleet.client.store.client_list(_type="pubsub")[1:], 20, what="both workers")

    fleet.submit(calls(150))

    assert fleet.wait() == {"succeeded": 150}
    assert not once.exists()


def test_two_namespaces_work_side_by_side_and_touch_nothing_of_each_other(fleet: Fleet) -> None:
    store = fleet.client.store
    for namespace in ("headgate", OTHER):
        store.execute_command("ACL", "SETUSER", namespace, "reset", "on", *rules(namespace))
        events = {"HEADGATE_WORKER__EVENTS": "true"}
        fleet.start_worker(namespace, env={**of_user(fleet, namespace), **events})
    settings = load(fleet.config)
    theirs = settings.model_copy(
        update={"store": settings.store.model_copy(update={"namespace": OTHER})}
    )
    both = {"headgate": fleet, OTHER: fleet.of("acme")}
    both[OTHER].client = Clients(theirs)["acme"]

    for namespace, side in both.items():
        side.submit(calls(60, prefix=f"{namespace}-", steps=2), job=f"{namespace}-job")

    for namespace, side in both.items():
        assert side.wait(f"{namespace}-job") == {"succeeded": 60}
    assert {it["business_id"].partition("-")[0] for it in fleet.effects()} == set(both)
    refused = store.execute_command("ACL", "LOG")
    assert [dict(zip(it[::2], it[1::2], strict=True))["object"] for it in refused] == []
