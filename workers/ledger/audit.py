"""The audit of a client: a stream of what was done to the client, by whom and why.

The script that makes a change adds its entry too, so that neither is there without the other. An
entry holds no secret and nothing of a row's content: a transaction is named by its key.
"""

from __future__ import annotations

import getpass
import os
import time
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: Older entries are forgotten, a block of the stream at a time.
KEPT_S: Final = 90 * 86_400
#: Characters of one field that are kept.
MOST_TEXT: Final = 500
#: Entries that are read in one round trip.
_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that was done; "" where a field does not apply."""

    id: str  #: of the stream: milliseconds since the epoch, and a number
    action: str  #: such as "limits set", "client pause"
    subject: str = ""  #: a limit, the client, a job or a step
    by: str = ""  #: a user's name, or the part of Headgate that did it
    reason: str = ""
    before: str = ""
    after: str = ""
    key: str = ""  #: of the transaction, where it concerns one
    facts: dict[str, str] = field(default_factory=dict)  #: what else is known, by its name

    @property
    def at_ms(self) -> int:
        """When: milliseconds since the epoch, by the store's clock."""
        return int(self.id.partition("-")[0])

    def as_dict(self) -> dict[str, Any]:
        """The entry as programs get it."""
        return {"at_ms": self.at_ms, **asdict(self)}


_OWN: Final = {known.name for known in fields(Entry)} - {"id", "facts"}


def user() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container a user may have a number only
        return f"uid {os.getuid()}"


def plain(text: str) -> str:
    """A person's text as one line of bounded length, which any store and terminal can take."""
    whole = text.encode(errors="replace").decode()  # bytes of a shell that are no UTF-8
    shown = "".join(mark for mark in whole if mark.isprintable() or mark.isspace())
    return " ".join(shown.split())[:MOST_TEXT]


def addition(action: str, **more: str) -> list[str]:
    """What follows the stream's name in XADD, for scripts that add an entry with their change.

    Args:
        action: What was done.
        more: Further fields of an `Entry`, and facts; empty ones take no room.
    """
    facts = {name: more.pop(name) for name in more.keys() - _OWN}
    own: Any = more
    known = asdict(Entry(id="0-0", action=action, **own)) | facts
    texts = {name: plain(value) for name, value in known.items() if name not in {"id", "facts"}}
    oldest_ms = round((time.time() - KEPT_S) * 1000)
    flat = [text for pair in texts.items() if pair[1] for text in pair]
    return ["MINID", "~", str(oldest_ms), "*", *flat]


def record(store: Store, keys: ClientKeys, action: str, **more: str) -> None:
    """Add an entry that no script adds; see `addition`."""
    store.execute_command("XADD", keys.audit, *addition(action, **more))


def since(store: Store, keys: ClientKeys, at_ms: int) -> list[Entry]:
    """The entries from a moment on, the oldest first."""
    entries: Any = store.xrange(keys.audit, min=str(at_ms))
    return [_entry(id_, stored) for id_, stored in entries]


def of_transaction(store: Store, keys: ClientKeys, key: str) -> list[Entry]:
    """The entries of a transaction, the newest first."""
    entries, before = list[Entry](), "+"
    while some := read(store, keys, most=_AT_ONCE, before=before):
        entries += [entry for entry in some if entry.key == key]
        before = some[-1].id
    return entries


def read(store: Store, keys: ClientKeys, *, most: int = 100, before: str = "+") -> list[Entry]:
    """The newest entries, the newest first.

    Args:
        store: The store.
        keys: The client's names.
        most: So many at the most.
        before: Only entries older than this id; "+" = all.
    """
    newest = before if before == "+" else f"({before}"
    entries: Any = store.xrevrange(keys.audit, max=newest, count=most)
    return [_entry(id_, stored) for id_, stored in entries]


def _entry(id_: str, stored: Mapping[str, str]) -> Entry:
    own: Any = {name: stored[name] for name in stored.keys() & _OWN}
    facts = {name: value for name, value in stored.items() if name not in own}
    return Entry(id=id_, **{"action": "", **own}, facts=facts)
