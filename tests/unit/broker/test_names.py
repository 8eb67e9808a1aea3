"""What stands on the broker is known by its namespace."""

from __future__ import annotations

from itertools import combinations

from workers.broker.names import key_options, name_settings, queue_of
from workers.governor.flows import POOLS
from workers.store.keys import ClientKeys, installation

#: Names that begin or end like each other, or like what is built from another.
NAMESPACES = ["headgate", "headgate.calls", "headgate.kombu.binding", "h", "kombu", "calls"]


def built(namespace: str) -> set[str]:
    """Every name that a process of this namespace builds, for a queue of another, too."""
    names = {queue_of(namespace, pool) for pool in POOLS}
    settings = name_settings(namespace)
    names |= {f"{settings['control_exchange']}.pidbox", settings["event_exchange"]}
    for option in key_options(namespace).values():
        names |= {option % name if "%s" in option else option for name in names}
    names |= {f"{name}\x06\x163" for name in names}  # kombu's queues of another priority
    return names | {installation(namespace), ClientKeys(namespace, "acme").governor}


def test_no_two_namespaces_build_the_same_name() -> None:
    for one, other in combinations(NAMESPACES, 2):
        assert not built(one) & built(other)


def test_the_default_namespace_has_names_that_a_person_reads() -> None:
    assert [queue_of("headgate", pool) for pool in POOLS] == ["headgate.calls", "headgate.media"]
    assert key_options("headgate")["garbage_key"] == "headgate.garbage"
