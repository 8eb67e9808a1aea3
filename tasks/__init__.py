"""What one step says to a provider, and how its answer is read.

A *kind* is what a job's rows are; its module says which calls a row becomes (`plan`) and what
exactly each of them sends (`request`). The Celery tasks are registered here, one per kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks import base, calls, genesys
from workers.app import app

if TYPE_CHECKING:
    from celery import Celery

    from tasks.base import Kind

#: Every kind of job by its name.
KINDS: Final[dict[str, Kind]] = {"calls": calls.Calls(), "contacts": genesys.Contacts()}


def _register(sender: Celery, **_: object) -> None:
    for kind in KINDS.values():
        sender.register_task(base.step_of(kind))


# Registering reads the configuration: it waits until the application is used, so that a command's
# help needs no configuration, and a command may choose one first.
if app.finalized:
    _register(app)
else:
    app.on_after_finalize.connect(_register, weak=False)
