"""The contacts of campaigns: what they come to, and how they are accepted.

Each campaign's contacts are a job of their own, whose name derives from the campaign's key: a
submission that was killed finds it again. Its pages are stored, but the job is not started, so that
no work on it begins: the campaign's step `load` starts it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.accept import TRANSACTION_BYTES, Accepted, accept, fill, require_room
from orchestration.intake.check import SHOWN, check
from orchestration.intake.readers.campaigns import contacts_of
from tasks.genesys.campaigns import child_of
from tasks.genesys.operations import OPERATIONS
from workers.errors import InputError
from workers.settings.limits import matching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestration.intake.kind import Kind
    from orchestration.intake.submission import Checked, Options, Submission
    from workers.ledger.ledger import Row


#: What is summed up, by its name in a row's `load`.
_COUNTS: Final = ("rows", "rejected", "joined", "calls")


@dataclass(slots=True)
class Loads:
    """The contacts of all campaigns of a file, summed up."""

    rows: int = 0
    rejected: int = 0
    joined: int = 0
    calls: int = 0
    reasons: list[str] = field(default_factory=list)  #: of rejected contacts, one a file

    def as_dict(self) -> dict[str, int]:
        """As programs get it."""
        return {name: getattr(self, name) for name in _COUNTS}


def loads_of(submission: Submission[Options], checked: Checked) -> Loads:
    """What the contacts come to; limits are charged with their calls. Without contacts: nothing."""
    loads = Loads()
    for row in _campaigns(checked):
        load = row["load"]
        for name in _COUNTS:
            setattr(loads, name, getattr(loads, name) + load[name])
        if "bad" in load and len(loads.reasons) < SHOWN:
            line, reason = load["bad"]
            rejected = f"{load['rejected']:,} of {load['rows']:,} contacts rejected"
            loads.reasons.append(f"{load['file']}: {rejected}, the first in line {line}: {reason}")
    for limit in matching(submission.client.settings().limits, OPERATIONS["add_contacts"].route):
        checked.per_limit[limit.name] += loads.calls
    return loads


def accept_all(
    kind: Kind[Any],
    submission: Submission[Options],
    checked: Checked,
    *,
    again: bool = False,
) -> Accepted:
    """Store the rows and the contacts of those that are campaigns, then let work begin.

    Args:
        kind: That of the rows.
        submission: What is submitted.
        checked: What it came to.
        again: A job of this content is no reason not to make another one.

    Raises:
        InputError: a file of contacts changed meanwhile; and as `accept`.
        NotNow: as `accept`.
        StoreUnfit: as `accept`.
    """

    def accept_contacts(job: str) -> None:
        if kind.contacts is None:
            return
        good = sum(row["load"]["rows"] - row["load"]["rejected"] for row in _campaigns(checked))
        if good:
            require_room(submission.client.store, good * TRANSACTION_BYTES)
        for row in _campaigns(checked):
            child = child_of(submission.client.key(job, row["id"]))
            _accept_load(kind.contacts, contacts_of(submission, row, job), row["load"], child)

    return accept(submission, checked, again=again, before=accept_contacts)


def _accept_load(
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
