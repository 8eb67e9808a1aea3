"""What a process keeps of its ledgers: bounded in bytes, over all clients, whatever rows are."""

from __future__ import annotations

import gc
import json
import tracemalloc
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.support.stored import a_job
from workers.cache import ByteCache, weigh
from workers.governor import proposals
from workers.ledger.cache import PAGE_BYTES, PARAMS_BYTES, LedgerCache
from workers.ledger.job import JobParams
from workers.ledger.ledger import Ledger
from workers.ledger.packing import pack
from workers.settings.breaker import BreakerSettings
from workers.settings.client import TenantSettings
from workers.settings.limits import LimitSettings
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.store.connection import Store

#: Half a longest line: as a row it takes the most memory in many small values.
SMALL_VALUES = [{} for _ in range(85_000)]
#: Texts that take the most memory for their length, each in its own way.
TEXTS = {
    "empty objects": [{} for _ in range(9_000)],
    "empty lists": [[] for _ in range(9_000)],
    "objects of one member": [{f"key{n}": 1} for n in range(9_000)],
    "one large object": {f"key{n}": n for n in range(22_000)},
    "nested objects": [{"a": {"b": {"c": {"d": {}}}}}] * 2_000,
    "short texts": ["ab"] * 9_000,
    "texts beyond Latin-1": ["\N{GRINNING FACE}"] * 9_000,
    "a long text with one character beyond Latin-1": "a" * 200_000 + "\N{GRINNING FACE}",
    "a long text": "a" * 200_000,
    "numbers": [1_000.5 + n for n in range(9_000)],
}


@pytest.fixture
def keys() -> ClientKeys:
    """The names of a client that no other test has."""
    return ClientKeys(uuid4().hex, "acme")


@pytest.fixture
def traced() -> Iterator[None]:
    """Count the bytes that are allocated from now."""
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.usefixtures("traced")
def test_a_text_weighs_no_less_than_what_it_takes_once_it_is_read(name: str) -> None:
    text = json.dumps(TEXTS[name], ensure_ascii=False).encode()
    before = held()

    read = json.loads(text)

    assert held() - before <= weigh(text)
    assert read


def test_an_ordinary_row_does_not_weigh_more_than_a_few_times_what_it_takes() -> None:
    steps = [{"name": "s1", "method": "POST", "path": "/things", "body": {"id": "r1"}}]

    assert weigh(json.dumps({"line": 1, "id": "r1", "steps": steps}).encode()) < 2_500


def page_of(values: Any) -> list[dict[str, Any]]:
    return [{"line": 1, "id": "r1", "steps": [{"method": "POST", "path": "/x", "body": values}]}]


def filled(store: Store, keys: ClientKeys, pages: int, page: bytes) -> Ledger:
    """A ledger with a job of so many equal pages."""
    for number in range(pages):
        store.set(keys.page("job", number), page)
    return Ledger(store, keys)


@pytest.mark.usefixtures("traced")
def test_a_process_keeps_no_more_bytes_of_pages_however_large_their_rows_are(
    store: Store, keys: ClientKeys
) -> None:
    ledger = filled(store, keys, 8, pack(page_of(SMALL_VALUES)))
    before = held()

    for page in range(8):
        ledger.page("job", page)

    assert held() - before <= PAGE_BYTES


def test_clients_of_one_process_share_what_it_may_keep(store: Store, keys: ClientKeys) -> None:
    cache = LedgerCache(pages=ByteCache(10_000))
    rows = pack(page_of("a" * 3_000))
    for number in range(20):
        own = ClientKeys(keys.namespace, f"client{number}")
        filled(store, own, 1, rows)
        Ledger(store, own, cache=cache).page("job", 0)

    assert 0 < cache.pages.size <= 10_000


def test_clients_of_one_process_do_not_see_each_others_pages(
    store: Store, keys: ClientKeys
) -> None:
    cache, other = LedgerCache(), ClientKeys(keys.namespace, "other")
    filled(store, keys, 1, pack(page_of("ours")))
    filled(store, other, 1, pack(page_of("theirs")))

    pages = [Ledger(store, of, cache=cache).page("job", 0) for of in (keys, other, keys)]

    assert pages == [page_of("ours"), page_of("theirs"), page_of("ours")]


def test_a_process_keeps_no_more_bytes_of_the_parameters_of_jobs(
    store: Store, keys: ClientKeys
) -> None:
    ledger = Ledger(store, keys)
    for number in range(30):
        params = JobParams(kind="own", own={"text": "a" * 100_000})
        job = a_job(f"job{number}")
        stored = {**job.to_hash(), "job_params": params.to_json(), "started": "1"}
        store.hset(keys.job(job.name), mapping=stored)  # type: ignore[arg-type]

        assert ledger.job_params(job.name).own == params.own
        assert 0 < ledger._params.size <= PARAMS_BYTES


def test_what_is_heavier_than_the_bound_alone_is_not_kept() -> None:
    cache = ByteCache[str](10)
    cache.put("light", "l", 6)
    cache.put("heavy", "h", 11)

    assert (cache.get("heavy"), cache.get("light"), cache.size) == (None, "l", 6)


def test_what_was_used_last_is_kept() -> None:
    cache = ByteCache[str](10)
    for name in ("one", "two"):
        cache.put(name, name, 5)
    cache.get("one")
    cache.put("three", "three", 5)

    assert (cache.get("one"), cache.get("two"), cache.get("three")) == ("one", None, "three")


def test_a_value_that_is_put_again_counts_once() -> None:
    cache = ByteCache[str](10)
    for _ in range(3):
        cache.put("one", "one", 4)

    assert cache.size == 4


@pytest.mark.usefixtures("traced")
def test_proposals_weigh_no_less_than_what_they_take_and_few_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = ByteCache[tuple[proposals.Proposal, ...]](proposals.READ_BYTES)
    monkeypatch.setattr(proposals, "_read", cache)
    tenants = {f"tenant{number}": TenantSettings(weight=2) for number in range(200)}
    limits = tuple(LimitSettings(name=f"limit{number}", count=9) for number in range(50))
    before = held()
    for serial in range(25):
        own = proposals.Proposal(
            digest="digest",
            serial=serial,
            holds=True,
            limits=limits,
            tenants=tenants,
            breaker=BreakerSettings(),
        )
        proposals.from_json(proposals.to_json([own]))

    assert 0 < cache.size <= proposals.READ_BYTES
    assert held() - before <= cache.size + 1_000_000
