"""What a dispatcher hears of the channel on which the store wakes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.exceptions import NoPermissionError

from orchestration.dispatch import wakes
from orchestration.dispatch.wakes import Wakes

if TYPE_CHECKING:
    from redis.client import PubSub

    from workers.store.connection import Store


@pytest.fixture
def woken(store: Store, monkeypatch: pytest.MonkeyPatch) -> Wakes:
    """A subscription that is made again at once when it has ended."""
    monkeypatch.setattr(wakes, "SUBSCRIBE_AGAIN_S", 0.0)
    return Wakes(store, "space")


def test_the_clients_that_are_named_meanwhile_are_given_at_once_and_each_once(
    store: Store, woken: Wakes
) -> None:
    assert woken.wait(5) is None
    for client in ("acme", "beta", "acme"):
        store.publish("space:wake", client)
    store.publish("other:wake", "gamma")

    names = set[str]()
    while names != {"acme", "beta"}:
        names |= set(woken.wait(5) or ())
    assert woken.wait(0) == set()
    woken.close()


def test_after_a_lost_connection_it_subscribes_again_and_says_that_anything_may_be_missed(
    store: Store, woken: Wakes
) -> None:
    assert woken.wait(5) is None
    assert woken._subscription
    woken._subscription.connection.disconnect()
    store.publish("space:wake", "acme")  # nobody hears it

    answers = [woken.wait(1), woken.wait(1)]

    assert None in answers
    store.publish("space:wake", "beta")
    assert woken.wait(5) == {"beta"}
    woken.close()


def test_a_user_who_may_not_subscribe_is_told_what_is_missing(
    woken: Wakes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(_: PubSub, *__: str) -> None:
        raise NoPermissionError("no permissions")

    monkeypatch.setattr("redis.client.PubSub.subscribe", refuse)

    assert woken.wait(1) == ()

    assert "+subscribe +unsubscribe +publish &space:wake" in caplog.text
    monkeypatch.undo()
    monkeypatch.setattr(wakes, "SUBSCRIBE_AGAIN_S", 0.0)
    assert woken.wait(5) is None
    woken.close()
