"""The contacts of campaigns: what they come to, and how they are accepted.

Each campaign's contacts are a job of their own, whose name derives from the campaign's key: a
submission that was killed finds it again. Its pages are stored, but the job is not started, so that
no work on it begins: the campaign's step `load` starts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestration.intake.accept import TRANSACTION_BYTES, Accepted, fill, require_room
from orchestration.intake.check import MOST_REASONS, check
from orchestration.intake.readers.campaigns import contacts_of
from orchestration.intake.submission import Loads
from tasks.genesys.campaigns import child_of
from tasks.genesys.operations import OPERATIONS
from workers.errors import InputError
from workers.settings.limits import matching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestration.intake.kind import Kind
    from orchestration.intake.submission import Checked, Options, Submission
    from workers.ledger.ledger import Row


def sum_up_contacts(submission: Submission[Options], checked: Checked) -> Loads:
    """What the contacts of all campaigns come to."""
    loads = Loads()
    for row in _campaigns(checked):
        load = row["load"]
        for name in Loads.COUNTS:
            setattr(loads, name, getattr(loads, name) + load[name])
        if "bad" in load and len(loads.reasons) < MOST_REASONS:
            line, reason = load["bad"]
            rejected = f"{load['rejected']:,} of {load['rows']:,} contacts rejected"
            loads.reasons.append(f"{load['file']}: {rejected}, the first in line {line}: {reason}")
    for limit in matching(submission.client.settings().limits, OPERATIONS["add_contacts"].route):
        loads.per_limit[limit.name] = loads.calls
    return loads


def store_contacts(
    kind: Kind[Any], submission: Submission[Options], checked: Checked, job: str
) -> None:
    """Store the contacts of all campaigns of `job`, as a job each that is not started.

    Args:
        kind: That of the contacts.
        submission: That of the campaigns.
        checked: What it came to.
        job: The job of the campaigns.

    Raises:
        InputError: a file of contacts changed since it was checked.
        NotNow: as `accept`.
        StoreUnfit: as `accept`.
    """
    good = checked.loads.rows - checked.loads.rejected
    if good:
        require_room(submission.client.store, good * TRANSACTION_BYTES)
    for row in _campaigns(checked):
        child = child_of(submission.client.key(job, row["id"]))
        _store_load(kind, contacts_of(submission, row, job), row["load"], child)


def _store_load(
    kind: Kind[Any], contacts: Submission[Options], load: Mapping[str, Any], child: str
) -> None:
    """Store the contacts of one campaign as the job `child`."""
    with check(kind, contacts) as checked:
        if checked.spool.digest != load["digest"]:
            raise InputError(
                f"{checked.file} changed while it was submitted; nothing was sent, submit the "
                f"definitions again when it is at rest"
            )
        accepted = Accepted(child, new=True, stored=contacts.client.ledger.job(child))
        fill(contacts.client, checked, accepted)


def _campaigns(checked: Checked) -> Iterator[Row]:
    """The good rows that are no repeats."""
    for page in checked.spool.pages(0):
        yield from (row for row in page.entries if "load" in row)
