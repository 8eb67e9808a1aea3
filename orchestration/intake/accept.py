"""From checked pages to a job in the store; after a crash, on from the pages that it has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from workers.errors import InputError, NotNow, StoreAway, StoreReplaced, StoreUnfit
from workers.ledger.job import Job
from workers.ledger.ledger import PageCounts
from workers.settings.limits import bucket_of
from workers.store.connection import FULL, room

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestration.intake.kind import Kind
    from orchestration.intake.submission import Checked, Options, Submission
    from workers.clients import Client
    from workers.store.connection import Store

#: What a row takes in the store once its transaction is open, beside its page (measured: 220 bytes
#: before the first send, and the answers come on top).
TRANSACTION_BYTES: Final = 300
#: The store's free memory is read again after so many pages.
PAGES_PER_ROOM_CHECK: Final = 64
#: A job is asked for its next page when fewer of its transactions than this, or than AHEAD_S of
#: work at full rate, are unfinished.
LOW_WATER: Final = 500
AHEAD_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job that a submission led to."""

    job: str  #: its name
    new: bool  #: this submission completes it; False: it was complete, and nothing was added
    stored: Job | None  #: as it stands in the ledger; None: it is not there yet


def accept(
    kind: Kind[Any], submission: Submission[Options], checked: Checked, *, again: bool = False
) -> Accepted:
    """Store the pages and what they name, then let work begin; a job that is there stays as it is.

    A submission that was killed on the way goes on after the pages that are stored, with `again`
    too.

    Args:
        kind: That of the rows.
        submission: What is submitted.
        checked: What it came to.
        again: Make another job, though one of this content is there.

    Raises:
        InputError: an unfinished submission of this file was checked to other rows, or had
            another lane or tenant; or a file that a row names changed meanwhile.
        NotNow: the store went away, or lost pages; the same submission goes on when it is back.
        StoreUnfit: it has no room left.
    """
    ledger = submission.client.ledger
    try:
        accepted = find(submission, checked, again=again)
        if not accepted.new:
            return accepted
        fill(submission.client, checked, accepted)
        kind.store_loads(submission, checked, accepted.job)
        ledger.start(accepted.job)  # it stands in `needs_page` now
        return replace(accepted, stored=ledger.job(accepted.job))
    except StoreReplaced:
        raise
    except StoreAway as error:
        raise StoreAway(f"{error}; submit {checked.file} again to go on") from None


def find(submission: Submission[Options], checked: Checked, *, again: bool = False) -> Accepted:
    """The job to which the submission leads, as it stands now; nothing is written."""
    earlier = list(_find_earlier(submission.client, checked.job))
    started = [job for job in earlier if job.started]
    if started and not again:
        return Accepted(started[0].name, new=False, stored=started[0])
    for job in earlier:
        if not job.started and _is_same(checked, job):
            return Accepted(job.name, new=True, stored=job)
    if earlier and not again:
        raise _differs(checked, earlier[0].name)
    return Accepted(_name(checked.job, len(earlier) + 1), new=True, stored=None)


def _find_earlier(client: Client, name: str) -> Iterator[Job]:
    """All jobs of this content, the first one first."""
    for number in count(1):
        job = client.ledger.job(_name(name, number))
        if job is None:
            return
        yield job


def _is_same(checked: Checked, job: Job) -> bool:
    """Whether the pages of the job are those of this reading."""
    return (job.digest, job.params) == (checked.spool.digest, checked.job_params)


def _name(job: str, number: int) -> str:
    return job if number == 1 else f"{job}.{number}"


def fill(client: Client, checked: Checked, accepted: Accepted) -> None:
    """Store the pages of a job that it has not yet, and no more; raises as `accept`."""
    ledger, job = client.ledger, accepted.job
    later = (checked.rows - checked.rejected - checked.joined) * TRANSACTION_BYTES
    require_room(client.store, later if accepted.stored else later + checked.spool.packed)
    client.require_bound()
    begun = ledger.begin(
        Job(
            name=job,
            params=checked.job_params,
            client=client.name,
            source=checked.file,
            low_water=low_water(client),
            joined=checked.joined,
            digest=checked.spool.digest,
        )
    )
    # Another one may have come first: pages of two readings must never stand in one job.
    if not _is_same(checked, begun):
        raise _differs(checked, job)
    for page in checked.spool.pages(begun.pages):
        if page.number % PAGES_PER_ROOM_CHECK == PAGES_PER_ROOM_CHECK - 1:
            require_room(client.store, later)
        counts = PageCounts(rows=page.rows, rejected=page.rejected, calls=page.calls)
        ledger.accept(job, page.number, page.entries, counts)
    # A store that rolled back had fewer pages than we thought; then those above were not the next.
    after = ledger.job(job)
    if after is None or after.rows != checked.rows:
        raise NotNow(f"the store lost pages of {job}; submit {checked.file} again to go on")


def _differs(checked: Checked, job: str) -> InputError:
    """Why a submission cannot go on with what an earlier one of the same content began."""
    return InputError(
        f"{checked.file}: its submission {job} was not finished, and had another lane, tenant, "
        f"other options or another configuration; use the same, or --again to begin anew"
    )


def low_water(client: Client) -> int:
    """How many unfinished transactions a job may have before it waits with its next page."""
    rates = [bucket_of(limit).rate or 0 for limit in client.settings().limits]
    return max(LOW_WATER, round(AHEAD_S * max(rates, default=0)))


def require_room(store: Store, needed: int) -> None:
    """Refuse what would fill the store: the rest of its memory is for the work under way.

    Args:
        store: Where the job is to be kept.
        needed: Bytes that the job will take beside what is used now.

    Raises:
        StoreUnfit: with them, 80 % of its memory would be used.
    """
    left, most = room(store)
    if most and left <= needed:
        raise StoreUnfit(
            f"the job needs about {needed / 1e6:,.1f} MB of the store's memory, of which nothing "
            f"above {FULL:.0%} is given to new jobs ({max(0, left) / 1e6:,.1f} MB are left); raise "
            f"maxmemory, or submit again when jobs have ended"
        )
