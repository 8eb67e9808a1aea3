"""What must hold in the ledger whatever was killed: one function each, returning violations.

A violation is one sentence that names rows by line and key, never by content; no violation is an
empty list. They hold on a live store too: `headgate doctor` runs them.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import TYPE_CHECKING

from workers import identity, keys
from workers.ledger import DEAD, FINAL
from workers.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.clients import Client
    from workers.ledger import Row

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
        rows += len(found)
        recount["rejected"] += sum("error" in row for row in found)
        if page < number(before, "opened"):
            for row, _, _, tx in looked_up(client, job, page, found):
                if tx["s"] in FINAL:
                    recount[tx["s"]] += 1
                elif tx["s"] not in ("w", "r", "t", "s"):
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
    """The key of each row equals the derived one, and there is no transaction beside these."""
    it = client.ledger.job(job)
    own, violations = 0, list[str]()
    for page in range(number(it, "opened")):
        for row, key, place, tx in looked_up(client, job, page, page_of(client, job, page) or []):
            own += "joins" not in row
            if not tx["s"]:
                violations.append(f"job {job}: line {row['line']} has no transaction under {key}")
            elif tx["j"] != job or ("joins" not in row and tx["p"] != place):
                violations.append(f"job {job}: {key}, line {row['line']}, belongs to another row")
    if own != number(it, "released"):
        violations.append(f"job {job}: {it.get('released', 0)} transactions made for {own} rows")
    return violations


def nothing_is_stranded(client: Client, job: str) -> list[str]:
    """What is open waits in exactly one line or among the suspects, or is out with a due time."""
    script = Scripts(client.store, client.keys, None)
    violations = []
    for page in range(number(client.ledger.job(job), "opened")):
        found = looked_up(client, job, page, page_of(client, job, page) or [])
        still_open = list({key for _, key, _, tx in found if tx["s"] and tx["s"] not in FINAL})
        for some in (still_open[at : at + _AT_ONCE] for at in range(0, len(still_open), _AT_ONCE)):
            for key, (state, *stands) in zip(some, script("places", *some), strict=True):
                out = stands == ["touch"]
                right = len(stands) == 1 and not out if state == "w" else out
                if state not in FINAL and not right:
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


def page_of(client: Client, job: str, page: int) -> list[Row] | None:
    """The rows of a page, None when it is missing or damaged."""
    try:
        return client.ledger.page(job, page)
    except (TypeError, ValueError, zlib.error):  # not there, no JSON, no page
        return None


def looked_up(
    client: Client, job: str, page: int, rows: list[Row]
) -> Iterator[tuple[Row, str, str, dict[str, str]]]:
    """Good rows of an opened page: row, derived key, place, and the transaction of this key."""
    # Read, never made: a look must not give an installation a new secret.
    secret = client.store.get(keys.installation(client.fleet.store.namespace)) or ""
    good = [(index, row) for index, row in enumerate(rows) if "error" not in row]
    names = [
        identity.idempotency_key(bytes.fromhex(str(secret)), client.name, job, row["id"])
        for _, row in good
    ]
    pipe = client.store.pipeline(transaction=False)
    for name in names:
        pipe.hmget(client.keys.transaction(name), "s", "k", "j", "p", "pt")
    for (index, row), name, values in zip(good, names, pipe.execute(), strict=True):
        found = dict(zip(("s", "k", "j", "p", "pt"), (it or "" for it in values), strict=True))
        yield row, name, f"{page}:{index}", found


def number(job: Mapping[str, str], field: str) -> int:
    """A counter of a job's hash."""
    return int(job.get(field, 0))
