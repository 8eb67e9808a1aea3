"""The checks of `headgate doctor`: store, clock, broker, workers, and the ledger's invariants."""

from __future__ import annotations

import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from orchestration.views.damage import find_damage
from orchestration.views.invariants import check_ledger
from orchestration.views.links import find_open_links, require_broker
from orchestration.views.status import status
from orchestration.views.workers import Roster, name_problems
from workers.broker.bindings import describe_refusal
from workers.broker.names import key_options
from workers.errors import ConfigError, HeadgateError, StoreAway, StoreReplaced
from workers.ledger.installation import Installation, where
from workers.settings.redis_url import read_redis_url
from workers.store.connection import (
    broker_url_of,
    connect,
    open_store,
    require_durable,
    store_now_us,
    url_of,
)
from workers.store.releases import server_of, unsafe_sentence
from workers.store.tls import require_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.clients import Clients
    from workers.settings.load import StoreSettings
    from workers.store.connection import Store

#: Round trips from which the latency is taken.
PINGS = 20
#: A host whose clock is further off the store's shows wrong times; nothing else depends on it.
CLOCK_S = 1.0

#: Name of an invariant → what it says, for people.
_TEXTS = {
    "counters_match": "counters equal what is there",
    "rows_are_accounted_for": "every row is in one state, sums are equal",
    "keys_are_derived": "every key is the derived one",
    "nothing_is_stranded": "what is open waits in one place or has a due time",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was checked."""

    name: str
    text: str  #: the result, one sentence
    violations: list[str] = field(default_factory=list)  #: what is wrong; empty = all is well


def examine(clients: Clients) -> Iterator[Check]:
    """All checks, one after the other; a store that is away ends them.

    Raises:
        ConfigError: the configuration of store or broker is wrong.
    """
    try:
        require_trusted(url_of(clients.settings.store))
        store = open_store(clients.settings.store)
        yield _store(clients, store)
        yield _clock(store)
        yield _installation(clients, store)
    except ConfigError:
        raise  # nothing was examined
    except StoreReplaced as error:
        yield Check(name="installation", text="not ours", violations=[str(error)])
        return
    except HeadgateError as error:
        yield Check(name="store", text="not usable", violations=[str(error)])
        return
    yield _broker(clients)
    yield _links(clients)
    yield _names(clients)
    roster = Roster.of(store, clients.settings.store.namespace)
    for name in clients.names():
        try:
            yield _damaged(clients, name)
            yield _workers(clients, name, roster)
            yield from _ledger(clients, name)
        except HeadgateError as error:
            yield Check(name=f"client {name}", text="not examined", violations=[str(error)])


def _store(clients: Clients, store: Store) -> Check:
    fsync = require_durable(store, clients.settings.store)
    info = store.info("server")
    trips_ms = []
    for _ in range(PINGS):
        started = time.perf_counter()
        store.ping()
        trips_ms.append((time.perf_counter() - started) * 1000)
    latency = f"{statistics.median(trips_ms):.2f} ms a round trip"
    place, server = where(clients.settings.store), " ".join(server_of(info))
    unsafe = unsafe_sentence(info, embedded=clients.settings.store.url is None)
    text = f"{place}, {server}, appendfsync {fsync}, {latency}"
    return Check(name="store", text="; ".join(filter(None, (text, unsafe))))


def _clock(store: Store) -> Check:
    before_s = time.time()
    store_s = store_now_us(store) / 1e6
    ahead_s = (before_s + time.time()) / 2 - store_s
    text = f"this machine's is {abs(ahead_s):.3f} s {'ahead' if ahead_s > 0 else 'behind'}"
    if abs(ahead_s) > CLOCK_S:
        text += "; the store's counts, only times shown here are off"
    return Check(name="clock", text=text)


def _installation(clients: Clients, store: Store) -> Check:
    """Whether the store is the one that this machine remembers, and whether it can remember."""
    installation = Installation(store, clients.settings.store)
    installation.check()
    if not installation.id:
        return Check(name="installation", text="none yet")
    text = f"{installation.id}, as this machine remembers"
    memory = installation.memory
    if not memory.holds(installation.id):
        text = f"{installation.id}; not remembered, for {memory.folder} cannot be written"
    return Check(name="installation", text=text)


def _broker(clients: Clients) -> Check:
    settings = clients.settings.store
    try:
        require_broker(settings)
    except StoreAway as error:
        return Check(name="broker", text="not reachable", violations=[str(error)])
    servers = (read_redis_url(find(settings)) for find in (url_of, broker_url_of))
    places = {(server.host, server.port) for server in servers}
    is_own = len(places) > 1
    text = "answers, a server of its own" if is_own else "answers, the store's server"
    unsafe = _unsafe_broker(settings) if is_own else ""
    return Check(
        name="broker",
        text="; ".join(filter(None, (text, unsafe))),
        violations=_broker_refusals(settings),
    )


def _broker_refusals(settings: StoreSettings) -> list[str]:
    """Say which commands the broker's user lacks to sweep bindings of queues."""
    deadlines = key_options(settings.namespace)["keyprefix_binding_deadlines"]
    with connect(broker_url_of(settings)) as broker, suppress(RedisError):
        refusal = describe_refusal(broker, deadlines)
        return [f"the broker {refusal}"] if refusal else []
    return []  # it is away since it answered


def _unsafe_broker(settings: StoreSettings) -> str:
    """Say that the broker's server is known to be unsafe, where it tells its release."""
    try:
        with connect(broker_url_of(settings)) as broker:
            return unsafe_sentence(broker.info("server"))
    except StoreAway:
        return ""  # its user may not ask


def _names(clients: Clients) -> Check:
    return Check(
        name="workers", text="each has a name of its own", violations=name_problems(clients)
    )


def _links(clients: Clients) -> Check:
    """Say what others could read on the way; whether that is wrong depends on the network."""
    open_links = find_open_links(clients.settings)
    return Check(name="links", text="; ".join(open_links) or "encrypted, or within this machine")


def _workers(clients: Clients, name: str, roster: Roster) -> Check:
    now = status(clients[name], roster)
    alive = f"{now.workers} workers alive with {now.threads} threads"
    missing = (now.open_rows and not now.workers) or (now.media.waiting and not now.media.workers)
    violations = [now.advice or "no worker is alive"] if missing else []
    reclaimed = f"; {now.reclaimed.sentence}" if now.reclaimed else ""
    return Check(
        name=f"client {name}",
        text=f"{alive}, {now.open_rows:,} rows to go{reclaimed}",
        violations=violations + now.problems,
    )


def _damaged(clients: Clients, name: str) -> Check:
    """What cannot be read, and what was set aside for that."""
    return Check(
        name=f"client {name}",
        text="nothing is damaged, nothing stands aside",
        violations=find_damage(clients[name]),
    )


def _ledger(clients: Clients, name: str) -> Iterator[Check]:
    for invariant, violations in check_ledger(clients[name]).items():
        yield Check(name=f"client {name}", text=_TEXTS[invariant], violations=violations)
