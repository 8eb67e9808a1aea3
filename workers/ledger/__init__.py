"""The durable record of jobs and transactions; never a decision of when a call may leave.

- `ledger`: jobs, their pages of rows, and transactions. `batch`: rows that share a transaction.
- `identity`: the keys that a transaction, a step and a part carry to the provider.
- `audit`: what was done by whom and why. `attempts`: the newest sends that were no plain success.
"""

from workers.ledger.identity import idempotency_key, part_key, step_key
from workers.ledger.ledger import Ledger

__all__ = ["Ledger", "idempotency_key", "part_key", "step_key"]
