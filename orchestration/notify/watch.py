"""One look at clients and workers: what begins, lasts or ends becomes a notice.

Watched is, by its name: a condition, with since when it is so and whether there was a notice; and
what `orchestration.notify.jobs` knows of jobs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, count, pairwise
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from orchestration.notify import jobs
from orchestration.notify.conditions import (
    Condition,
    conditions_of,
    conditions_of_workers,
    name_scope,
)
from orchestration.notify.events import EventType, Notice
from orchestration.notify.outbox import Changes, Name
from orchestration.views.progress import iso
from orchestration.views.scopes import public_scope
from workers.errors import HeadgateError, LedgerDamaged
from workers.governor.registry import Registry
from workers.store.reading import number_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from orchestration.notify.outbox import Noted, Outbox
    from workers.clients import Client, Clients
    from workers.store.connection import Store

#: Stands behind the moment of a condition of which there was a notice.
_NOTICED: Final = " noticed"
#: The conditions of a client; those of workers are looked at for themselves.
_OF_CLIENTS: Final = (EventType.DEAD_LETTER, EventType.HOLD_LASTS, EventType.OUTAGE_BEGAN)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A client at one moment."""

    governor: Mapping[str, str]
    dead_letters: int
    jobs: jobs.Seen


class Watch:
    """Looks for the workers of one configuration.

    Args:
        clients: The configuration's.
        store: Their store.
        outbox: Where the notices go.
    """

    def __init__(self, clients: Clients, store: Store, outbox: Outbox) -> None:
        self._clients = clients
        self._store = store
        self._outbox = outbox
        self._registry = Registry(store, clients.settings.store.namespace)

    def look(self) -> None:
        """Look once, and note what has changed.

        Raises:
            HeadgateError: the store gives no answer, or is not that of this installation.
        """
        clients = list(self._open_clients())
        if clients:
            clients[0].installation.check()
        noted = self._outbox.read()
        if not noted.room:
            return
        changes, room = Changes(), noted.room
        for client, seen in self._read(clients, noted):
            now = conditions_of(client, seen.governor, seen.dead_letters, noted.now_us)
            before = noted.of(_OF_CLIENTS, client.name)
            _compare(changes, noted.now_us, before, list(now))
            if room > 0:  # else the next look goes on there
                room -= jobs.note_ended(changes, replace(noted, room=room), client, seen.jobs)
        hindered = list(conditions_of_workers(self._registry.look()))
        _compare(changes, noted.now_us, noted.of([EventType.WORKER_HINDERED]), hindered)
        self._outbox.note(changes)

    def _open_clients(self) -> Iterator[Client]:
        """The clients that can be opened; the dispatcher says what is wrong with others."""
        for name in self._clients.names():
            try:
                yield self._clients[name]
            except HeadgateError:
                continue

    def _read(self, clients: Sequence[Client], noted: Noted) -> Iterator[tuple[Client, _Seen]]:
        """Read all clients in one round trip; one of which a key is damaged is left out."""
        pipe, ends = self._store.pipeline(transaction=False), [0]
        for client in clients:
            pipe.hgetall(client.keys.governor)
            pipe.xlen(client.keys.dead)
            jobs.ask(pipe, client, noted)
            ends.append(len(pipe))
        replies = pipe.execute(raise_on_error=False)
        for client, (start, end) in zip(clients, pairwise(ends), strict=True):
            if self._is_whole(replies[start:end]):
                governor, dead_letters, *of_jobs = replies[start:end]
                yield client, _Seen(governor, dead_letters, jobs.Seen.of(of_jobs))

    def _is_whole(self, replies: Iterable[Any]) -> bool:
        """Whether all was answered; raises `StoreAway` where the store did not answer at all."""
        for reply in replies:
            if isinstance(reply, RedisError):
                error = self._store.fail(reply)
                if not isinstance(error, LedgerDamaged):
                    raise error
                return False
        return True


def _compare(
    changes: Changes, now_us: int, before: Mapping[Name, str], now: Iterable[Condition]
) -> None:
    """Note which conditions have begun, have lasted for long enough, or have ended."""
    current = {condition.name: condition for condition in now}
    for name, condition in current.items():
        stored = before.get(name, "")
        if stored.endswith(_NOTICED):
            continue
        first_us = condition.since_us or now_us
        if not stored and condition.event == EventType.HOLD_LASTS:
            first_us = min([first_us, *_begun_elsewhere(condition.name, before, current)])
        since_us = min(number_of(stored, first_us), now_us)  # a clock may have been set back
        value = str(since_us)
        if now_us - since_us >= condition.patience_us:
            value += _NOTICED
            _tell(changes, condition.notice(since_us))
        if value != stored:
            changes.watched[name] = value
    for name in before.keys() - current.keys():
        changes.watched[name] = None
        since, noticed, _ = before[name].partition(_NOTICED)
        if noticed and name.kind == EventType.OUTAGE_BEGAN:
            client, scope = name.subject
            widened = Condition.outage(client, "client", now_us).name in current
            if not widened:
                _tell(changes, _end_of_outage(client, scope, number_of(since), now_us))


def _tell(changes: Changes, notice: Notice) -> None:
    """Note one more; those of scopes that only `headgate status` tells apart are numbered."""
    known = {other.id for other in changes.notices}
    names = chain([notice.id], (f"{notice.id}-{number}" for number in count(2)))
    changes.notices.append(replace(notice, id=next(name for name in names if name not in known)))


def _begun_elsewhere(
    name: Name, before: Mapping[Name, str], current: Container[Name]
) -> Iterator[int]:
    """Since when a hold is so that goes on as this one: it widened to its client, or narrowed.

    One of which there was a notice is left out: the new scope has its own patience.
    """
    client, scope = name.subject
    for other, since in before.items():
        since_us = number_of(since, -1)
        is_gone = other.kind == name.kind and other not in current and since_us >= 0
        if is_gone and other.subject[0] == client and "client" in {scope, other.subject[1]}:
            yield since_us


def _end_of_outage(client: str, scope: str, since_us: int, now_us: int) -> Notice:
    since = iso(since_us)
    return Notice.of(
        EventType.OUTAGE_ENDED,
        (client, public_scope(scope), str(since_us)),
        now_us,
        f"{name_scope(client, scope)} may leave again, after an outage since {since}",
        client=client,
        scope=public_scope(scope),
        since=since,
    )
