"""A store that went back in time: what it has forgotten is put back, or nothing is sent."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.support.pair import a_pair
from tests.support.rig import APP, DONE, MS, Rig, S
from tests.support.stored import transaction_hash
from workers.errors import StoreReplaced
from workers.governor import flows
from workers.governor.governor import Governor
from workers.governor.grants import Denied, Grant, Settled
from workers.governor.recent import RECENT, Recent, share_recent
from workers.settings.load import WorkerSettings
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from pathlib import Path

    from workers.store.connection import Store


class Copy:
    """The keys of a rig at one moment, to which its store can go back."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._held = {
            name: rig.store.execute_command("DUMP", name, NEVER_DECODE=True)
            for name in rig.store.scan_iter(f"{rig.keys.prefix}*", count=1000)
        }

    def restore(self, *, new_run: bool = True) -> None:
        """Let the store go back; in a new run the server itself knows nothing better."""
        store = self._rig.store
        for name in list(store.scan_iter(f"{self._rig.keys.prefix}*", count=1000)):
            store.delete(name)
        for name, value in self._held.items():
            store.execute_command("RESTORE", name, 0, value)
        if new_run:
            store.function_flush()


@pytest.fixture
def rig(store: Store) -> Rig:
    """A rig with full buckets and a worker `w1`, which has rung."""
    rig = Rig(store, APP)
    rig.fill()
    return rig


def other_process(rig: Rig) -> Governor:
    """The governor of another process, which knows no grant of the first one."""
    return Governor(rig.store, rig.keys, rig.client, WorkerSettings(), rig.clock)


def settled(rig: Rig, grant: Grant) -> Settled:
    return rig.governor.settle(grant, DONE)


def rung(rig: Rig, guards: str = "n", steps: int = 1) -> str:
    """A transaction whose bell is out."""
    (key,) = rig.line_up(1, *["POST /x"] * steps, guards=guards)
    rig.ring()
    assert transaction_hash(rig, key)["s"] == "r"
    return key


def wait_for_bells(rig: Rig) -> None:
    """Ring until a quiet time is over."""
    rig.line_up(1)
    rig.free("w1")
    while not rig.governor.ring("w1", 8).bells:
        rig.us += 25 * MS


def granted(decision: Grant | object) -> Grant:
    assert isinstance(decision, Grant)
    return decision


@pytest.mark.parametrize("new_run", [True, False], ids=["another server", "the same server"])
def test_a_call_that_the_store_forgot_is_granted_to_nobody_else(rig: Rig, *, new_run: bool) -> None:
    rig.governor.admit(rung(rig, "k"), 1)  # an earlier one, which the store knows
    key = rung(rig)
    copy = Copy(rig)
    grant = granted(rig.governor.admit(key, 1))
    copy.restore(new_run=new_run)
    other = other_process(rig)

    answers = [other.admit(key, 1)]  # the bell may be in the broker a second time
    for _ in range(100):
        rig.us += 25 * MS
        answers += [other.admit(bell.key, bell.step) for bell in other.ring("w2", 8).bells]
        rig.us += 25 * MS
        for bell in rig.governor.ring("w1", 8).bells:
            answers.append(rig.governor.admit(bell.key, bell.step))

    assert [it for it in answers if isinstance(it, Grant)] == []
    assert settled(rig, grant) is Settled.END
    assert transaction_hash(rig, key)["s"] == "succeeded"


@pytest.mark.parametrize("new_run", [True, False], ids=["another server", "the same server"])
@pytest.mark.parametrize("rung_before", [True, False], ids=["rung", "never rung"])
def test_a_store_that_forgot_every_grant_of_a_client_grants_none_again(
    store: Store, *, new_run: bool, rung_before: bool
) -> None:
    rig = Rig(store, APP)
    rig.fill()
    (key,) = rig.line_up(1, guards="n")
    if rung_before:
        rig.ring()
    copy = Copy(rig)
    if not rung_before:
        rig.ring()
    granted(rig.governor.admit(key, 1))
    copy.restore(new_run=new_run)
    other = other_process(rig)

    answers = [other.admit(key, 1)]
    for _ in range(10):
        rig.us += 25 * MS
        answers += [other.admit(bell.key, bell.step) for bell in other.ring("w2", 8).bells]
    rig.governor.ring("w", 100)

    assert [it for it in answers if isinstance(it, Grant)] == []
    assert transaction_hash(rig, key)["s"] == "s"


