"""Transactions that are not in the ledger yet: their rows stand on pages that are not opened.

The report names their keys all the same, for a key follows from its row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestration.kinds.registry import find_kind
from orchestration.views.pages import transactions_of
from workers.ledger.batch import rows_of
from workers.ledger.transaction import Transaction, TransactionState, join_guards

if TYPE_CHECKING:
    from collections.abc import Collection

    from orchestration.views.pages import PageTransaction
    from workers.clients import Client
    from workers.ledger.job import Job


def find_unopened(client: Client, keys: Collection[str]) -> dict[str, Transaction]:
    """Key → its transaction as it will begin, for those of these keys whose page is not opened.

    Cost: one round trip to the store for each page of the client that is not opened, and the time
    to derive the keys of its rows; nothing where all pages are.
    """
    waiting: dict[str, Transaction] = {}
    if not keys:
        return waiting
    for job in filter(None, client.ledger.jobs(client.ledger.job_names())):
        for page in range(job.next_page, job.pages):
            for entry in transactions_of(client, job.name, page):
                if entry.key in keys and entry.transaction is None:
                    waiting[entry.key] = _begin(client, job, entry)
            if len(waiting) == len(keys):
                return waiting
    return waiting


def _begin(client: Client, job: Job, entry: PageTransaction) -> Transaction:
    """The transaction of an entry as it is when its page is opened, as far as people look at it."""
    steps = find_kind(job.params.kind).steps
    plan = steps.plan(entry.row, job.step_params, client.configured)
    return Transaction(
        key=entry.key,
        state=TransactionState.WAITING,
        steps=len(plan),
        guards=join_guards([step.guard for step in plan]),
        job=job.name,
        place=entry.place,
        rows=len(rows_of(entry.row)),
    )
