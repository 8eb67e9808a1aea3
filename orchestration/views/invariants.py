"""What must hold in the ledger whatever was killed: one function each, returning violations.

A violation is one sentence that names rows by line and key, never by content; an empty list means
that all is well. The invariants hold on a live store too: `headgate doctor` checks them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orchestration.views.pages import read_page, rows_of_page, transactions_of
from workers.ledger.batch import rows_of
from workers.ledger.job import Job, JobParams
from workers.ledger.transaction import DEAD, FINAL, TransactionState
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from workers.clients import Client

#: Transactions whose places one script looks up.
_AT_ONCE = 100


def check_ledger(client: Client) -> dict[str, list[str]]:
    """All invariants of the ledger of all jobs of a client: name → violations."""
    violations: dict[str, list[str]] = {"counters_match": counters_match(client)}
    jobs = client.ledger.job_names()
    for check in (rows_are_accounted_for, keys_are_derived, nothing_is_stranded):
        violations[check.__name__] = [text for job in jobs for text in check(client, job)]
    return violations


def rows_are_accounted_for(client: Client, job: str) -> list[str]:
    """Every row is in one state, and the job's counters are what a recount finds.

    A final state is left by a replay alone. So on a job that runs the recount lies between the
    counters before it and those after it, give or take the rows that were replayed meanwhile; on a
    job at rest all are the same.
    """
    before = _read_job(client, job)
    recount, rows, violations = _recount(client, before)
    after = _read_job(client, job)
    replayed = after.replayed - before.replayed
    margin = {state: replayed if state in DEAD else 0 for state in FINAL}
    violations += [
        f"job {job}: {after.count(state)} rows are counted as {state}, a recount finds "
        f"{recount[state]}"
        for state in FINAL
        if not before.count(state) - margin[state]
        <= recount[state]
        <= after.count(state) + margin[state]
    ]
    ended = sum(after.count(state) for state in FINAL)
    if rows != before.rows:
        violations.append(f"job {job}: {before.rows} rows accepted, its pages hold {rows}")
    if ended != after.ended:
        violations.append(f"job {job}: {after.ended} rows ended, its states sum to {ended}")
    finished = after.started and ended == after.rows
    if finished != (after.finished_us is not None):
        violations.append(
            f"job {job}: {ended} of {after.rows} rows ended, but it is "
            f"{'not ' if finished else ''}marked as finished"
        )
    return violations


def _recount(client: Client, job: Job) -> tuple[Counter[TransactionState], int, list[str]]:
    """Rows by final state, rows of all pages, and what is wrong with either."""
    recount, rows, violations = Counter[TransactionState](), 0, list[str]()
    for page in range(job.pages):
        entries = read_page(client, job.name, page)
        if entries is None:
            violations.append(f"job {job.name}: page {page} of its rows is missing or damaged")
            continue
        rows += sum(len(rows_of(entry)) for entry in entries)
        recount[TransactionState.REJECTED] += sum("error" in entry for entry in entries)
        if page >= job.next_page:
            continue
        for row, _, transaction in rows_of_page(client, job.name, entries):
            if transaction and transaction.state in FINAL:
                recount[transaction.state] += 1
            elif not transaction or not transaction.state.is_open:
                violations.append(f"job {job.name}: line {row['line']} is in no state")
    return recount, rows, violations


def keys_are_derived(client: Client, job: str) -> list[str]:
    """The key of each row equals the derived one, and there is no other transaction.

    While a job runs batches may be split, which makes more of them.
    """
    before = _read_job(client, job)
    own, violations = 0, list[str]()
    for page in range(before.next_page):
        for row, key, place, transaction in transactions_of(client, job, page):
            own += 1
            if not transaction:
                violations.append(f"job {job}: line {row['line']} has no transaction under {key}")
            elif (transaction.job, transaction.place) != (job, place):
                violations.append(f"job {job}: {key}, line {row['line']}, belongs to another row")
        for row, key, transaction in rows_of_page(client, job, read_page(client, job, page) or []):
            if not transaction and "joins" in row:
                violations.append(f"job {job}: line {row['line']} joins nothing under {key}")
    after = _read_job(client, job)
    if not before.released <= own <= after.released:
        violations.append(f"job {job}: {after.released} transactions made for {own}")
    return violations


def nothing_is_stranded(client: Client, job: str) -> list[str]:
    """What is open is in one place: in a backlog, in quarantine, or out with a due time."""
    script = Scripts(client.store, client.keys.for_looking(), None)
    violations = []
    for page in range(_read_job(client, job).next_page):
        transactions = (each.transaction for each in transactions_of(client, job, page))
        open_ones = [one.key for one in transactions if one and not one.state.has_ended]
        for start in range(0, len(open_ones), _AT_ONCE):
            some = open_ones[start : start + _AT_ONCE]
            for key, (word, *places) in zip(some, script("locate", *some), strict=True):
                state, out = TransactionState(word), places == ["deadlines"]
                waits = state is TransactionState.WAITING
                right = len(places) == 1 and not out if waits else out
                if not state.has_ended and not right:
                    there = " and ".join(places) or "no place"
                    violations.append(f"job {job}: {key} is {state.public_name} and in {there}")
    return violations


def counters_match(client: Client) -> list[str]:
    """The counters of bells out and of waiting transactions equal what is there."""
    flat = Scripts(client.store, client.keys.for_looking(), None)("check_counters")
    return [
        f"client {client.name}: counter {field} is {counter}, there are {counted}"
        for field, counter, counted in zip(*[iter(flat)] * 3, strict=True)
    ]


def everything_ended(client: Client, job: str) -> list[str]:
    """Every row that was read has ended: nothing is lost."""
    stored = _read_job(client, job)
    missing = stored.rows - stored.ended
    return [f"job {job}: {missing} rows have not ended"] if missing else []


def _read_job(client: Client, name: str) -> Job:
    """The job; an empty one when there is none."""
    return client.ledger.job(name) or Job(name=name, params=JobParams(kind=""))
