"""The notices in the store: what is watched, what is to be delivered, and who delivers it.

What a look changes is written in one transaction, so that a notice is there as soon as its event
is noted, and stays until it was delivered or given up. A claim has a lifetime, which is the backoff
too: a try that failed, and a process that died under one, leave the notice to whoever comes when
it is over. A claim outlives the delivery, so that a look that was slow tells nothing again.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from orchestration.notify.events import Notice
from workers.store import keys
from workers.store.connection import to_us

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from workers.store.connection import Store

#: Tries of one notice; the last claim before it is given up ends some ten minutes after the first.
MOST_TRIES: Final = 6
#: Seconds of the first claim, above the longest try; each further one is twice as long.
CLAIM_S: Final = 20.0
#: Seconds for which it is remembered that a notice was delivered.
REMEMBERED_S: Final = 3600.0
#: Notices that wait at most; beyond them nothing more is noted until there is room.
MOST_WAITING: Final = 1000


class Name(NamedTuple):
    """What is watched."""

    kind: str  #: such as the event that may come of it
    subject: tuple[str, ...]  #: which one, its client first where it is of one


@dataclass(frozen=True, slots=True)
class Noted:
    """What the store says of the notices at one moment."""

    now_us: int
    watched: Mapping[Name, str]  #: what is known of each
    room: int  #: for so many further notices

    def of(self, kinds: Container[str], client: str | None = None) -> dict[Name, str]:
        """What is watched of these kinds, of one client or of all."""
        return {
            name: value
            for name, value in self.watched.items()
            if name.kind in kinds and client in {None, name.subject[0]}
        }


@dataclass(slots=True)
class Changes:
    """What a look comes to."""

    watched: dict[Name, str | None] = field(default_factory=dict)  #: None: no longer
    notices: list[Notice] = field(default_factory=list)


class Outbox:
    """The notices of one namespace.

    Args:
        store: The store.
        namespace: The namespace.
        clock: Microseconds since the epoch, for tests that hold the clock; None = the store's.
    """

    def __init__(
        self, store: Store, namespace: str, clock: Callable[[], int] | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._namespace = namespace
        self._notices = keys.notices(namespace)
        self._watched = keys.watched(namespace)

    def take_turn(self, configuration: str, seconds: float) -> bool:
        """Whether the caller is to look: one of each configuration in so many seconds."""
        name = keys.notice_turn(self._namespace, configuration)
        return bool(self._store.set(name, "1", nx=True, px=round(seconds * 1000)))

    def read(self) -> Noted:
        """What is watched."""
        pipe = self._store.pipeline()
        pipe.time()
        pipe.hgetall(self._watched)
        pipe.hlen(self._notices)
        now, stored, waiting = pipe.execute()
        watched = {}
        for text, value in stored.items():
            with suppress(TypeError, ValueError):  # damaged, or of another release
                kind, *subject = json.loads(text)
                watched[Name(kind, tuple(subject))] = value
        now_us = self._clock() if self._clock else to_us(now)
        return Noted(now_us, watched, max(0, MOST_WAITING - waiting))

    def note(self, changes: Changes) -> None:
        """Write what a look comes to, all or nothing."""
        if not (changes.watched or changes.notices):
            return
        pipe = self._store.pipeline()
        for name, value in changes.watched.items():
            if value is None:
                pipe.hdel(self._watched, _field(name))
            else:
                pipe.hset(self._watched, _field(name), value)
        for notice in changes.notices:
            pipe.hsetnx(self._notices, notice.id, notice.to_json())
        pipe.execute()

    def watch_beside(self, known: Name, name: Name, value: str) -> None:
        """Watch something more where `known` is watched."""
        if self._store.hexists(self._watched, _field(known)):
            self._store.hset(self._watched, _field(name), value)

    def waiting(self) -> list[Notice]:
        """The notices that are not delivered yet, the oldest first."""
        stored: dict[str, str] = self._store.hgetall(self._notices)  # type: ignore[assignment]
        every = []
        for name, text in stored.items():
            try:
                every.append(Notice.parse(text))
            except (KeyError, TypeError, ValueError):  # damaged, or of another release
                self._store.hdel(self._notices, name)
        return sorted(every, key=lambda notice: notice.at_us)

    def claim(self, notice: Notice) -> Notice | None:
        """Take a notice for one more try; None: somebody else has it, or it is done.

        Returns:
            The notice with this try counted.
        """
        name = keys.notice_claim(self._namespace, notice.id)
        lasts_ms = round(CLAIM_S * 2**notice.tries * 1000)
        if not self._store.set(name, "1", nx=True, px=lasts_ms):
            if self._store.get(name) == "done":
                self._store.hdel(self._notices, notice.id)
            return None
        counted = replace(notice, tries=notice.tries + 1)
        # As it stands by now: it may be done since it was read, and its claim be over.
        if not self._store.hexists(self._notices, notice.id):
            return None
        self._store.hset(self._notices, notice.id, counted.to_json())
        return counted

    def finish(self, notice: Notice) -> None:
        """The notice was delivered, or is given up."""
        pipe = self._store.pipeline()
        name = keys.notice_claim(self._namespace, notice.id)
        pipe.set(name, "done", px=round(REMEMBERED_S * 1000))
        pipe.hdel(self._notices, notice.id)
        pipe.execute()

    def let_go(self, notice: Notice) -> None:
        """End a claim: somebody else may deliver the notice at once."""
        self._store.delete(keys.notice_claim(self._namespace, notice.id))


def _field(name: Name) -> str:
    return json.dumps([name.kind, *name.subject])
