"""What one attempt did at the provider: from the answer, or its absence, to an outcome. Pure.

| what came back                          | outcome        | next        | health    |
| --------------------------------------- | -------------- | ----------- | --------- |
| nothing was sent                        | `not_executed` | `retry`     | `neutral` |
| sent, and no status came back           | `unknown`      | `retry`     | `bad`     |
| 2xx, whatever became of its body        | `executed`     | `done`      | `good`    |
| 3xx: redirects are not followed         | `not_executed` | `refused`   | `good`    |
| 401                                     | `not_executed` | `token`     | `neutral` |
| 403 that says that it is a rate limit   | `not_executed` | `throttled` | `neutral` |
| 403                                     | `not_executed` | `refused`   | `neutral` |
| 408, 5xx                                | `unknown`      | `retry`     | `bad`     |
| 425                                     | `not_executed` | `later`     | `neutral` |
| 429                                     | `not_executed` | `throttled` | `neutral` |
| any other 4xx                           | `not_executed` | `refused`   | `good`    |

A 403 says that it is a rate limit by a Retry-After above 0, or by a code such as
`rate_limit_exceeded`. A quota that no wait brings back, such as `quota.exceeded`, is no rate limit.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Never, TypeAlias

from workers.answer.backoff import http_date, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a text of JSON holds: objects, lists, texts, numbers, true, false and None, unchecked.
Json: TypeAlias = Any

#: A Retry-After of an answer that is no 429 is obeyed up to so long, seconds.
LONGEST_ORDER_S: Final = 900.0
#: Headers that may carry the provider's name for this call, the best one first.
CORRELATION_HEADERS: Final = (
    "inin-correlation-id",
    "correlationid",
    "x-correlation-id",
    "x-request-id",
)
_CORRELATION_ID = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?")
#: As Genesys Cloud names them: domain, entity, action.
_PERMISSION = re.compile(r"\b[a-z][A-Za-z]{1,31}:[a-z][A-Za-z]{1,31}:(?:[a-z][A-Za-z]{1,31}\b|\*)")
_PERMISSION_BYTES: Final = 4096
#: A code of a 403 that stands for too many requests, whatever stands between its words.
_RATE_CODE = re.compile(r"(?i)rate.?limit|request.?limit|too.?many.?requests|throttl")
_MACHINE_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Outcome(StrEnum):
    """What one attempt did at the provider; there is no fourth."""

    EXECUTED = auto()
    NOT_EXECUTED = auto()
    UNKNOWN = auto()


class Next(StrEnum):
    """What the answer asks for."""

    DONE = auto()  #: nothing more
    RETRY = auto()  #: the same call again after a backoff
    THROTTLED = auto()  #: the same call again after a pause; no attempt is spent
    LATER = auto()  #: the same call again after a wait; no attempt is spent
    TOKEN = auto()  #: the same call again with a new access token
    REFUSED = auto()  #: never again as it is


class Health(StrEnum):
    """What an answer says of the provider, whatever it says of the request."""

    GOOD = auto()  #: it works
    BAD = auto()  #: it failed
    NEUTRAL = auto()  #: neither: the answer is for who asks


#: What a status means, and where it is not listed what its class means, the first digit.
_BY_STATUS: Final[dict[int, tuple[Outcome, Next]]] = {
    HTTPStatus.UNAUTHORIZED: (Outcome.NOT_EXECUTED, Next.TOKEN),
    HTTPStatus.REQUEST_TIMEOUT: (Outcome.UNKNOWN, Next.RETRY),  # as _FAILED
    HTTPStatus.TOO_EARLY: (Outcome.NOT_EXECUTED, Next.LATER),
    HTTPStatus.TOO_MANY_REQUESTS: (Outcome.NOT_EXECUTED, Next.THROTTLED),
}
_BY_CLASS: Final = {
    # The status line is the provider's word. What happened to the body afterwards does not undo
    # the work.
    2: (Outcome.EXECUTED, Next.DONE),
    3: (Outcome.NOT_EXECUTED, Next.REFUSED),
    4: (Outcome.NOT_EXECUTED, Next.REFUSED),
}
#: Of 408 and of every other class.
_FAILED: Final = (Outcome.UNKNOWN, Next.RETRY)
_REDIRECT: Final = range(300, 400)
#: These are for the client or the moment, and say nothing of how the provider works.
_NEUTRAL: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back from one send, or why nothing did. Its repr shows no data of either side."""

    status: int | None = None  #: None: no status line came back
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  #: lower-case names
    body: bytes = field(default=b"", repr=False)  #: as much of it as arrived, up to the cap
    error: str | None = None  #: what went wrong, a few fixed words such as "reset after send"
    sent: bool = True  #: the first byte may have left
    elapsed_s: float = 0.0  #: from the last look before the first byte

    @property
    def retry_after_s(self) -> float | None:
        """The wait that Retry-After orders, seconds; None: there is no order that can be read.

        A date is compared with the answer's own Date, so that no two clocks have to agree.
        """
        now = http_date(self.headers.get("date")) or datetime.now(UTC)
        return parse_retry_after(self.headers.get("retry-after"), now)

    @property
    def ordered_wait_s(self) -> float:
        """The wait that Retry-After orders of who is no 429: up to `LONGEST_ORDER_S`; 0 = none."""
        return min(self.retry_after_s or 0.0, LONGEST_ORDER_S)

    @property
    def health(self) -> Health:
        """What it says of the provider."""
        if not self.sent or self.status in _NEUTRAL:
            return Health.NEUTRAL
        failed = self.status is None or _meaning_of(self.status) == _FAILED
        return Health.BAD if failed else Health.GOOD

    @property
    def correlation_id(self) -> str | None:
        """The provider's name for this call: printable ASCII of at most 128 characters."""
        for name in CORRELATION_HEADERS:
            value = self.headers.get(name)
            if value is not None and _CORRELATION_ID.fullmatch(value):
                return value
        return None

    def json(self) -> Json:
        """Read the body as JSON, anew at each call; None when it is none."""
        try:
            text = self.body.decode(json.detect_encoding(self.body), "surrogatepass")
            return _DECODER.decode(text)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer, understood."""

    outcome: Outcome
    next: Next
    reason: str  #: one short sentence without any text of the provider but its machine code


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What an answer of 429 says."""

    route: str  #: method and path without ids
    tenant: str  #: that sent the call
    retry_after_s: float | None  #: None: no order that can be read
    limit: int | None  #: this and the next two from the provider's headers
    remaining: int | None
    reset_s: float | None


