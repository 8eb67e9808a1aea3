"""Calls of other code on the same quota: limiter, requests session, SDK client; never a job.

- `session`: a `requests` session whose calls take their tokens from the workers' limits.
- `genesys_sdk`: the official Genesys SDK over such a session.
- `limiter`: the quota for calls that are no jobs. `adapter`: how such a call travels.
- `writes`: what a task has sent in earlier runs, and may send again.
"""

from workers.session.genesys_sdk import governed_api_client
from workers.session.session import GovernedSession, governed_session

__all__ = ["GovernedSession", "governed_api_client", "governed_session"]
