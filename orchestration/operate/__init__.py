"""What an operator changes: limits and pauses, campaigns, dead letters, and a restored store.

`limits` changes what the whole fleet may send, `campaigns` looks after campaigns at the provider,
`dead_letters` lets transactions go on, and `recovery` marks open work after a backup was restored.
Each change is written to the audit. What only reads stands in `views`, and what a user types in
`cli`.
"""

from __future__ import annotations

from orchestration.operate.campaigns import campaigns_of, read_progress, stop_campaign
from orchestration.operate.limits import pause, resume, set_limit, unset_limits

__all__ = [
    "campaigns_of",
    "pause",
    "read_progress",
    "resume",
    "set_limit",
    "stop_campaign",
    "unset_limits",
]
