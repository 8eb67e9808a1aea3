"""The provider's limits: which calls they refuse, and what the headers say of them.

`meters` counts one limit for one scope, `limits` asks all limits about a call, and `headers` writes
Retry-After and the rate headers. Nothing here shares code with the limits of the product under
test, and nothing here reads a clock: each time is passed in.
"""

from orchestration.sandbox.quota.headers import format_rate_headers, format_retry_after
from orchestration.sandbox.quota.limits import Decision, LimitScope, QuotaEnforcer, scope_of
from orchestration.sandbox.quota.meters import Semaphore

__all__ = [
    "Decision",
    "LimitScope",
    "QuotaEnforcer",
    "Semaphore",
    "format_rate_headers",
    "format_retry_after",
    "scope_of",
]
