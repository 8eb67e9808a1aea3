"""The fields of a fault and of a storm: how the provider misbehaves, and for which calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from orchestration.sandbox.config.json_values import InvalidConfig

FaultKind = Literal[
    "429",
    "5xx_before",
    "5xx_after",
    "5xx_stored",
    "drop_before",
    "drop_after",
    "hang",
    "hang_before",
    "slow_body",
    "bad_json",
    "400",
    "401",
    "403",
    "404",
    "409",
    "redirect",
    "huge_body",
    "truncated",
    "page",
    "reset",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Which of the matching calls a fault hits.

    A call is hit where all the conditions that are set hold. Without a condition every call is hit.
    `every`, `first` and `probability` count the calls for which the other conditions hold.
    """

    from_s: float = 0.0  #: seconds from the order of the faults on until it begins
    until_s: float | None = None  #: seconds from the order on until it is over; None: never
    clients: tuple[str, ...] | None = None  #: hits calls of these OAuth clients
    id_match: str | None = None  #: glob over a business id; hits calls that carry such an id
    every: int | None = None  #: hits the n-th, 2n-th, ... matching call
    first: int | None = None  #: hits the first n matching calls
    probability: float | None = None  #: 0..1, drawn with the seed of the fault
    business_ids: tuple[str, ...] | None = None  #: hits calls that carry one of these ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to misbehave.

    The kinds `*_before`, the plain statuses, `redirect`, `page` and `reset` act before the call has
    its effect. All other kinds act after it.
    """

    kind: FaultKind
    #: glob over "METHOD /path"; it hits token endpoints and /transfers/ only where it names them
    match: str = "* *"
    when: When = field(default_factory=When)
    times: int | None = None  #: most hits of this fault; None: no bound
    per_business_id_times: int | None = None  #: most hits per business id; None: no bound
    #: status of 5xx_before (None: 503), 5xx_after and 5xx_stored (500), page (502), redirect (302)
    status: int | None = None
    #: header Retry-After of a 429, 403 or 5xx, sent as it stands; None: no header. A 403 with it
    #: has the code rate.limit.exceeded
    retry_after: str | int | None = None
    hang_s: float = 30.0  #: seconds of silence before the connection is closed
    slow_s: float = 5.0  #: seconds that a slow body takes
    size_mb: float = 1.0  #: size of a huge body, in units of 1,000,000 bytes
    gzip: bool = False  #: a huge body is sent compressed, by about 1000 : 1
    location: str = "http://elsewhere.invalid/"  #: header Location of a redirect
    seed: int = 0  #: of `When.probability`


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Calls that are answered 429 at their arrival, whatever the limits say.

    Such a call is charged to no limit.
    """

    seconds: float  #: length, from the order on; 0 ends a storm
    share: float = 1.0  #: 0..1, of the matching calls, spread evenly among them
    match: str = "* *"  #: glob over "METHOD /path"; a storm never hits a token endpoint
    retry_after: str | int | None = None  #: header, sent as it stands; None: no header

    def __post_init__(self) -> None:
        if self.seconds < 0 or not 0 <= self.share <= 1:
            raise InvalidConfig("seconds must be >= 0 and share in 0..1")
