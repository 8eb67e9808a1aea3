"""Finds the client that a job or a transaction belongs to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestration.views.unopened import find_unopened
from workers.errors import UsageError
from workers.ledger.installation import where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.clients import Client, Clients
    from workers.ledger.job import Job
    from workers.ledger.transaction import Transaction

_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_key(text: str) -> bool:
    """Whether this has the form of an idempotency key."""
    return bool(_KEY.fullmatch(text))


def find_job(clients: Clients, name: str) -> tuple[Client, Job]:
    """The job of this name, and the client that it belongs to.

    Raises:
        UsageError: no configured client has a job of this name.
    """
    if _JOB.fullmatch(name):
        for client in (clients[each] for each in clients.names()):
            if job := client.ledger.job(name):
                return client, job
    place = where(clients.settings.store)
    raise UsageError(f"there is no job {name!r} in the store {place}; `headgate jobs` lists all")


def find_transactions(
    clients: Clients, keys: Sequence[str]
) -> dict[str, tuple[Client, Transaction]]:
    """Idempotency key → its transaction, and the client that it belongs to.

    A transaction whose page is not opened yet is among them, as it will begin.

    Raises:
        UsageError: no configured client has a transaction of one of these keys.
    """
    owners: dict[str, tuple[Client, Transaction]] = {}
    well_formed = [key for key in dict.fromkeys(keys) if _KEY.fullmatch(key)]
    for client in (clients[name] for name in clients.names()):
        missing = [key for key in well_formed if key not in owners]
        stored = client.ledger.transactions(missing)
        owners |= {one.key: (client, one) for one in stored if one}
    for client in (clients[name] for name in clients.names()):
        missing = [key for key in well_formed if key not in owners]
        unopened = find_unopened(client, missing)
        owners |= {key: (client, one) for key, one in unopened.items()}
    for key in keys:
        if key not in owners:
            raise UsageError(
                f"there is no transaction {key!r}; its key stands in `headgate dead list` and in "
                f"the report of its job"
            )
    return {key: owners[key] for key in keys}
