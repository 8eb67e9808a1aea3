"""What must hold in the ledger whatever was killed: one function each, returning violations.

A violation is one sentence that names rows by line and key, never by content; no violation is an
empty list. They hold on a live store too: `headgate doctor` runs them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orchestration.views.pages import page_of, rows_told, transactions_of
from workers.ledger.batch import rows_of
from workers.ledger.ledger import DEAD, ENDED, FINAL
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.clients import Client

#: The letters of states in which a transaction waits or is out.
_OPEN = frozenset("wrts")
#: Transactions whose places one script looks up.
_AT_ONCE = 100


def check_ledger(client: Client) -> dict[str, list[str]]:
    """All invariants of the ledger of all jobs of a client: name → violations."""
    found: dict[str, list[str]] = {"counters_match": counters_match(client)}
    jobs: list[str] = client.store.zrange(client.keys.jobs, 0, -1)  # type: ignore[assignment]
    for check in (rows_are_accounted_for, keys_are_derived, nothing_is_stranded):
        found[check.__name__] = [line for job in jobs for line in check(client, job)]
    return found


def rows_are_accounted_for(client: Client, job: str) -> list[str]:
    """Every row is in one state, and the job's counters are what a recount finds.

    Only a replay leaves a final state, so on a job that runs the recount lies between the counters
    before it and those after it, or beside these by what was replayed meanwhile; on a job at rest
    all are the same.
    """
    before = client.ledger.job(job)
    recount, rows, violations = Counter[str](), 0, list[str]()
    for page in range(number(before, "pages")):
        found = page_of(client, job, page)
        if found is None:
            violations.append(f"job {job}: page {page} of its rows is missing or damaged")
            continue
        rows += sum(len(rows_of(entry)) for entry in found)
        recount["rejected"] += sum("error" in entry for entry in found)
        if page < number(before, "opened"):
            for row, _, tx in rows_told(client, job, found):
                state = tx.get("s")
                if state in FINAL:
                    recount[state] += 1
                elif state not in _OPEN:
                    violations.append(f"job {job}: line {row['line']} is in no state")
    after = client.ledger.job(job)
    replayed = number(after, "replayed") - number(before, "replayed")
    left = Counter(dict.fromkeys(DEAD, replayed))
    violations += [
        f"job {job}: {number(after, state)} rows are counted as {state}, a recount finds "
        f"{recount[state]}"
        for state in FINAL
        if recount[state] < number(before, state) - left[state]
        or recount[state] > number(after, state) + left[state]
    ]
    ended = sum(number(after, state) for state in FINAL)
    if rows != number(before, "rows"):
        violations.append(f"job {job}: {before.get('rows')} rows accepted, its pages hold {rows}")
    if ended != number(after, "ended"):
        violations.append(f"job {job}: {after.get('ended')} rows ended, its states sum to {ended}")
    finished = "closed" in after and ended == number(after, "rows")
    if finished != ("finished_us" in after):
        violations.append(
            f"job {job}: {ended} of {after.get('rows')} rows ended, but it is "
            f"{'not ' if finished else ''}marked as finished"
        )
    return violations


def keys_are_derived(client: Client, job: str) -> list[str]:
    """The key of each row equals the derived one, and there is no transaction beside these.

    On a job that runs batches may be split meanwhile, which makes more of them.
    """
    it = client.ledger.job(job)
    own, violations = 0, list[str]()
    for page in range(number(it, "opened")):
        for row, key, place, tx in transactions_of(client, job, page):
            own += 1
            if not tx:
                violations.append(f"job {job}: line {row['line']} has no transaction under {key}")
            elif tx["j"] != job or tx["p"] != str(place):
                violations.append(f"job {job}: {key}, line {row['line']}, belongs to another row")
        for row, key, tx in rows_told(client, job, page_of(client, job, page) or []):
            if not tx and "joins" in row:
                violations.append(f"job {job}: line {row['line']} joins nothing under {key}")
    after = client.ledger.job(job)
    if not number(it, "released") <= own <= number(after, "released"):
        violations.append(f"job {job}: {after.get('released', 0)} transactions made for {own}")
    return violations


def nothing_is_stranded(client: Client, job: str) -> list[str]:
    """What is open waits in exactly one line or among the suspects, or is out with a due time."""
    script = Scripts(client.store, client.keys, None)
    violations = []
    for page in range(number(client.ledger.job(job), "opened")):
        made = transactions_of(client, job, page)
        still_open = [it.key for it in made if it.tx and it.tx["s"] not in ENDED]
        for some in (still_open[at : at + _AT_ONCE] for at in range(0, len(still_open), _AT_ONCE)):
            for key, (state, *stands) in zip(some, script("places", *some), strict=True):
                out = stands == ["touch"]
                right = len(stands) == 1 and not out if state == "w" else out
                if state not in ENDED and not right:
                    there = " and ".join(stands) or "nowhere"
                    violations.append(f"job {job}: {key} in state {state} stands {there}")
    return violations


def counters_match(client: Client) -> list[str]:
    """The counters of bells out and of waiting transactions equal what is there."""
    flat = Scripts(client.store, client.keys, None)("recount")
    return [
        f"client {client.name}: counter {field} is {counter}, there are {counted}"
        for field, counter, counted in zip(*[iter(flat)] * 3, strict=True)
    ]


def everything_ended(client: Client, job: str) -> list[str]:
    """Every row that was read has ended: nothing is lost."""
    it = client.ledger.job(job)
    missing = number(it, "rows") - number(it, "ended")
    return [f"job {job}: {missing} rows have not ended"] if missing else []


def number(job: Mapping[str, str], field: str) -> int:
    """A counter of a job's hash."""
    return int(job.get(field, 0))