def read(answer: Answer, *, earlier_unknown: bool = False) -> Reading:
    """Read what the attempt did and what its answer asks for.

    Args:
        answer: What came back.
        earlier_unknown: An earlier attempt of the same step ended `unknown`. A refusal then proves
            nothing ("exists already" may be our own doing): it stays a refusal, but of unknown
            outcome.
    """
    reading = _read(answer)
    if earlier_unknown and reading.next is Next.REFUSED:
        reason = f"{reading.reason}; an earlier attempt may have been executed"
        return replace(reading, outcome=Outcome.UNKNOWN, reason=reason)
    return reading


def _read(answer: Answer) -> Reading:
    if not answer.sent:
        reason = f"nothing was sent ({answer.error or 'no reason is known'})"
        return Reading(Outcome.NOT_EXECUTED, Next.RETRY, reason)
    status = answer.status
    if status is None:
        reason = f"no answer came back ({answer.error or 'no reason is known'})"
        return Reading(Outcome.UNKNOWN, Next.RETRY, reason)
    outcome, asked = _meaning_of(status)
    if status == HTTPStatus.FORBIDDEN and is_rate_limit(answer):
        asked = Next.THROTTLED
    reason = _summary(answer)
    if status in _REDIRECT:
        reason += "; a redirect is not followed, correct base_url or the path"
    return Reading(outcome, asked, reason)


def _summary(answer: Answer) -> str:
    details = ", ".join(filter(None, (machine_code(answer), answer.error)))
    return f"the provider answered {answer.status}" + (f" ({details})" if details else "")


def machine_code(answer: Answer) -> str | None:
    """The code of a JSON error body (`code`, else `error`) when it is surely a code, not a text."""
    if answer.status is None or answer.status < HTTPStatus.BAD_REQUEST:
        return None
    fields = answer.json()
    if not isinstance(fields, dict):
        return None
    for name in ("code", "error"):
        value = fields.get(name)
        if isinstance(value, str) and _MACHINE_CODE.fullmatch(value):
            return value
    return None


def is_rate_limit(forbidden: Answer) -> bool:
    """Whether a 403 means too many requests, as some providers say it."""
    if forbidden.retry_after_s:
        return True
    return bool(_RATE_CODE.search(machine_code(forbidden) or ""))


def is_access_refused(answer: Answer) -> bool:
    """Whether it is a 401, or a 403 that is no rate limit: the token may have ended early."""
    if answer.status == HTTPStatus.FORBIDDEN:
        return not is_rate_limit(answer)
    return answer.status == HTTPStatus.UNAUTHORIZED


def _meaning_of(status: int) -> tuple[Outcome, Next]:
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, _FAILED)


def permissions(answer: Answer) -> list[str]:
    """The permissions that a refusal names, such as `outbound:contact:add`; at most three.

    Nothing else of its text is returned, for that may hold anything.
    """
    text = answer.body[:_PERMISSION_BYTES].decode(errors="replace")
    return list(dict.fromkeys(_PERMISSION.findall(text)))[:3]


def _refuse(constant: str) -> Never:
    """NaN and Infinity are no JSON: kept in the ledger, they would break its other readers."""
    raise ValueError(constant)


#: Made once, for each answer is read.
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
