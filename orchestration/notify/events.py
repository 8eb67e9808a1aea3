"""Which events there are, and the document that tells of one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Self

from orchestration.views.progress import iso

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventType(StrEnum):
    """What a notice can be of; docs/how-to/notices.md has each in its table."""

    JOB_ENDED = "job.ended"
    HOLD_LASTS = "hold.lasts"
    OUTAGE_BEGAN = "outage.began"
    OUTAGE_ENDED = "outage.ended"
    DEAD_LETTER = "dead_letter.appeared"
    WORKER_HINDERED = "worker.hindered"
    TEST = "test"


#: Seconds for which something must last before it is worth a notice; of the others: none.
PATIENCE_S: Final[Mapping[EventType, float]] = {
    EventType.HOLD_LASTS: 600.0,
    EventType.WORKER_HINDERED: 30.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One event, to be told."""

    id: str  #: the same at each try, so that a receiver can drop what it has
    event: EventType
    at_us: int  #: when it was so
    text: str  #: one sentence
    data: Mapping[str, Any]  #: names, counts and moments
    tries: int = 0  #: that were made

    @classmethod
    def of(
        cls, event: EventType, subject: tuple[str, ...], at_us: int, text: str, **data: object
    ) -> Self:
        """The notice of an event; whoever makes it gives it the same id."""
        names = json.dumps([event, *subject, at_us]).encode()
        id_ = f"msg_{sha256(names).hexdigest()[:24]}"
        return cls(id=id_, event=event, at_us=at_us, text=text, data=data)

    @property
    def document(self) -> str:
        """What a command reads and a URL is sent."""
        whole = {
            "type": self.event,
            "timestamp": iso(self.at_us),
            "text": self.text,
            "data": self.data,
        }
        return json.dumps(whole)

    @classmethod
    def parse(cls, stored: str) -> Self:
        """The notice as the outbox keeps it; raises `ValueError`, `KeyError` or `TypeError`."""
        values = json.loads(stored)
        return cls(**{**values, "event": EventType(values["event"])})

    def to_json(self) -> str:
        """The text from which `parse` makes an equal notice."""
        return json.dumps(asdict(self))
