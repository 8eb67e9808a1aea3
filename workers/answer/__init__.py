"""What an answer means and what follows from it. Pure: no clock, no store, no socket.

- `outcome`: what one attempt did at the provider, and what the answer asks for.
- `backoff`: how long to wait. `quota_headers`: what is left of a quota.
- `guards`: what a doubtful step may do next. `verdict`: what settle records of an answer.
"""

from workers.answer.backoff import countdown_s, http_date, parse_retry_after, pause_s
from workers.answer.outcome import Answer, Json, Next, Outcome, Reading, machine_code, read
from workers.answer.quota_headers import Feedback, read_feedback

__all__ = [
    "Answer",
    "Feedback",
    "Json",
    "Next",
    "Outcome",
    "Reading",
    "countdown_s",
    "http_date",
    "machine_code",
    "parse_retry_after",
    "pause_s",
    "read",
    "read_feedback",
]
