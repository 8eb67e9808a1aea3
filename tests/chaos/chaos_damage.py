"""Keys are damaged at random under load: others are done once, and each damaged one is named."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Final

import pytest

from tests.support import journal
from tests.support.fleet import Fleet, calls, until
from workers.ledger.transaction import TransactionState

ROWS: Final = 1500
DAMAGES: Final = 40
FIELDS: Final = ("s", "k", "n", "fl", "g", "j", "p", "f", "t1", "at", "m", "cr")
#: Fields of gov that anything may write over: the scripts count them again.
OF_GOV: Final = ("b:client", "b:app", "q:1", "c:app", "next", "owner", "n:3")

#: What becomes of those that were damaged.
ENDS: Final = {"noted", "unknown", "succeeded", "damaged after its end"}


def damage(fleet: Fleet, key: str, chance: random.Random) -> None:
    """Damage one transaction, or what all share."""
    store, name = fleet.client.store, fleet.client.keys.transaction(key)
    match chance.choice(["type", "missing", "garbage", "gone", "gov", "member"]):
        case "type":
            store.delete(name)
            store.set(name, "of another kind")
        case "missing":
            store.hdel(name, chance.choice(FIELDS))
        case "garbage":
            store.hset(name, chance.choice(FIELDS), "no{such}thing")
        case "gone":
            store.delete(name)
        case "gov":
            store.hset(fleet.client.keys.governor, chance.choice(OF_GOV), "no{such}thing")
        case "member":
            store.zadd(fleet.client.keys.deadlines, {"nobody": 1})
            store.sadd(fleet.client.keys.active, "no{such}thing")


@pytest.mark.parametrize("seed", [random.SystemRandom().randrange(10**6) for _ in range(2)])
def test_keys_that_are_damaged_at_random_stop_and_double_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    with Fleet() as fleet:
        fleet.submit(calls(ROWS))
        fleet.start_worker("w1")
        fleet.start_worker("w2")
        fleet.wait_for(50)
        keys = fleet.keys()
        damaged = set(chance.sample([*keys], DAMAGES))
        for row in damaged:
            damage(fleet, keys[row], chance)
            time.sleep(0.1)
        others = [key for row, key in keys.items() if row not in damaged]

        def all_succeeded() -> bool:
            read = fleet.client.ledger.transactions(others)
            return all(one and one.state is TransactionState.SUCCEEDED for one in read)

        until(all_succeeded, 90, "the end of all others", fleet)

        def states() -> Counter[str]:
            noted = fleet.client.store.hgetall(fleet.client.keys.damaged)
            return Counter(
                "noted" if f"tx:{keys[row]}" in noted else stored_state(fleet, keys[row])
                for row in damaged
            )

        # Leases of the damaged ones end, and those under which they did go one after the other.
        until(lambda: {*states()} <= ENDS, 60, "the end of the damaged ones", fleet)

        assert journal.at_most_one_effect(fleet.effects()) == []


def stored_state(fleet: Fleet, key: str) -> str:
    """The state as it is stored; a transaction that had ended before may be damaged for good."""
    name = fleet.client.keys.transaction(key)
    if fleet.client.store.type(name) != "hash":
        return "damaged after its end"
    state = fleet.client.store.hget(name, "s") or ""
    return (
        str(state) if state in {"unknown", "succeeded", "w", "r", "t"} else "damaged after its end"
    )
