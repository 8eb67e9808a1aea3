"""How often a step was sent: what the report shows as its attempts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.rig import APP, DONE, FAILED, LATER, RETRY, Rig, S, replayed
from tests.support.stored import transaction_hash
from workers.answer.outcome import Health, Outcome
from workers.answer.verdict import UNSENT, Requeue
from workers.governor.grants import Settled
from workers.ledger.ledger import Replayed

if TYPE_CHECKING:
    from workers.answer.verdict import Verdict
    from workers.store.connection import Store

REFUSED = replace(LATER, status=429, throttled=True)
TOKEN = replace(LATER, status=401)
NO_CONNECTION = replace(LATER, health=Health.BAD, error="no connection")
PART = Requeue(outcome=Outcome.EXECUTED, status=200, part_done=True)


def sends(rig: Rig, key: str) -> int:
    transaction = rig.ledger.transaction(key)
    assert transaction
    return transaction.sends


def serve_all(rig: Rig, key: str, *verdicts: Verdict) -> None:
    for verdict in verdicts:
        if rig.state(key) == "t":
            rig.us += 2 * S  # Celery's countdown is over
        elif rig.state(key) == "w":
            rig.us += 60 * S
            rig.fill()
            assert rig.ring() == [key]
        rig.serve(key, int(transaction_hash(rig, key)["k"]), verdict)


def a_row(store: Store, steps: int = 1) -> tuple[Rig, str]:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, *["POST /x"] * steps)
    rig.fill()
    return rig, key


@pytest.mark.parametrize(
    ("verdicts", "count"),
    [
        ([DONE], 1),
        ([FAILED], 1),
        ([REFUSED, DONE], 2),
        ([TOKEN, DONE], 2),
        ([RETRY, RETRY, DONE], 3),
        ([UNSENT, NO_CONNECTION], 0),
        ([UNSENT, NO_CONNECTION, FAILED], 1),
        ([PART, PART], 0),
        ([PART, RETRY, DONE], 2),
    ],
)
def test_each_send_counts_and_nothing_else(
    store: Store, verdicts: list[Verdict], count: int
) -> None:
    rig, key = a_row(store)

    serve_all(rig, key, *verdicts)

    assert sends(rig, key) == count


def test_each_step_is_counted_anew(store: Store) -> None:
    rig, key = a_row(store, steps=2)

    serve_all(rig, key, RETRY, DONE)
    before = sends(rig, key)
    serve_all(rig, key, FAILED)

    assert (before, sends(rig, key)) == (0, 1)
    assert replayed(rig, key) is Replayed.WAITS
    serve_all(rig, key, DONE)
    assert sends(rig, key) == 2


@pytest.mark.parametrize("late", [True, False])
def test_a_send_whose_worker_died_counts_once_also_when_its_answer_comes_late(
    store: Store, *, late: bool
) -> None:
    rig, key = a_row(store)
    rig.ring()
    grant = rig.grant(key)
    rig.us += 5 * 3600 * S
    rig.governor.sweep()

    assert sends(rig, key) == 1
    if late:
        assert rig.governor.settle(grant, DONE) is Settled.END
        assert sends(rig, key) == 1
