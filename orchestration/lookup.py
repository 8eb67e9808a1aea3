"""Whose job a name is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from workers.errors import UsageError

if TYPE_CHECKING:
    from workers.clients import Client, Clients

_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def find_job(clients: Clients, job: str) -> tuple[Client, dict[str, str]]:
    """The client that the job belongs to, and the job's hash.

    Raises:
        UsageError: no configured client has a job of this name.
    """
    if _JOB.fullmatch(job):
        for name in clients.names():
            client = clients[name]
            if about := client.ledger.job(job):
                return client, about
    raise UsageError(f"there is no job {job!r}; `headgate jobs` lists all")
