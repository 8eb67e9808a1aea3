"""What a kind of job is: which calls its rows become, what each sends, how its answer is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.client_settings import ClientSettings
    from workers.governor import Go
    from workers.http import Request
    from workers.ledger import Row
    from workers.outcome import Answer
    from workers.reconcile import Guard, Sight


@dataclass(frozen=True, slots=True)
class Planned:
    """One call that a row will make: its route decides the limits, its guard the re-sends."""

    route: str  #: method and path
    guard: Guard
    lookup: str = ""  #: the same of the call that asks what became of it, for guard `lookup`
    after_unknown: Mapping[str, str] = field(default_factory=dict)  #: see `reconcile.meaning`
    name: str = ""  #: what people call the step; "" = it has only its number
    parts: int = 1  #: calls that it takes one after the other, each with a key of its own
    polls: int = 0  #: calls that may wait for one thing to become ready; 0 = it is no poll
    every_s: float = 0.0  #: between two polls


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a successful answer."""

    provider_id: str = ""
    values: str = ""  #: one line of JSON for later steps, "" = none


class Polled(StrEnum):
    """What a poll says."""

    READY = "ready"
    NOT_YET = "not yet"
    FAILED = "failed"  #: it will never be ready
    UNSAID = "unsaid"  #: nothing of that; the answer is judged like any other


class CannotSay(Exception):
    """A step cannot be sent as it was given; the text says what is missing."""


class Kind(Protocol):
    """What a job's rows are."""

    task: str  #: name of the Celery task, as Flower shows it

    def plan(self, row: Row, about: Mapping[str, Any], client: ClientSettings) -> Sequence[Planned]:
        """The calls that the row becomes, in their order."""

    def request(self, row: Row, about: Mapping[str, Any], grant: Go) -> Request:
        """What this step sends, or its look-up (`grant.looking`); raises `CannotSay`."""

    def sight(self, row: Row, grant: Go, answer: Answer) -> Sight:
        """What the look-up saw; never raises."""

    def polled(self, row: Row, grant: Go, answer: Answer) -> Polled:
        """What a poll's answer says; only steps whose plan has `polls` are asked.

        Raises `CannotSay` when what it waits for is not known.
        """

    def keep(self, row: Row, grant: Go, answer: Answer) -> Kept:
        """What to keep of the answer of a step that succeeded, or of a look-up that found it."""
