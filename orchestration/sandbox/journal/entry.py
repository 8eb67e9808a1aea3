"""One request, as the journal records it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from orchestration.sandbox.calls import ReplyKind
    from orchestration.sandbox.config import JsonObject


class JournalEntry(NamedTuple):
    """One request."""

    t_us: int  #: arrival, wall clock, microseconds since the Unix epoch
    client: str  #: OAuth client id; "" when it is not known
    method: str
    path: str
    key: str  #: idempotency key; "" without one
    status: int  #: as sent; 0: the connection was closed without an answer
    kind: ReplyKind
    fault: str = ""  #: kind of the fault that hit it, or "storm"
    created: tuple[str, ...] = ()  #: business ids of effects that created something
    updated: tuple[str, ...] = ()  #: business ids of effects that changed something
    repeated: tuple[str, ...] = ()  #: business ids that existed already: no effect
    queued: tuple[str, ...] = ()  #: contacts that were put into the queue to be dialled
    work_us: int = 0  #: from the arrival to this entry
    refused_by: str = ""  #: name of the limit that refused it
    ahead_us: int = 0  #: how far the clock of lifetimes was ahead of `t_us`
    host: str = ""  #: "transfers": the host of the signed URLs; "": the API
    md5: str = ""  #: of a file that arrived, hexadecimal
    size: int = 0  #: bytes of a file that arrived before it was complete or broken off

    def as_json(self) -> JsonObject:
        """Return the entry as an object without its empty parts."""
        return {name: value for name, value in self._asdict().items() if value or name == "status"}

    @classmethod
    def from_json(cls, raw: JsonObject) -> JournalEntry:
        """Undo `as_json`."""
        empty = {"client": "", "method": "", "path": "", "key": ""}
        names = ("created", "updated", "repeated", "queued")
        tuples = {name: tuple(raw.get(name, ())) for name in names}
        return cls(**{**empty, **raw, **tuples})
