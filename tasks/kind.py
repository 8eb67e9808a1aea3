"""What a kind of job is: which calls its rows become, what each sends, how its answer is read.

A step may also make no call (`StepPlan.local`): the kind then does it itself, in `run_local`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from workers.answer.guards import Guard, LookupResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.answer.outcome import Answer
    from workers.answer.verdict import Awaited
    from workers.clients import Client
    from workers.governor.grants import Grant
    from workers.http.connection import Request
    from workers.ledger.job import JobParams
    from workers.ledger.ledger import Row
    from workers.settings.client import ClientSettings


#: Platforms that a kind may be for, as their profiles begin, and what people call them.
PLATFORMS: Final = {"genesys": "Genesys Cloud", "nice": "NICE CXone"}
#: The platform of a kind that speaks to any.
ANY_PLATFORM: Final = ""
#: Profiles that say nothing of the platform behind them: whose that is, who configures them knows.
_OPEN_PROFILES: Final = frozenset(("rest", "sandbox"))


def other_platform(platform: str, provider: str) -> str:
    """What people call the platform of a provider for which a kind of `platform` is not; else "".

    Example:
        >>> other_platform("genesys", "genesys-guide"), other_platform("genesys", "nice-guide")
        ('', 'NICE CXone')
    """
    of_provider = provider.partition("-")[0]
    if platform in {ANY_PLATFORM, of_provider} or provider in _OPEN_PROFILES:
        return ""
    return PLATFORMS.get(of_provider, provider)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of a row, mostly a call: its route decides the limits, its guard the re-sends.

    A `local` step makes no call to the provider's API: nothing is charged, no token
    of the client is used, no pause and no breaker holds it. It may be done any number of times, so
    its guard is `READ`. A local step that waits for something is done again until that is ready,
    `polls` times at most; 0 = without end.
    """

    route: str  #: method and path
    guard: Guard
    lookup: str = ""  #: the same of the call that asks what became of it, for guard `lookup`
    after_unknown: Mapping[str, str] = field(default_factory=dict)  #: see `guards.find_meaning`
    name: str = ""  #: what people call the step; "" = it has only its number
    parts: int = 1  #: calls that it takes one after the other, each with a key of its own
    polls: int = 0  #: calls that may wait for one thing to become ready; 0 = it is no poll
    every_s: float = 0.0  #: between two polls
    local: bool = False  #: `StepKind.run_local` does it, without a call
    pool: str = "calls"  #: whose threads do a local step: calls or media

    def __post_init__(self) -> None:
        if not self.local and self.pool != "calls":
            raise ValueError("calls are done by the pool calls")
        if self.local and self.guard is not Guard.READ:
            raise ValueError("a step that makes no call may be done any number of times: a read")


@dataclass(frozen=True, slots=True)
class StepResult:
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


@dataclass(frozen=True, slots=True)
class Packing:
    """How many rows a provider takes in one call."""

    rows: int
    size: int  #: bytes of the call's body


