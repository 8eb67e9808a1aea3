"""Whose a job or a transaction is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from workers.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.clients import Client, Clients

_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_key(text: str) -> bool:
    """Whether this has the form of an idempotency key."""
    return bool(_KEY.fullmatch(text))


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


def find_transactions(
    clients: Clients, keys: Sequence[str]
) -> dict[str, tuple[Client, dict[str, str]]]:
    """Idempotency key → the client that it belongs to, and the transaction's hash.

    Raises:
        UsageError: one of them belongs to no transaction of a configured client.
    """
    found: dict[str, tuple[Client, dict[str, str]]] = {}
    well_formed = [key for key in dict.fromkeys(keys) if _KEY.fullmatch(key)]
    for client in (clients[name] for name in clients.names()):
        asked = [key for key in well_formed if key not in found]
        hashes = zip(asked, client.ledger.transactions(asked), strict=True)
        found |= {key: (client, tx) for key, tx in hashes if "s" in tx}
    for key in keys:
        if key not in found:
            raise UsageError(
                f"there is no transaction {key!r}; its key stands in `headgate dead list` and in "
                f"the report of its job"
            )
    return {key: found[key] for key in keys}
