"""A message names, the ledger decides: what a stranger sends over the broker changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from orchestration.dispatch import pages, publisher
from tests.support.fleet import Fleet, calls, until
from tests.support.forging import QUEUE, TASK, broker_of, forged_bells, ledger_of
from workers.broker import names, transport
from workers.broker.transport import is_task_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.governor.grants import Bell

#: Nobody rings again within a test: a bell that is out is answered by the test, or by nobody.
PATIENT = {"bell_grace_s": 120.0}


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet with two clients, and a broker that a stranger has open too."""
    with Fleet(worker=PATIENT, names=("acme", "beta"), broker=True) as it:
        yield it


@pytest.fixture
def app(fleet: Fleet) -> Iterator[Celery]:
    """An application on this broker, of somebody who knows all names and no secret."""
    transport.install()
    url = f"redis://127.0.0.1:{fleet.broker_port}/1"
    with Celery("stranger", broker=url, set_as_current=False) as it:
        it.conf.update(
            names.name_settings("headgate"),
            broker_transport_options=transport.transport_options() | names.key_options("headgate"),
            task_ignore_result=True,
        )
        yield it


def ring_all(fleet: Fleet, count: int) -> list[Bell]:
    """The bells of so many rows, which nobody has published yet."""
    bells: list[Bell] = []

    def are_all_out() -> bool:
        bells.extend(fleet.client.governor().ring("test", 100).bells)
        return len(bells) == count

    pages.open_next_page(fleet.client, "job")
    until(are_all_out, what="all bells")
    return bells


def has_token(fleet: Fleet) -> bool:
    """Whether the client has its token, and nobody asks for one just now."""
    store, keys = fleet.client.store, fleet.client.keys
    return bool(store.hexists(keys.oauth, "token")) and not store.exists(keys.oauth_lock)


def count_taken(app: Celery) -> int:
    """How many tasks the worker has served; -1 while it still has some, or does not answer."""
    inspect = app.control.inspect(timeout=2, limit=1)
    asked: list[Any] = [inspect.active(), inspect.reserved(), inspect.stats()]
    if not all(asked) or any(tasks for reply in asked[:2] for tasks in reply.values()):
        return -1
    ((_, stats),) = asked[2].items()
    return sum(stats["total"].values())


def test_no_forged_bell_changes_the_ledger_or_sends_and_the_true_ones_go_their_way(
    fleet: Fleet, app: Celery
) -> None:
    fleet.submit(calls(3, steps=2))
    bells = ring_all(fleet, 3)
    fleet.start_worker("w1")
    until(lambda: count_taken(app) == 0, what="the worker")
    until(lambda: all(has_token(fleet.of(name)) for name in fleet.names), what="its tokens")
    before = {name: ledger_of(fleet, name) for name in fleet.names}
    requests = len(fleet.requests())
    forged = forged_bells("acme", bells[0].key, other="beta")

    broker = broker_of(fleet)
    broker.lpush(QUEUE, *forged.values())
    # What is no task message, or names no task, is put away before it is counted.
    served = sum(is_task_message(text.encode()) for text in forged.values()) - 1
    until(lambda: count_taken(app) == served, what=f"{served} forged bells", fleet=fleet)

    assert {name: ledger_of(fleet, name) for name in fleet.names} == before
    assert len(fleet.requests()) == requests
    publisher.publish(app, "headgate", "acme", [(TASK, bell) for bell in bells])
    assert fleet.wait() == {"succeeded": 3}
    assert fleet.report()["effects"] == 6
    assert "Traceback" not in fleet.log("w1")