#: Each row has a transaction of its own.
ALONE: Final = Packing(rows=1, size=0)


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What a step that makes no call came to.

    | how | what follows |
    | --- | --- |
    | done | the next step; `kept` is for later ones |
    | not yet | it is looked at again after `after_s`, no attempt made; with `waits_for` as soon |
    | | as that other transaction is so far, and after `after_s` at the latest |
    | back | the step before is done once more, for what it said has expired |
    | again | an attempt failed: it is done again after a backoff, as long as it has attempts or |
    | | patience left; where it may have been done all the same, it was `unknown` |
    | failed | the end, at which surely nothing is left half done; `sent`: it went out |

    `text` is one sentence for people: what is wrong, where, what to do. It holds no secret.
    """

    how: Literal["done", "not yet", "back", "again", "failed"]
    text: str = ""
    kept: StepResult = field(default_factory=StepResult)
    after_s: float = 0.0
    waits_for: Awaited | None = None
    unknown: bool = False
    sent: bool = False


#: How sure a fact is: read in the vendor's code, in its documentation, or only likely.
Mark = Literal["verified", "documented", "assumed"]
#: Stands in a path for an id.
_PLACE: Final = re.compile(r"\{[a-z.]+\}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a platform's API, with its facts and where these are from."""

    method: str
    path: str  #: below base_url; `{list.id}` stands for an id in one segment
    guard: Guard
    source: str  #: where its facts are from
    mark: Mark  #: of method, path and permission
    guard_mark: Mark  #: of what makes a second send harmless
    permission: str  #: what the OAuth client's roles must grant; "" = nothing
    missing: str = ""  #: what to do when the platform answers 404

    @property
    def route(self) -> str:
        """Method and path, for limits and pauses."""
        return f"{self.method} {self.path}"

    def at(self, *ids: str) -> str:
        """The path with its ids in their order.

        Example:
            >>> from tasks.genesys.operations import OPERATIONS
            >>> OPERATIONS["start_campaign"].at("7f 3a")
            '/api/v2/outbound/campaigns/7f%203a/start'
        """
        given = iter(ids)
        return _PLACE.sub(lambda _: quote(next(given), safe=""), self.path)

    def is_call(self, method: str, path: str) -> bool:
        """Whether a request is a call of this operation."""
        pattern = "[^/]+".join(re.escape(part) for part in _PLACE.split(self.path))
        return method == self.method and re.fullmatch(pattern, path) is not None


class StepKind(ABC):
    """What a job's rows are. A kind gives what its steps need of these methods."""

    task: str  #: name of the Celery task of its calls, as Flower shows it
    local_task: str = ""  #: that of the steps that make no call; "" = it has none
    packing: Packing = ALONE
    #: The calls of a platform that it makes, by their names, for tables of permissions.
    operations: Mapping[str, Operation] = MappingProxyType({})

    def size(self, row: Row, params: JobParams) -> int:
        """How many bytes of the call's body the row takes; asked where rows share a call."""
        del row, params
        return 0

    @abstractmethod
    def plan(self, row: Row, params: JobParams, client: ClientSettings) -> Sequence[StepPlan]:
        """The calls that the row becomes, in their order."""

    @abstractmethod
    def request(self, row: Row, params: JobParams, grant: Grant) -> Request:
        """What this step sends, or its look-up (`grant.looking`); raises `CannotSay`."""

    def read_lookup(self, row: Row, grant: Grant, answer: Answer) -> LookupResult:
        """What the look-up saw; never raises. Without one: nothing."""
        del row, grant, answer
        return LookupResult.UNSURE

    def read_poll(self, row: Row, grant: Grant, answer: Answer) -> Polled:
        """What a poll's answer says; only steps whose plan has `polls` are asked.

        Raises `CannotSay` when what it waits for is not known.
        """
        del row, grant, answer
        return Polled.UNSAID

    def explain_failure(self, row: Row, answer: Answer) -> str:
        """Why what a poll waits for failed, one sentence."""
        del row, answer
        return "the provider says that it failed"

    def keep(self, row: Row, grant: Grant, answer: Answer) -> StepResult:
        """What to keep of the answer of a step that succeeded, or of a look-up that found it."""
        del row, grant, answer
        return StepResult()

    def advise(self, route: str, status: int | None) -> str:
        """What to do about a call of this route that ended with this status; "" = unknown."""
        del route, status
        return ""

    def run_local(self, row: Row, params: JobParams, grant: Grant, client: Client) -> LocalResult:
        """Do a step that makes no call.

        One that takes long calls `client.governor().renew(grant)` as it goes on: if that says no,
        the step is another worker's by now, and what this one came to will not be recorded.

        Raises:
            CannotSay: it cannot be done as it was given, ever.
            StoreAway: the store is away; it is done later.
        """
        del row, params, client
        raise CannotSay(f"step {grant.step} makes a call")
