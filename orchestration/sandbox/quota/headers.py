"""The headers of an answer that speak of the limits: when to come back, and what is left."""

from __future__ import annotations

import json
import math
from email.utils import formatdate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestration.sandbox.config import Limit
    from orchestration.sandbox.quota.limits import Decision


def format_retry_after(form: str, wait_us: int, now_us: int) -> str | None:
    """Return the header's value in one of the forms of `Config.retry_after`."""
    match form:
        case "date":
            # A date has whole seconds. It is rounded up, so that it is never too early.
            return formatdate(math.ceil((now_us + wait_us) / 1e6), usegmt=True)
        case "none":
            return None
        case "garbage":
            return "soon"
        case "hours":
            return "7200"
        case _:
            return str(_whole_s(wait_us))


def format_rate_headers(family: str, decision: Decision, now_us: int) -> dict[str, str]:
    """Return what is left after this call, in one of the families of `Config.rate_headers`.

    The families with one number a header state the matching limit with the fewest calls left.
    `ratelimit` states each limit. A `concurrent` limit is no rate and is in none of them.
    """
    if family == "none" or not (rates := decision.rates(now_us)):
        return {}
    if family == "ratelimit":
        return {
            "RateLimit": ", ".join(
                f"{_quoted(limit)};r={left};t={_whole_s(reset_us)}"
                for limit, left, reset_us in rates
            ),
            "RateLimit-Policy": ", ".join(
                f"{_quoted(limit)};q={limit.count};w={math.ceil(limit.window_s)}"
                for limit, _, _ in rates
            ),
        }
    limit, left, reset_us = min(rates, key=lambda rate: rate[1])
    count, reset_s = limit.count, str(_whole_s(reset_us))
    if family == "inin":
        return {
            "inin-ratelimit-allowed": str(count),
            "inin-ratelimit-count": str(max(0, count - left)),
            "inin-ratelimit-reset": reset_s,
        }
    prefix = "X-RateLimit" if family == "x-ratelimit" else "RateLimit"
    return {
        f"{prefix}-Limit": str(count),
        f"{prefix}-Remaining": str(left),
        f"{prefix}-Reset": reset_s,
    }


def _whole_s(time_us: int) -> int:
    return math.ceil(time_us / 1e6)


def _quoted(limit: Limit) -> str:
    return json.dumps(limit.name)
