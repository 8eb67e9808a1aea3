"""A step is done only by who it is for: its kind, and its pool; the ledger knows both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.rig import APP, DONE, LATER, Rig, S
from tests.support.stored import transaction_hash
from workers.governor.governor import KEY_LIFE_S
from workers.governor.grants import Asker, Denied, DeniedKind, Grant, Hindrance, KeyExpired

if TYPE_CHECKING:
    from workers.store.connection import Reply, Store

CALL, MEDIA, LOCAL = "client", "pool:media", "pool:calls"
NOT_FOR_IT = Denied(DeniedKind.DROP, "other kind")
#: What a step is, as `Rig.line_up` names it, and whom it is for.
STEPS = {"POST /x": CALL, "media": MEDIA, "calls": LOCAL}


def stored(rig: Rig) -> dict[str, Reply]:
    """Every key of the client, byte for byte."""
    return {name: rig.store.dump(name) for name in rig.store.scan_iter(f"{rig.keys.prefix}*")}


def rung(rig: Rig, step: str) -> str:
    """The key of one step of this sort, whose bell is out."""
    (key,) = rig.line_up(1, step, guards="k" if STEPS[step] == CALL else "r")
    rig.fill()
    rig.governor.ring("w-media", 4, "media")
    rig.free()
    assert key in rig.ring() or transaction_hash(rig, key)["s"] == "r"
    return key


@pytest.mark.parametrize("step", STEPS)
def test_a_bell_of_another_kind_or_pool_changes_nothing_and_the_true_one_is_granted(
    store: Store, step: str
) -> None:
    rig = Rig(store, APP)
    key = rung(rig, step)
    before = stored(rig)

    others = {Asker("contacts", STEPS[step]), *(Asker("calls", does) for does in STEPS.values())}
    for asker in others - {Asker("calls", STEPS[step])}:
        assert rig.governor.admit(key, 1, asker) == NOT_FOR_IT
        rig.governor.requeue(key, 1, Hindrance("no connection", pause_s=5), asker)
    assert stored(rig) == before

    assert isinstance(rig.governor.admit(key, 1, Asker("calls", STEPS[step])), Grant)


def test_a_bell_of_another_kind_neither_replaces_a_key_nor_charges_a_limit(store: Store) -> None:
    rig = Rig(store, APP)
    key = rung(rig, "POST /x")
    rig.serve(key, verdict=LATER)
    rig.us += KEY_LIFE_S * S
    rig.fill()
    assert rig.ring() == [key]
    before = stored(rig)

    assert rig.governor.admit(key, 1, Asker("contacts")) == NOT_FOR_IT

    assert stored(rig) == before
    assert isinstance(rig.governor.admit(key, 1, Asker("calls")), KeyExpired)


def test_an_asker_may_put_back_what_is_for_it(store: Store) -> None:
    rig = Rig(store, APP)
    key = rung(rig, "POST /x")

    rig.governor.requeue(key, 1, asker=Asker("calls"))

    assert rig.state(key) == "w"
    assert rig.ring() == [key]
    assert rig.governor.settle(rig.grant(key), DONE)
