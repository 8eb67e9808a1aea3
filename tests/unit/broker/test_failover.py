"""A broker that was primary and is a replica now: bells go to the server that its address names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from orchestration.dispatch.publisher import publish
from tests.support.pair import Pair, a_pair
from workers.broker import transport
from workers.governor.grants import Bell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BELLS = [("some.task", Bell(f"key-{n}", 1, 1, "job")) for n in range(3)]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two servers behind one address."""
    with a_pair(tmp_path) as both:
        yield both


def test_the_publish_after_one_that_a_replica_refused_reaches_the_primary(pair: Pair) -> None:
    transport.install()
    app = Celery(broker=pair.endpoint.url, set_as_current=False)
    app.conf.broker_transport_options = transport.transport_options()
    publish(app, "headgate", "acme", BELLS)
    pair.fail_over()

    with pytest.raises(KombuError):
        publish(app, "headgate", "acme", BELLS)
    publish(app, "headgate", "acme", BELLS)

    assert [it.llen("headgate.calls") for it in (pair.first, pair.second)] == [3, 3]


def test_what_is_not_published_in_a_batch_heals_as_well(pair: Pair) -> None:
    transport.install()
    app = Celery(broker=pair.endpoint.url, set_as_current=False)
    app.conf.broker_transport_options = transport.transport_options()
    app.conf.task_publish_retry = False
    app.send_task("some.task", queue="calls")
    pair.fail_over()

    with pytest.raises((KombuError, RedisError)):
        app.send_task("some.task", queue="calls")
    app.send_task("some.task", queue="calls")

    assert pair.second.llen("calls") == 1
