"""Two halves take the place of a batch, and know of its sends what it knew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.rig import APP, Rig
from tests.support.stored import transaction_hash
from workers.answer.guards import Memo, NextCall
from workers.answer.outcome import Outcome
from workers.answer.verdict import Requeue
from workers.governor.grants import Half, MustSplit
from workers.ledger.batch import halves

if TYPE_CHECKING:
    from workers.store.connection import Store


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.NOT_EXECUTED])
def test_halves_of_what_may_have_been_executed_may_have_been_too(
    store: Store, outcome: Outcome
) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1, guards="u")
    rig.fill()
    assert rig.ring() == [key]
    rig.serve(key, verdict=Requeue(outcome=outcome, attempt=True, memo=Memo(next=NextCall.SPLIT)))
    assert rig.ring_on(1_000_000) == [key]
    refused = rig.governor.admit(key, 1)
    assert isinstance(refused, MustSplit)

    places = halves(refused.place, 5)
    rig.governor.split(refused, [Half(f"{key}-{it.first}", it, 2) for it in places])

    both = [transaction_hash(rig, f"{key}-{it.first}") for it in places]
    assert [it["s"] for it in both] == ["w", "w"]
    assert [it.get("u", "0") for it in both] == ["1" if outcome is Outcome.UNKNOWN else "0"] * 2
