"""The breaker of a client that is refused most calls, by a held clock: opening, probes, closing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.rig import (
    APP,
    DONE,
    LEASE_US,
    LEAST,
    MS,
    OPEN_S,
    REFUSED,
    Rig,
    S,
    breaker,
    grants,
    opened,
    probe,
)
from workers.answer.outcome import Health, Outcome
from workers.answer.verdict import UNSENT, Pause, Reach, Requeue
from workers.governor.proposals import Proposal, agreed, digest_of
from workers.settings.breaker import BreakerSettings

if TYPE_CHECKING:
    from workers.settings.client import ClientSettings
    from workers.store.connection import Store

FAILED = Requeue(outcome=Outcome.UNKNOWN, status=500, health=Health.BAD, delay_s=0.1)


@pytest.mark.parametrize(("good", "then"), [(8, "closed"), (7, "open")])
def test_it_opens_when_more_than_60_percent_of_20_calls_were_refused(
    store: Store, good: int, then: str
) -> None:
    rig = Rig(store, APP)
    rig.line_up(40)
    out = grants(rig, LEAST)

    for grant in out[:good]:
        rig.governor.settle(grant, DONE)
    for grant in out[good:-1]:
        rig.governor.settle(grant, REFUSED)
        assert not breaker(rig)
    rig.governor.settle(out[-1], REFUSED)

    assert ("open" if breaker(rig) else "closed") == then


@pytest.mark.parametrize(
    ("given", "refused", "then"),
    [
        ({"min_calls": 5}, 4, "open"),
        ({"min_calls": 6}, 5, "closed"),
        ({"min_calls": 5, "percent": 80}, 4, "closed"),
        ({"min_calls": 5, "percent": 79}, 4, "open"),
        ({"min_calls": 5, "percent": 10}, 1, "open"),
        ({"min_calls": 5, "percent": 20}, 1, "closed"),
    ],
)
def test_it_opens_by_the_percentage_and_the_minimum_that_are_set(
    store: Store, given: dict[str, int], refused: int, then: str
) -> None:
    rig = Rig(store, APP)
    rig.client = rig.client.model_copy(update={"breaker": BreakerSettings(**given)})
    rig.line_up(40)

    for number, grant in enumerate(grants(rig, 5)):
        rig.governor.settle(grant, REFUSED if number >= 5 - refused else DONE)

    assert ("open" if breaker(rig) else "closed") == then


@pytest.mark.parametrize(("window_s", "then"), [(4, "closed"), (5, "open")])
def test_it_counts_the_calls_of_the_window_that_is_set(
    store: Store, window_s: int, then: str
) -> None:
    rig = Rig(store, APP)
    given = BreakerSettings(window_s=window_s, min_calls=3)
    rig.client = rig.client.model_copy(update={"breaker": given})
    rig.line_up(40)
    rig.us -= rig.us % S

    for after_s in (0, 2, 2):
        rig.us += after_s * S
        rig.fill()
        rig.governor.settle(rig.grant(rig.ring(threads=1, after_us=0)[0]), REFUSED)

    assert ("open" if breaker(rig) else "closed") == then


def test_while_configurations_differ_it_opens_where_any_of_them_opens_it(store: Store) -> None:
    rig = Rig(store, APP)
    rules = [{"min_calls": 5}, {"percent": 30, "min_calls": 10}]
    versions = [
        rig.client.model_copy(update={"breaker": BreakerSettings(**rule)}) for rule in rules
    ]
    held = [
        Proposal.from_stored(Proposal.of(version, f"d{serial}", serial).as_stored())
        for serial, version in enumerate(versions)
    ]

    rig.client = agreed(rig.client, held)

    assert str(rig.client.breaker) == (
        "above 30 % of at least 10 calls in 10 s or above 60 % of at least 5 calls in 10 s"
    )
    for refused, of, then in ((4, 5, "open"), (3, 5, "closed"), (4, 10, "open"), (3, 10, "closed")):
        assert opens_at(store, rig.client, refused, of) == then, (refused, of)


def opens_at(store: Store, client: ClientSettings, refused: int, calls: int) -> str:
    """Whether the breaker of this client is open after so many calls, the last ones refused."""
    rig = Rig(store, APP)
    rig.client = client
    rig.line_up(40)
    for number, grant in enumerate(grants(rig, calls)):
        rig.governor.settle(grant, REFUSED if number >= calls - refused else DONE)
    return "open" if breaker(rig) else "closed"


def test_configurations_of_one_rule_agree_on_that(store: Store) -> None:
    client = Rig(store, APP).client
    given = client.model_copy(update={"breaker": BreakerSettings(percent=60)})

    both = agreed(client, [Proposal.of(client, "a", 1), Proposal.of(given, "b", 2)])

    assert both.breaker.rules == ((60, 10, 20),)
    assert digest_of({"acme": client}) != digest_of({"acme": given})


def test_fewer_than_20_calls_open_nothing(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(40)

    for grant in grants(rig, LEAST - 1):
        rig.governor.settle(grant, REFUSED)

    assert not breaker(rig)


def test_what_was_refused_ten_seconds_ago_no_longer_counts(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(80)
    first = grants(rig, LEAST - 1)
    for grant in first:
        rig.governor.settle(grant, REFUSED)

    rig.us += 11 * S
    for grant in grants(rig, LEAST - 1):
        rig.governor.settle(grant, REFUSED)

    assert not breaker(rig)


def test_while_it_is_open_nothing_leaves_and_bells_that_are_out_go_back(store: Store) -> None:
    rig = Rig(store, APP)
    rig.line_up(80)
    out = grants(rig, LEAST)
    rung = rig.ring_on(300 * MS)
    assert rung

    for grant in out:
        rig.governor.settle(grant, REFUSED)

    assert all(rig.word(key).startswith("wait: ") for key in rung)
    assert rig.ring_on(OPEN_S * S - 50 * MS) == []
    assert breaker(rig)["cause"] == "throttled"
    assert breaker(rig)["why"] == "13 of 20 calls in 10 s were refused"


def test_half_open_the_next_probe_goes_when_the_one_before_was_answered(store: Store) -> None:
    rig, _ = opened(store)
    first = probe(rig)

    assert not any(rig.ring(worker=f"w{n % 4}") for n in range(100))
    rig.governor.settle(first, DONE)
    assert len(rig.ring_on(2 * S)) == 1


def test_a_bell_that_waits_for_its_thread_is_the_only_one(store: Store) -> None:
    rig, _ = opened(store)

    assert len(rig.ring_on(OPEN_S * S + S)) == 1


def test_probes_go_at_distances_that_double_and_at_most_two_are_out(store: Store) -> None:
    rig, _ = opened(store)
    opened_us, went = rig.us, []
    for _ in range(2):
        probe(rig)
        went.append(round((rig.us - opened_us) / S))

    assert went == [2, 6]
    assert rig.ring_on(60 * S) == []  # both are still out: 60 s of 70 s


def test_two_good_probes_in_a_row_close_it_and_forget_what_was_counted(store: Store) -> None:
    rig, _ = opened(store)

    for _ in range(2):
        assert breaker(rig)
        rig.governor.settle(probe(rig), DONE)

    assert not breaker(rig)
    gov: Any = rig.store.hgetall(rig.keys.governor)
    assert not [field for field in gov if field.startswith(("n:", "x:"))]
    assert len(rig.ring_on(S)) > 1


@pytest.mark.parametrize("answer", [REFUSED, FAILED], ids=["refused", "failed"])
def test_a_bad_probe_counts_the_good_ones_anew_and_the_next_one_waits_longer(
    store: Store, answer: Requeue
) -> None:
    rig, _ = opened(store)
    rig.governor.settle(probe(rig), DONE)

    rig.governor.settle(probe(rig), answer)
    assert rig.ring_on(4 * S - 50 * MS) == []
    rig.governor.settle(probe(rig), answer)
    assert rig.ring_on(8 * S - 50 * MS) == []

    for _ in range(2):
        assert breaker(rig)
        rig.governor.settle(probe(rig), DONE)
    assert not breaker(rig)


def test_a_probe_waits_as_long_as_the_one_before_was_told(store: Store) -> None:
    rig, _ = opened(store)

    rig.governor.settle(probe(rig), replace(REFUSED, retry_after_s=60, delay_s=0))

    assert rig.ring_on(60 * S - 50 * MS) == []
    assert probe(rig)


def test_a_probe_that_was_not_sent_says_nothing(store: Store) -> None:
    rig, _ = opened(store)
    rig.governor.settle(probe(rig), DONE)

    rig.governor.settle(probe(rig), UNSENT)

    rig.governor.settle(probe(rig), DONE)
    assert not breaker(rig)


def test_a_probe_whose_worker_died_makes_room_for_another_after_its_lease(store: Store) -> None:
    rig, _ = opened(store)
    dead, slow = probe(rig), probe(rig)
    rig.us += LEASE_US - 5 * S
    assert rig.ring_on(500 * MS) == []

    rig.us += S
    rig.governor.sweep()
    other = probe(rig)
    rig.governor.settle(other, DONE)

    assert other.fence not in {dead.fence, slow.fence}
    assert breaker(rig)["good"] == "1"


def test_answers_of_calls_that_were_out_before_decide_nothing(store: Store) -> None:
    rig, late = opened(store, more=12)
    assert probe(rig)
    before = breaker(rig)

    for grant in late[:6]:
        rig.governor.settle(grant, DONE)
    for grant in late[6:]:
        rig.governor.settle(grant, REFUSED)

    assert breaker(rig) == before


def test_the_provider_may_hold_the_client_beyond_the_breaker(store: Store) -> None:
    rig, late = opened(store, more=1)

    rig.governor.settle(late[0], replace(REFUSED, pause=Pause(60, Reach.CLIENT)))

    assert rig.ring_on(59 * S) == []
    assert probe(rig)


def test_a_chain_does_not_go_on_past_its_breaker(store: Store) -> None:
    rig, _ = opened(store)
    (key,) = rig.line_up(1, "POST /x", "POST /x", lane=0)
    grant = probe(rig)
    assert grant.key == key

    assert rig.governor.settle(grant, DONE) == "BACKLOG"
