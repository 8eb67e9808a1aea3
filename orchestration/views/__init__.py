"""The read side: what people and programs are shown.

- `status`, `backlog`, `holds`, `refusals`: a client just now, and why it does not go faster.
- `progress`, `report`, `steps`, `pages`, `find`: jobs, their rows, and one transaction.
- `history`: what was done and what failed, the oldest first.
- `invariants`, `doctor`: whether what is stored agrees with itself.

Nothing here changes anything in the store.
"""

from orchestration.views.progress import Progress, all_jobs, snapshot
from orchestration.views.report import TransactionStatus, report
from orchestration.views.status import ClientStatus, status

__all__ = [
    "ClientStatus",
    "Progress",
    "TransactionStatus",
    "all_jobs",
    "report",
    "snapshot",
    "status",
]
