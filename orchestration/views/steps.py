"""What is done of a transaction, and where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestration.kinds.registry import find_kind
from orchestration.views.pages import read_page
from tasks.genesys.campaigns import LOAD, child_of
from workers.ledger.batch import part_of
from workers.ledger.transaction import FINAL, TransactionState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.kind import StepPlan
    from workers.clients import Client
    from workers.ledger.ledger import Row
    from workers.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step, or the finished parts of one."""

    step: str  #: its name, or "step 2" where it has none; "" of a single step
    id: str | None  #: what the provider calls its result; None: the answer did not say
    parts: int | None = None  #: of a step with parts: how many are finished
    of: int | None = None  #: and how many there are

    def __str__(self) -> str:
        if self.parts:
            return f"{self.step} {self.parts} of {self.of} parts".lstrip()
        return f"{self.step} {self.id}" if self.id else self.step


@dataclass(frozen=True, slots=True)
class Loaded(Done):
    """The contacts of a campaign: `id` is their job, `parts` of them are at the provider."""

    def __str__(self) -> str:
        return f"{self.step} {self.id}: {self.parts or 0:,} of {self.of or 0:,}"


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a transaction as they stand."""

    count: int
    at: int  #: the step that is next, out, or where it stopped; from 1
    name: str  #: of that step, "" = none
    done: Sequence[Done]  #: the steps that are finished, in their order, and parts of the next

    @property
    def place(self) -> str:
        """Such as " at step 3 of 4 (activate)"; "" for a single step."""
        if self.count == 1:
            return ""
        name = f" ({self.name})" if self.name else ""
        return f" at step {self.at} of {self.count}{name}"

    def stopped(self, state: str, why: str) -> str:
        """One sentence: how the transaction ended, where, what is done, and why."""
        done = f"; done: {format_done(self.done)}" if self.done else ""
        return f"{state}{self.place}{done}" + (f": {why}" if why else "")


def format_done(done: Sequence[Done]) -> str:
    """Finished steps for people: "create 123, load 456"."""
    return ", ".join(map(str, done))


def steps_of(client: Client, transaction: Transaction) -> Steps:
    """The steps of a transaction of this client."""
    count, at = transaction.steps, transaction.step
    part = transaction.done_calls or 0
    if count == 1 and not part:
        return Steps(1, 1, "", ())
    row = row_of(client, transaction)
    plans = [None] * count if row is None else _plan(client, transaction.job, row)
    names = [plan.name if plan else "" for plan in plans]
    parts = [plan.parts if plan else 1 for plan in plans]
    has_ended = transaction.state in FINAL
    finished = count if transaction.state is TransactionState.SUCCEEDED else at - 1
    ids = transaction.provider_ids
    done = [
        Done(
            names[index] or f"step {index + 1}",
            (ids[index] if index < len(ids) else "") or None,
            *([parts[index]] * 2 if parts[index] > 1 else ()),
        )
        for index in range(finished)
    ]
    for index in range(finished if has_ended else at):
        plan = plans[index]
        if row and plan and plan.name == LOAD and plan.local:
            child = child_of(client.key(transaction.job, row["id"]))
            done[index : index + 1] = [_loaded(client, child)]
    if finished < at and part and parts[at - 1] > 1:
        name = "" if count == 1 else names[at - 1] or f"step {at}"
        done.append(Done(name, None, part, parts[at - 1]))
    return Steps(count, at, names[at - 1], done)


def _loaded(client: Client, child: str) -> Loaded:
    """How many contacts of this job are loaded by now."""
    job = client.ledger.job(child)
    return Loaded(LOAD, child, job.succeeded if job else 0, job.rows if job else 0)


def row_of(client: Client, transaction: Transaction) -> Row | None:
    """The row of a transaction, or its batch; None: its page is missing."""
    place = transaction.place
    entries = read_page(client, transaction.job, place.page)
    return None if entries is None else part_of(entries[place.index], place)


def state_of(transaction: Transaction | None) -> str:
    """A final state, `waiting` or `in_flight`; None is the transaction of a page that waits.

    Of a batch whose rows belong to other transactions now: `split`. No row is in that state.
    """
    return transaction.state.public_name if transaction else "waiting"


def _plan(client: Client, job: str, row: Row) -> Sequence[StepPlan]:
    params = client.ledger.job_params(job)
    return find_kind(params.kind).steps.plan(row, params, client.configured)
