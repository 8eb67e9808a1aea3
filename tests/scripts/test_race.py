"""What is raced by 64 threads of 4 processes is granted exactly as often as it may be."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.rig import DONE, Rig
from tests.support.stored import job_hash
from workers.governor import flows
from workers.governor.governor import Governor
from workers.governor.grants import Grant
from workers.ledger.ledger import Ledger, NewTransaction
from workers.settings.limits import LimitSettings
from workers.settings.load import WorkerSettings
from workers.store import scripts
from workers.store.connection import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from threading import Barrier

    from workers.settings.client import ClientSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

PROCESSES, THREADS = 4, 16
RACERS = PROCESSES * THREADS
#: 400 tokens of 2,500 us each.
APP = LimitSettings(name="app", count=500, burst=400, rate=400, reserve=0)
EP = APP.model_copy(update={"name": "ep", "match": "POST /ep"})


@pytest.fixture(autouse=True, scope="module")
def looking_library() -> str:
    """The plain library, for the racers have it too: each library knows the clients that it saw."""
    return scripts.library()[0]


# In the processes of the racers.

_url: str
_barrier: Barrier


def _begin(url: str, barrier: Barrier) -> None:
    global _url, _barrier
    _url, _barrier = url, barrier


def _run(
    act: Callable[..., Any], keys: ClientKeys, client: ClientSettings, us: int, parts: list[Any]
) -> list[Any]:
    """One process: as many threads as `parts`, all off at once, each with its part of the work."""
    store = connect(_url)
    governor = Governor(store, keys, client, WorkerSettings(), lambda: us)
    ledger = Ledger(store, keys, lambda: us)

    def thread(part: list[Any]) -> list[Any]:
        _barrier.wait(timeout=30)
        return [act(governor, ledger, it) for it in part]

    with ThreadPoolExecutor(len(parts)) as threads:
        return [answer for answers in threads.map(thread, parts) for answer in answers]


def _admit(governor: Governor, _: Ledger, key: str) -> tuple[str, str]:
    answer = governor.admit(key, 1)
    return key, "go" if isinstance(answer, Grant) else answer.kind.value


def _settle(governor: Governor, _: Ledger, grant: Grant) -> str:
    return governor.settle(grant, DONE).value


def _ring(governor: Governor, _: Ledger, worker: str) -> list[str]:
    return [bell.key for bell in governor.ring(worker, 10).bells]


def _open(
    _: Governor, ledger: Ledger, page: tuple[str, dict[str, str], list[NewTransaction]]
) -> bool:
    job, definitions, opened = page
    return ledger.open(job, 0, definitions, opened, [])


# In the test's own.


@pytest.fixture(scope="module")
def pool(store_url: str) -> Iterator[ProcessPoolExecutor]:
    """Four processes, each with a client of the store of its own."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # what they import is imported once
    barrier = context.Barrier(RACERS)
    with ProcessPoolExecutor(PROCESSES, context, _begin, (store_url, barrier)) as it:
        yield it


def race(
    pool: ProcessPoolExecutor, rig: Rig, act: Callable[..., Any], work: Sequence[Any]
) -> list[Any]:
    """The answers to all of `work`, dealt out to the racers."""
    hands = [list(work[racer::RACERS]) for racer in range(RACERS)]
    runs = [
        pool.submit(_run, act, rig.keys, rig.client, rig.us, hands[number::PROCESSES])
        for number in range(PROCESSES)
    ]
    return [answer for run in runs for answer in run.result(timeout=60)]


def leave(rig: Rig, limit: LimitSettings, tokens: int) -> int:
    """Leave so many tokens in a limit; returns the moment at which it is full again."""
    full_at = rig.us + (400 - tokens) * 2_500
    rig.store.hset(rig.keys.governor, f"c:{limit.name}", full_at)
    return full_at


def test_a_raced_limit_grants_exactly_its_tokens(store: Store, pool: ProcessPoolExecutor) -> None:
    rig = Rig(store, APP)
    rig.line_up(300)
    rig.fill()
    rung = rig.ring_all(threads=300)
    full_at = leave(rig, APP, 37)

    answers = race(pool, rig, _admit, rung)

    assert Counter(word for _, word in answers) == {"go": 37, "wait": 263}
    assert rig.states(rung) == {"s": 37, "w": 263}
    assert rig.governed("c")["app"] == full_at + 37 * 2_500
    assert rig.governed("b") == {}
    assert rig.governed("q") == {"1": 263}


def test_two_raced_limits_charge_both_or_none(store: Store, pool: ProcessPoolExecutor) -> None:
    rig = Rig(store, APP, EP)
    plain, both = rig.line_up(150), rig.line_up(150, "POST /ep")
    rig.fill()
    rung = rig.ring_all(threads=300)
    app_full_at, ep_full_at = leave(rig, APP, 160), leave(rig, EP, 11)

    answers = race(pool, rig, _admit, rung)

    gone = {key for key, word in answers if word == "go"}
    assert len(gone) == len(gone & set(plain)) + len(gone & set(both))
    assert len(gone & set(both)) <= 11
    # Either limit may bind: the calls that went are charged, and nothing else is.
    assert len(gone) == 160 or (len(gone & set(both)) == 11 and set(plain) <= gone)
    cells = rig.governed("c")
    assert cells["app"] == app_full_at + len(gone) * 2_500
    assert cells["ep"] == ep_full_at + len(gone & set(both)) * 2_500


def test_a_bell_that_is_delivered_many_times_is_admitted_once(
    store: Store, pool: ProcessPoolExecutor
) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1)
    rig.fill()
    rig.ring()

    answers = race(pool, rig, _admit, [key] * RACERS)

    assert Counter(word for _, word in answers) == {"go": 1, "drop": RACERS - 1}


def test_a_grant_that_is_settled_many_times_counts_once(
    store: Store, pool: ProcessPoolExecutor
) -> None:
    rig = Rig(store, APP)
    (key,) = rig.line_up(1)
    rig.fill()
    rig.ring()

    answers = race(pool, rig, _settle, [rig.grant(key)] * RACERS)

    assert Counter(answers) == {"END": 1, "STALE": RACERS - 1}
    assert job_hash(rig, "j1")["succeeded"] == "1"


def test_pacers_that_race_ring_nothing_twice(store: Store, pool: ProcessPoolExecutor) -> None:
    rig = Rig(store, APP)
    rig.line_up(500)
    rig.fill()

    workers = [f"w{number}" for number in range(RACERS)]
    answers = race(pool, rig, _ring, workers * 4)

    rung = [key for keys in answers for key in keys]
    states = rig.states([f"j1-{number:03}" for number in range(500)])
    assert len(rung) == len(set(rung)) == states["r"]
    assert sum(bool(keys) for keys in answers) <= 4  # those of one worker


def test_a_page_that_many_open_is_released_once(store: Store, pool: ProcessPoolExecutor) -> None:
    rig = Rig(store, APP)
    job = rig.accept(100)
    flow = flows.flow(rig.client, 1, "-", "POST /x")
    opened = [NewTransaction(f"key{number}", flow.id, "k", 1, number) for number in range(100)]

    answers = race(pool, rig, _open, [(job, rig.definitions(flow), opened)] * RACERS)

    assert Counter(answers) == {True: 1, False: RACERS - 1}
    assert store.llen(rig.keys.backlog(flow.id)) == 100
