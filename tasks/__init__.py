"""What one step says to a provider, and how its answer is read.

A *kind* is what a job's rows are; its module says which calls a row becomes (`plan`) and what
exactly each of them sends (`request`). The Celery tasks are registered here, one per kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks import base, calls, genesys
from workers.app import app

if TYPE_CHECKING:
    from tasks.base import Kind

#: Every kind of job by its name.
KINDS: Final[dict[str, Kind]] = {"calls": calls.Calls(), "contacts": genesys.Contacts()}

for _kind in KINDS.values():
    app.register_task(base.step_of(_kind))