@pytest.mark.parametrize("fails_back", [True, False], ids=["there and back", "there"])
def test_a_call_that_the_primary_before_granted_is_granted_by_no_new_one(
    tmp_path: Path, *, fails_back: bool
) -> None:
    with a_pair(tmp_path) as pair:
        first, second = pair.first, pair.second
        pair.let_follow(second)
        rig = Rig(first, APP)
        rig.fill()
        rig.governor.ring("w1", 8)
        granted(rig.governor.admit(rung(rig, "k"), 1))  # the first server knows this one
        old, new = first, second
        if fails_back:
            pair.let_follow(second)  # it has all
            pair.promote(second)
            pair.let_follow(first)
            rig.move(second)
            wait_for_bells(rig)
            granted(rig.governor.admit(rung(rig, "k"), 1))
            old, new = second, first
        key = rung(rig)
        pair.let_follow(new)
        pair.promote(new)
        grant = granted(rig.governor.admit(key, 1))  # by the one before: the new one never hears
        assert transaction_hash(rig, key)["s"] == "s"
        rig.move(new)
        assert transaction_hash(rig, key)["s"] == "r"

        assert not isinstance(other_process(rig).admit(key, 1), Grant)

        rig.move(old)
        assert settled(rig, grant) is Settled.END


@pytest.mark.parametrize(("guard", "state"), [("n", "unknown"), ("k", "w"), ("l", "w")])
def test_a_forgotten_call_without_an_answer_is_what_its_guard_says(
    rig: Rig, guard: str, state: str
) -> None:
    rig.governor.admit(rung(rig, "k"), 1)
    key = rung(rig, guard)
    copy = Copy(rig)
    granted(rig.governor.admit(key, 1))
    copy.restore()

    assert rig.governor.ring("w1", 8).reclaimed == {"SENT": 1}
    rig.us += 100 * S
    rig.governor.sweep()

    tx = transaction_hash(rig, key)
    assert (tx["s"], tx["u"]) == (state, "1")


def test_nothing_is_granted_until_every_worker_that_lived_had_time_to_say_what_it_sent(
    rig: Rig,
) -> None:
    rig.governor.admit(rung(rig, "k"), 1)
    rig.governor.ring("w2", 8)
    key = rung(rig)
    began = rig.us
    Copy(rig).restore()

    while True:
        rig.us += 25 * MS
        if rig.governor.ring("w1", 8).bells or not isinstance(rig.governor.admit(key, 1), Denied):
            break
    assert 4 * S < rig.us - began <= 6 * S  # w2 was waited for, as long as it counts


def test_a_quiet_time_lasts_until_somebody_rings_who_knows_which_workers_lived(rig: Rig) -> None:
    rig.governor.admit(rung(rig, "k"), 1)
    keys = [rung(rig), rung(rig)]
    copy = Copy(rig)
    for key in keys:
        granted(rig.governor.admit(key, 1))
    copy.restore()
    other = other_process(rig)

    assert not isinstance(other.admit(keys[0], 1), Grant)
    rig.us += 2 * S  # no worker has reached the new primary yet
    assert not isinstance(other.admit(keys[1], 1), Grant)
    rig.governor.ring("w1", 8)

    assert rig.states(keys) == {"s": 2}


def test_a_run_that_forgot_nothing_goes_on_after_a_second(rig: Rig) -> None:
    rig.governor.admit(rung(rig, "k"), 1)
    key = rung(rig)
    began = rig.us
    Copy(rig).restore()

    assert isinstance(rig.governor.admit(key, 1), Denied)
    bells = []
    while not bells:
        rig.us += 25 * MS
        bells = rig.governor.ring("w1", 8).bells
    assert S <= rig.us - began < 2 * S
    granted(rig.governor.admit(key, 1))


