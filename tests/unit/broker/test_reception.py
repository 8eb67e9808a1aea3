"""What is said of a worker that can take no bells, and when it is said no more."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import NoPermissionError

from workers.broker.reception import GRACE_S, LONGEST_WAIT_S, Reception

REFUSAL = NoPermissionError("No permissions to access a key")


class Clock:
    """A clock that a test holds."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reception(clock: Clock) -> Reception:
    return Reception(clock)


def test_a_worker_that_takes_bells_or_has_just_begun_says_nothing(
    clock: Clock, reception: Reception
) -> None:
    reception.note_away()
    clock.now_s += GRACE_S / 2
    assert reception.why == ""

    reception.note_connection()
    clock.now_s += GRACE_S

    assert reception.why == ""


def test_a_broker_that_is_away_is_said_until_there_is_a_connection(
    clock: Clock, reception: Reception
) -> None:
    reception.note_failure(NoConnection("gone"))
    clock.now_s += GRACE_S

    assert reception.why == "there is no connection to the broker"
    assert not reception.is_refused
    reception.note_connection()
    assert reception.why == ""


def test_a_queue_that_is_refused_is_said_until_the_broker_answers_for_it(
    clock: Clock, reception: Reception
) -> None:
    for _ in range(3):  # as a worker does: it connects, asks, is refused, and connects anew
        reception.note_away()
        reception.note_connection()
        reception.note_failure(REFUSAL)
        clock.now_s += GRACE_S / 2

    assert reception.why == f"the broker refuses (NoPermissionError: {REFUSAL})"
    assert reception.is_refused
    reception.clear()
    assert reception.why == ""
    assert not reception.is_refused


def test_a_queue_that_is_refused_is_asked_for_at_growing_distances(reception: Reception) -> None:
    waits = [reception.note_failure(REFUSAL) for _ in range(6)]

    assert waits == [1.0, 2.0, 4.0, 8.0, LONGEST_WAIT_S, LONGEST_WAIT_S]
    reception.clear()
    assert reception.note_failure(REFUSAL) == waits[0]
    assert reception.note_failure(NoConnection("gone")) == 0.0
