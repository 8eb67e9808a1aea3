"""The registry: which worker processes live, and with which configuration.

Each process writes one heartbeat every few seconds. A process whose heartbeat is older than
`LIVES_S` by the store's clock counts as dead; a clean stop removes its entry. Nothing here is a
safety state: which limits hold is stored with each client (`workers.governor.agreement`).
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from workers.governor.binding import binding_digest
from workers.governor.proposals import digest_of
from workers.store import keys
from workers.store.connection import to_us

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
#: The field of an entry that older releases do not write.
_NEW: Final = "installation"
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

    @property
    def title(self) -> str:
        """Which process it is, for people."""
        return f"{self.name}@{self.host} (process {self.pid})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A configuration that some process had."""

    digest: str
    serial: int  #: given when it was seen first
    clients: Mapping[str, str]  #: client → digest of what its ledger must be bound to

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
class Look:
    """The registry at one moment."""

    now_us: int
    live: Mapping[str, Process]  #: by id
    expired: Collection[str]  #: ids that may be removed
    applied: Applied | None

    @property
    def digests(self) -> frozenset[str]:
        """The configurations of the live processes."""
        return frozenset(process.digest for process in self.live.values())

    def namesakes(self) -> list[list[Process]]:
        """Live processes that share name and host, so that people cannot tell them apart."""
        groups = defaultdict(list)
        for process in self.live.values():
            groups[process.name, process.host].append(process)
        return [sorted(group, key=lambda one: one.pid) for group in groups.values() if group[1:]]


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
        pipe.hget(self._configurations, APPLIED)
        now, entries, applied = pipe.execute()
        now_us = to_us(now)
        live, expired = {}, []
        for id_, text in entries.items():
            process = _read(text)
            if process is None:
                continue
            # A clock that was set back leaves heartbeats of the future: they count as old.
            age_us = abs(now_us - process.at_us)
            if age_us <= LIVES_S * 1e6:
                live[id_] = process
            elif age_us > FORGET_S * 1e6:
                expired.append(id_)
        return Look(now_us=now_us, live=live, expired=expired, applied=_read_applied(applied))

    def write(self, process: Process, look: Look) -> None:
        """Write a heartbeat, and remove entries that nobody needs any more."""
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
            if not digest.startswith(NEWEST):
                with suppress(TypeError, ValueError):  # of another version: as if it were not there
                    known[digest] = Configuration(digest=digest, **json.loads(text))
        return known

    def serial_of(self, configuration: Configuration) -> int:
        """The serial of a configuration, which it is given when it is seen first."""
        known = self.configurations()
        if own := known.get(configuration.digest):
            return own.serial
        serial = int(self._store.hincrby(self._configurations, NEWEST, 1))
        stored = {"serial": serial, "clients": dict(configuration.clients)}
        text = json.dumps(stored, separators=(",", ":"))
        # Of two processes that come with it at once, one has written it first.
        self._store.hsetnx(self._configurations, configuration.digest, text)
        if len(known) >= MOST_CONFIGURATIONS:
            self._forget(known)
        return self.configurations()[configuration.digest].serial

    def _forget(self, known: Mapping[str, Configuration]) -> None:
        look = self.look()
        kept = look.digests | ({look.applied.digest} if look.applied else set())
        oldest = sorted((one for one in known.values()), key=lambda one: one.serial)
        too_many = oldest[: len(known) - MOST_CONFIGURATIONS + 1]
        if gone := [one.digest for one in too_many if one.digest not in kept]:
            self._store.hdel(self._configurations, *gone)

    def apply(self, digest: str, *, by: str, reason: str) -> None:
        """Let this configuration overrule all others that were seen until now."""
        until = int(self._store.hget(self._configurations, NEWEST) or 0)
        applied = Applied(digest=digest, until=until, by=by, reason=reason)
        self._store.hset(self._configurations, APPLIED, json.dumps(asdict(applied)))


def _read(text: str) -> Process | None:
    """An entry; None where it cannot be read. A newer release may have added fields."""
    try:
        stored = json.loads(text)
        names = [each.name for each in fields(Process) if each.name in stored or each.name != _NEW]
        return Process(**{name: stored[name] for name in names})
    except (KeyError, TypeError, ValueError):
        return None


def _read_applied(text: Any) -> Applied | None:  # noqa: ANN401 -- a reply of the store
    try:
        return Applied(**json.loads(text)) if text else None
    except (TypeError, ValueError):
        return None
