"""What one step says to a provider, and how its answer is read.

A *kind* is what a job's rows are; its module says which calls a row becomes (`plan`) and what
exactly each of them sends (`request`). Each has a Celery task for its calls, and maybe one for
steps that make none. `tasks.governed` is for tasks of
other people's applications: importing it touches no application, neither ours nor theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks.genesys import assets, campaigns, contacts, prompts
from tasks.rest import calls
from tasks.steps import call, local

if TYPE_CHECKING:
    from celery import Celery

    from tasks.kind import Kind

#: Every kind of job by its name.
KINDS: Final[dict[str, Kind]] = {
    "calls": calls.Calls(),
    "contacts": contacts.Contacts(),
    "campaigns": campaigns.Campaigns(),
    "prompts": prompts.Prompts(),
    "assets": assets.Assets(),
}


def register(app: Celery) -> None:
    """Give the application the tasks of each kind."""
    for kind in KINDS.values():
        app.register_task(call.step_of(kind))
        if kind.local_task:
            app.register_task(local.local_step_of(kind))