@pytest.mark.parametrize("first", ["a job", "a ring"])
def test_a_new_client_does_not_wait(rig: Rig, first: str) -> None:
    if first == "a ring":
        rig.governor.ring("w1", 8)
    key = rung(rig)

    granted(rig.governor.admit(key, 1))


def test_a_session_of_a_new_client_does_not_wait(store: Store) -> None:
    rig = Rig(store, APP)
    rig.fill()
    flow = flows.flow(rig.client, 1, "-", "GET /x")
    run = Scripts(store, rig.keys, rig.clock)
    run("define", "0", flow.id, flow.definition(rig.client))

    assert run("acquire", "permit", flow.id, 70 * S, S)[0] == "GO"


def test_buckets_start_empty_in_a_new_run(rig: Rig) -> None:
    rig.governor.admit(rung(rig, "k"), 1)
    keys = rig.line_up(10)
    Copy(rig).restore()
    went = 0
    while not went:
        rig.us += 25 * MS
        went = len(rig.governor.ring("w1", 8).bells)

    assert went < APP.burst + 4  # of a second, from empty
    assert len(keys) == 10


def test_a_later_step_that_was_forgotten_is_treated_as_maybe_sent(rig: Rig) -> None:
    rig.governor.admit(rung(rig, "k"), 1)
    key = rung(rig, "kn", steps=2)
    first = granted(rig.governor.admit(key, 1))
    copy = Copy(rig)
    assert settled(rig, first) in {Settled.RING, Settled.BACKLOG}
    while isinstance(rig.governor.admit(key, 2), Denied):
        rig.us += 25 * MS
        rig.governor.ring("w1", 8)
    copy.restore()

    assert rig.governor.ring("w1", 8).reclaimed["LATER"] == 1
    assert settled(rig, first) is Settled.END
    assert transaction_hash(rig, key)["s"] == "unknown"


def test_a_forgotten_page_marks_the_pages_of_its_job_that_are_not_open(rig: Rig) -> None:
    rig.governor.admit(rung(rig, "k"), 1)
    copy = Copy(rig)
    key = rung(rig)
    job = transaction_hash(rig, key)["j"]
    granted(rig.governor.admit(key, 1))
    stored = rig.store.hgetall(rig.keys.job(job))
    copy.restore()
    rig.free()
    assert rig.governor.ring("w1", 8).reclaimed == {"GONE": 1}

    rig.store.hset(rig.keys.job(job), mapping=stored)
    again = Copy(rig)
    rig.us += 10 * S
    rig.fill()
    other_key = rung(rig, "k")
    granted(rig.governor.admit(other_key, 1))
    rig.governor._recent._kept.append(rig.governor._recent._kept[-1]._replace(key=key, job=job))
    again.restore()

    assert rig.governor.ring("w1", 8).reclaimed["PAGE"] == 1
    assert rig.store.hexists(rig.keys.job(job), "since")


def test_a_store_that_is_older_than_a_process_can_vouch_for_stops_all_until_it_is_recovered(
    rig: Rig,
) -> None:
    rig.governor.admit(rung(rig, "k"), 1)
    key = rung(rig)
    backup = Copy(rig)
    rig.us += 600 * S
    rig.governor.ring("w1", 8)
    rig.fill()
    granted(rig.governor.admit(key, 1))
    backup.restore()
    fresh = other_process(rig)

    for governor in (rig.governor, fresh, rig.governor):
        with pytest.raises(StoreReplaced, match="headgate recover --since 20"):
            governor.ring("w1", 8)
    with pytest.raises(StoreReplaced, match="older than what was sent"):
        fresh.admit(key, 1)

    rig.ledger.trust()
    rig.us += 10 * S
    assert fresh.ring("w1", 8).bells == []


