"""The registry: which worker processes live, and with which configuration.

Each process writes one heartbeat every few seconds. A process whose heartbeat is older than
`LIVES_S` by the store's clock counts as dead; a clean stop removes its entry. Where that is every
heartbeat, the store was away, or its clock was set back: then those who lived before are awaited
for as long again, and what they propose still counts. Nothing here is a safety state: which limits
hold is stored with each client (`workers.governor.agreement`).
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeVar

from workers.governor.binding import binding_digest
from workers.governor.proposals import digest_of
from workers.store import keys
from workers.store.connection import to_us
from workers.store.reading import read_record

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from workers.settings.client import ClientSettings
    from workers.store.connection import Store

#: Seconds between two heartbeats, and how old the newest one of a live process may be.
EVERY_S: Final = 2.0
LIVES_S: Final = 10.0
#: Entries that are older than this are removed.
FORGET_S: Final = 3600.0
#: Configurations whose serial is kept; an older one that comes back counts as new.
MOST_CONFIGURATIONS: Final = 200
#: Fields of the hash of configurations that are no digest.
NEWEST: Final = "#"
APPLIED: Final = "#applied"
AWAY: Final = "#away"
#: This worker. Its supervisor makes it, so that a process that is started again takes the entry of
#: the one that died.
WORKER_ID: Final = secrets.token_hex(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One worker process, as its newest heartbeat has it."""

    id: str  #: its own, whatever its name
    name: str  #: that it was given, such as w1
    host: str
    pid: int
    pool: str  #: what its threads do, one of `flows.POOLS`
    threads: int
    digest: str  #: of its configuration
    release: str
    installation: str = ""  #: id of the one that it works for; "" = it does not know yet
    at_us: int = 0  #: of its heartbeat, by the store's clock
    takes_none: str = ""  #: why it takes no bells at all, one sentence; "" = it takes them
    #: Client → why this process makes none of its calls, one sentence.
    obstacles: Mapping[str, str] = field(default_factory=dict)
    #: False: this is a supervisor's entry, whose worker cannot work at all, as `trouble` says.
    works: bool = True
    trouble: str = ""  #: what a person must know of it, one sentence; "" = nothing
    agreed: bool = False  #: it has agreed on the limits of all its clients since it began to live

    @property
    def title(self) -> str:
        """Which process it is, for people."""
        return f"{self.name}@{self.host} (process {self.pid})"

    def is_live(self, now_us: int) -> bool:
        """Whether its heartbeat is young; a clock that was set back leaves some of the future."""
        return abs(now_us - self.at_us) <= LIVES_S * 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A configuration that some process had."""

    serial: int  #: given when it was seen first
    clients: Mapping[str, str]  #: client → digest of what its ledger must be bound to
    digest: str = ""

    @classmethod
    def of(cls, clients: Mapping[str, ClientSettings]) -> Configuration:
        """The configuration of this process, without its serial."""
        bindings = {name: binding_digest(client) for name, client in clients.items()}
        return cls(digest=digest_of(clients), serial=0, clients=bindings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The newest `headgate limits apply`: this configuration holds, and no older one beside it."""

    digest: str
    until: int  #: the newest serial then
    by: str
    reason: str

    def overrules(self, digest: str, serial: int) -> bool:
        """Whether it ends what this configuration proposes."""
        return serial <= self.until and digest != self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """Nobody could write a heartbeat for a while."""

    newest_us: int  #: the newest heartbeat before
    until_us: int  #: until then those who lived may return

    def awaits(self, process: Process, now_us: int) -> bool:
        """Whether this process lived then, and may still return."""
        left_us = self.until_us - now_us  # more than that is of before a clock that was set back
        lived = process.at_us >= self.newest_us - LIVES_S * 1e6
        return lived and 0 < left_us <= LIVES_S * 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The registry at one moment."""

    now_us: int
    live: Mapping[str, Process]  #: by id
    awaited: Mapping[str, Process]  #: by id; they lived before everybody was away
    expired: Collection[str]  #: ids that may be removed
    applied: Applied | None
    away: Away | None  #: the newest one

    @property
    def digests(self) -> frozenset[str]:
        """The configurations of the processes that live, or are awaited."""
        processes = (*self.live.values(), *self.awaited.values())
        return frozenset(process.digest for process in processes)

    @property
    def joined(self) -> frozenset[str]:
        """The configurations of which a live process has agreed on all clients."""
        return frozenset(process.digest for process in self.live.values() if process.agreed)

    def namesakes(self) -> list[list[Process]]:
        """Live processes that share name and host, so that people cannot tell them apart."""
        groups = defaultdict(list)
        for process in filter(lambda one: one.works, self.live.values()):
            groups[process.name, process.host].append(process)
        return [sorted(group, key=lambda one: one.pid) for group in groups.values() if group[1:]]


Record = TypeVar("Record", Process, Configuration, Applied, Away)


class Registry:
    """The registry of one namespace."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._name = keys.registry(namespace)
        self._configurations = keys.configurations(namespace)

    def look(self) -> Look:
        """Who lives now; entries that cannot be read are left out."""
        pipe = self._store.pipeline(transaction=False)
        pipe.time()
        pipe.hgetall(self._name)
        pipe.hmget(self._configurations, [APPLIED, AWAY])
        now, entries, (applied, stored_away) = pipe.execute()
        now_us = to_us(now)
        live, old = dict[str, Process](), dict[str, Process]()
        for id_, text in entries.items():
            if process := _read(Process, text):
                (live if process.is_live(now_us) else old)[id_] = process
        away = _read(Away, stored_away)
        if old and not live:
            newest_us = max(process.at_us for process in old.values())
            if away is None or away.newest_us != newest_us:
                away = Away(newest_us=newest_us, until_us=now_us + round(LIVES_S * 1e6))
        awaited = {id_: one for id_, one in old.items() if away and away.awaits(one, now_us)}
        return Look(
            now_us=now_us,
            live=live,
            awaited=awaited,
            expired=[
                id_
                for id_, one in old.items()
                if id_ not in awaited and abs(now_us - one.at_us) > FORGET_S * 1e6
            ],
            applied=_read(Applied, applied),
            away=away,
        )

    def keep_away(self, look: Look) -> None:
        """Keep since when those are awaited who lived before everybody was away."""
        if look.awaited and not look.live and look.away:
            self._store.hset(self._configurations, AWAY, json.dumps(asdict(look.away)))

    def write(self, process: Process, look: Look) -> None:
        """Write a heartbeat, and remove entries that nobody needs any more."""
        self.keep_away(look)
        entry = replace(process, at_us=look.now_us)
        pipe = self._store.pipeline(transaction=False)
        pipe.hset(self._name, process.id, json.dumps(asdict(entry), separators=(",", ":")))
        if gone := [id_ for id_ in look.expired if id_ != process.id]:
            pipe.hdel(self._name, *gone)
        pipe.execute()

    def remove(self, process: Process) -> None:
        """End the entry of a process that stops."""
        self._store.hdel(self._name, process.id)

    def configurations(self) -> dict[str, Configuration]:
        """All configurations that are remembered, by digest."""
        stored: dict[str, str] = self._store.hgetall(self._configurations)  # type: ignore[assignment]
        known = {}
        for digest, text in stored.items():
            # None: it is of another version, or damaged.
            if not digest.startswith(NEWEST) and (one := _read(Configuration, text)):
                known[digest] = replace(one, digest=digest)
        return known

    def serial_of(self, configuration: Configuration) -> int:
        """The serial of a configuration, which it is given when it is seen first."""
        own = self._store.hget(self._configurations, configuration.digest)
        if known_one := _read(Configuration, str(own or "")):
            return known_one.serial
        known = self.configurations()
        serial = self._next_serial(known)
        stored = {"serial": serial, "clients": dict(configuration.clients)}
        text = json.dumps(stored, separators=(",", ":"))
        # Of two processes that come with it at once, one has written it first.
        if not self._store.hsetnx(self._configurations, configuration.digest, text):
            known = self.configurations()
            if configuration.digest not in known:  # what stands there cannot be read
                self._store.hset(self._configurations, configuration.digest, text)
        if len(known) >= MOST_CONFIGURATIONS:
            self._forget(known)
        return self.configurations()[configuration.digest].serial

    def _next_serial(self, known: Mapping[str, Configuration]) -> int:
        """A serial above all others; a counter that is damaged is put right."""
        newest = max((one.serial for one in known.values()), default=0)
        if self._newest_serial() < newest:
            self._store.hset(self._configurations, NEWEST, newest)
        return int(self._store.hincrby(self._configurations, NEWEST, 1))

    def _newest_serial(self) -> int:
        """The newest serial that was given; -1 = the counter is not there, or damaged."""
        stored = str(self._store.hget(self._configurations, NEWEST) or "")
        return int(stored) if stored.isascii() and stored.isdecimal() else -1

    def _forget(self, known: Mapping[str, Configuration]) -> None:
        look = self.look()
        kept = look.digests | ({look.applied.digest} if look.applied else set())
        oldest = sorted((one for one in known.values()), key=lambda one: one.serial)
        too_many = oldest[: len(known) - MOST_CONFIGURATIONS + 1]
        if gone := [one.digest for one in too_many if one.digest not in kept]:
            self._store.hdel(self._configurations, *gone)

    def apply(self, digest: str, *, by: str, reason: str) -> None:
        """Let this configuration overrule all others that were seen until now."""
        known = (one.serial for one in self.configurations().values())
        until = max(self._newest_serial(), *known, 0)
        applied = Applied(digest=digest, until=until, by=by, reason=reason)
        self._store.hset(self._configurations, APPLIED, json.dumps(asdict(applied)))


def _read(kind: type[Record], text: str | None) -> Record | None:
    """A record; None where it cannot be read. Another release may have more fields, or fewer."""
    try:
        return read_record(kind, text)
    except ValueError:
        return None
