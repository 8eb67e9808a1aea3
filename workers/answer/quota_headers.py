"""What a provider says of its quota beside an answer: from headers to one reading. Pure.

| family                  | headers                                                             |
| ----------------------- | ------------------------------------------------------------------- |
| `X-RateLimit-*`         | `-Limit`, `-Remaining`, `-Reset`                                    |
| IETF, a field each      | `RateLimit-Limit`, `-Remaining`, `-Reset`                           |
| IETF, one dictionary    | `RateLimit: limit=100, remaining=50, reset=30`                      |
| IETF, a list of quotas  | `RateLimit: "name";r=50;t=30`, `RateLimit-Policy: "name";q=100;w=60` |
| Genesys                 | `inin-ratelimit-allowed`, `-count`, `-reset`                        |

They are hints: a header that cannot be read counts for nothing, and nothing here raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.answer.backoff import http_date

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

#: A quota that is whole again within this is not short: what is left of it is no news.
SHORT_FROM_S: Final = 1.0
#: A reset farther away than this, seconds, is no reset: daily quotas are the longest there are.
MAX_RESET_S: Final = 86_400.0
#: A reset above this is a moment, in seconds since the Unix epoch; below, a time from now.
_EPOCH_FROM_S: Final = 1e9
#: A longer value is not read, which bounds the time that a hostile one may take.
_MAX_CHARS: Final = 1_000
#: Up to 15 digits: exact in every language that the number passes through.
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?", re.ASCII)
_POLICIES = re.compile(r"[,;]")
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_LIST = re.compile(rf'(?:{_QUOTED}|[^"])*')
_MEMBERS = re.compile(rf'(?:{_QUOTED}|[^",])+')
_PARTS = re.compile(rf'(?:{_QUOTED}|[^";])+')


@dataclass(frozen=True, slots=True)
class Feedback:
    """What is left of one quota, as the provider sees it."""

    limit: int | None  #: calls of the whole quota; None: the headers do not say
    remaining: int  #: calls that are left until the reset, >= 0
    reset_s: float  #: from the moment of the answer, 0..MAX_RESET_S


def read_feedback(headers: Mapping[str, str], now: datetime | None) -> Feedback | None:
    """Read the tightest quota that an answer's headers state.

    Args:
        headers: Of the answer, with lower-case names.
        now: The moment of the answer, aware, for a reset that is stated as a moment. The answer's
            own Date goes first, so that no two clocks have to agree; with neither, such a reset is
            not read.

    Returns:
        The reading with the fewest calls remaining, of several the one that resets last; None when
        no family has both a `remaining` and a `reset` that can be believed. Negative numbers, and
        a reset more than a day away in either direction, cannot; one that passed since then is 0.
    """
    stated = {name: value for name, value in headers.items() if "ratelimit" in name}
    if not stated:  # most answers state no quota, and each answer is read
        return None
    readings = []
    for limit, remaining, reset in _quotas(stated):
        left, most = _number(remaining), _number(limit)
        reset_s = None if left is None else _reset_s(reset, headers.get("date"), now)
        if left is not None and reset_s is not None:
            readings.append(Feedback(None if most is None else int(most), int(left), reset_s))
    return min(readings, key=lambda quota: (quota.remaining, -quota.reset_s), default=None)


def read_shortage(headers: Mapping[str, str]) -> Feedback | None:
    """Read the tightest quota, if that is news: it is not whole again within `SHORT_FROM_S`."""
    quota = read_feedback(headers, None)
    return quota if quota and quota.reset_s > SHORT_FROM_S else None


def _quotas(headers: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Limit, remaining and reset of each quota as they stand in the headers; "": not there."""
    for family in ("x-ratelimit", "ratelimit"):
        if remaining := headers.get(f"{family}-remaining"):
            limit, reset = headers.get(f"{family}-limit", ""), headers.get(f"{family}-reset", "")
            # Some send the policies after the limit: "100, 100;w=60".
            yield _POLICIES.split(limit, maxsplit=1)[0], remaining, reset
    if count := headers.get("inin-ratelimit-count"):
        allowed = headers.get("inin-ratelimit-allowed", "")
        yield allowed, _difference(allowed, count), headers.get("inin-ratelimit-reset", "")
    if "ratelimit" in headers:
        quotas = _members(headers["ratelimit"])
        policies = _members(headers.get("ratelimit-policy", ""))
        for name, quota in quotas.items():
            yield policies.get(name, {}).get("q", ""), quota.get("r", ""), quota.get("t", "")
        fields = dict(_pair(member) for member in quotas)
        yield fields.get("limit", ""), fields.get("remaining", ""), fields.get("reset", "")


def _difference(allowed: str, count: str) -> str:
    most, used = _number(allowed), _number(count)
    return "" if most is None or used is None else str(max(0, int(most) - int(used)))


def _members(value: str) -> dict[str, dict[str, str]]:
    """The members of a structured list, each with its parameters."""
    if len(value) > _MAX_CHARS or not _LIST.fullmatch(value):
        return {}
    members = {}
    for member in _MEMBERS.findall(value):
        name, *parameters = _PARTS.findall(member) or [""]
        members[name.strip()] = dict(_pair(parameter) for parameter in parameters)
    return members


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip()


def _reset_s(value: str, date: str | None, now: datetime | None) -> float | None:
    seconds = _number(value)
    if seconds is None or seconds > _EPOCH_FROM_S:
        now = http_date(date) or now
        if now is None:
            return None
        if seconds is None:
            moment = http_date(value.strip(" \t"))
            seconds = None if moment is None else (moment - now).total_seconds()
        else:
            seconds -= now.timestamp()
    if seconds is None or abs(seconds) > MAX_RESET_S:
        return None
    return max(seconds, 0.0)


def _number(value: str) -> float | None:
    value = value.strip(" \t")
    return float(value) if _NUMBER.fullmatch(value) else None