def step_there_and_back(rig: Rig) -> None:
    """The store's clock goes five hours ahead and comes back; calls are granted meanwhile."""
    for step_us in (5 * 3600 * S, -5 * 3600 * S):
        rig.us += step_us
        rig.line_up(1)
        keys = []
        while not keys:
            rig.us += 25 * MS
            if rig.governor.ring("w1", 8).sweep:
                rig.governor.sweep()
            keys = [bell.key for bell in rig.governor.ring("w1", 8).bells]
        rig.serve(keys[0])


def advised_us(error: pytest.ExceptionInfo[StoreReplaced]) -> int:
    """The moment of `headgate recover --since` in a sentence."""
    _, _, text = str(error.value).partition("--since ")
    return round(datetime.fromisoformat(text.partition(" ")[0]).timestamp() * 1e6)


def test_a_clock_that_went_ahead_and_back_makes_no_failover_look_like_an_old_backup(
    rig: Rig,
) -> None:
    step_there_and_back(rig)
    rig.fill()
    key = rung(rig)
    copy = Copy(rig)
    granted(rig.governor.admit(key, 1))
    copy.restore()
    rig.us += 25 * MS

    assert rig.governor.ring("w1", 8).reclaimed == {"SENT": 1}

    assert int(transaction_hash(rig, key)["t1"]) <= rig.us


def test_a_client_whose_first_grant_was_lost_before_anybody_was_known_to_ring_is_not_stopped(
    rig: Rig,
) -> None:
    (key,) = rig.line_up(1, guards="n")
    copy = Copy(rig)
    rig.ring()
    granted(rig.governor.admit(key, 1))
    copy.restore()

    assert rig.governor.ring("w1", 8).reclaimed == {"SENT": 1}


@pytest.mark.parametrize("known", ["a grant", "a ring", "a job", "nothing", "clock set back"])
@pytest.mark.parametrize("fresh", [True, False], ids=["a fresh process rings first", "its own"])
def test_what_is_advised_for_an_old_store_is_a_moment_until_which_it_is_complete(
    rig: Rig, known: str, *, fresh: bool
) -> None:
    key = ""
    if known == "clock set back":
        step_there_and_back(rig)
        rig.fill()
    if known != "nothing":
        (key,) = rig.line_up(1)
    if known in {"a ring", "a grant"}:
        rig.ring()
    if known == "a grant":
        granted(rig.governor.admit(key, 1))
    backup, made_us = Copy(rig), rig.us
    rig.us += 600 * S
    rig.governor.ring("w1", 8)
    rig.fill()
    granted(rig.governor.admit(rung(rig), 1))
    backup.restore()
    rig.us += 5 * S
    if fresh:
        other_process(rig).ring("w2", 8)
        rig.us += 25 * MS

    sentences = []
    for governor in (rig.governor, other_process(rig)):
        with pytest.raises(StoreReplaced) as error:
            governor.ring("w1", 8)
        sentences.append(str(error.value))
    advised = advised_us(error)

    assert sentences[0] == sentences[1]
    if known == "nothing":
        assert rig.us - S < advised <= rig.us  # there is no work to recover
    else:
        assert made_us - 2 * S < advised <= made_us


def test_a_process_that_knows_of_more_grants_than_it_keeps_vouches_for_none(rig: Rig) -> None:
    grant = granted(rig.governor.admit(rung(rig, "k"), 1))
    recent = Recent()
    for number in range(RECENT + 2):
        recent.add(grant._replace(number=number))

    assert recent.after(0) is None
    assert [it.number for it in recent.after(RECENT) or ()] == [RECENT + 1]


def test_a_process_of_many_clients_keeps_fewer_grants_of_each(rig: Rig) -> None:
    grant = granted(rig.governor.admit(rung(rig, "k"), 1))
    recent = Recent(share_recent(50))
    for number in range(RECENT):
        recent.add(grant._replace(number=number))

    assert [share_recent(clients) for clients in (1, 8, 50, 200)] == [RECENT, RECENT, 655, 256]
    assert recent.after(RECENT - 657) is None
    assert len(recent.after(RECENT - 655) or ()) == 654
