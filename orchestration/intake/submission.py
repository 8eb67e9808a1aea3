"""What somebody asks for who submits a file, and what the file came to: data, no behaviour."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from orchestration.intake.spool import Spool
from workers.governor.flows import NO_TENANT
from workers.settings.limits import bucket_of

if TYPE_CHECKING:
    from pathlib import Path

    from workers.clients import Client
    from workers.ledger.job import JobParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a kind lets its user say beside what all kinds share; this one: nothing.

    A kind that has more derives from it. A field whose metadata is `option(…)` is an option of
    `headgate submit KIND`; one without a default must be given.
    """


def option(*names: str, **attributes: object) -> dict[str, tuple[tuple[str, ...], dict[str, Any]]]:
    """Metadata of a field of `Options`: the option of `headgate submit KIND` that sets it.

    Args:
        names: As users type them, such as "--list".
        attributes: As `click.Option` takes them. The default is that of the field.
    """
    return {"option": (names, attributes)}


#: The options of one kind.
OptionsT_co = TypeVar("OptionsT_co", bound=Options, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission(Generic[OptionsT_co]):
    """One file, and how its rows are to be read and sent."""

    client: Client
    path: Path
    lane: int  #: of rows that name none, as `workers.governor.flows.lane_of` counts
    tenant: str = NO_TENANT  #: of rows that name none
    options: OptionsT_co  #: those of the kind


@dataclass(slots=True)
class Loads:
    """What the further files come to that rows name, such as the contacts of campaigns."""

    COUNTS: ClassVar = ("rows", "rejected", "joined", "calls")

    rows: int = 0
    rejected: int = 0
    joined: int = 0
    calls: int = 0
    reasons: list[str] = field(default_factory=list)  #: of rejected rows, one a file
    per_limit: Counter[str] = field(default_factory=Counter)  #: calls that each limit is charged


@dataclass(slots=True)
class Checked:
    """A file that was read to its end: its pages, and what they come to."""

    file: str  #: its name, safe to print
    job_params: JobParams  #: kind, lane and tenant, and what else steps know beside their rows
    job: str = ""  #: the name that its content gives the job
    spool: Spool = field(default_factory=Spool)
    rows: int = 0
    rejected: int = 0
    joined: int = 0
    calls: int = 0
    reasons: list[tuple[int, str]] = field(default_factory=list)  #: line and reason, the first ones
    per_limit: Counter[str] = field(default_factory=Counter)  #: calls that each limit is charged
    loads: Loads = field(default_factory=Loads)  #: of the files that its rows name

    def duration_s(self, submission: Submission[Options]) -> float:
        """Seconds that the calls take at the governed rate; the slowest limit decides."""
        limits = submission.client.settings().limits
        rates = ((limit.name, bucket_of(limit).rate or math.inf) for limit in limits)
        calls = self.per_limit + self.loads.per_limit
        return max((calls[name] / rate for name, rate in rates), default=0.0)
