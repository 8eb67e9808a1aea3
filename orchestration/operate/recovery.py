"""After a restored backup of the store: what was open then may have been sent since.

What the provider was sent after the backup is forgotten here, but keys are derived, so the same
ones come again. Each step does what its guard says of a send of unknown outcome; lua/recover.lua is
the decision, this is the walk through jobs and pages.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestration.views.invariants import number
from orchestration.views.pages import transactions_of
from orchestration.views.progress import iso
from workers.errors import HeadgateError, UsageError
from workers.governor.flows import POOLS
from workers.governor.state import live_threads
from workers.ledger import audit
from workers.ledger.ledger import ENDED, Recovered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workers.clients import Client

#: Transactions that one script marks.
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What becomes of a client's work; counts of transactions, but for pages."""

    client: str
    sent_again: int
    looked_up: int
    unknown: int  #: ended, for nothing guards a second send
    leases: int  #: were out at the backup: the sweep does the same to them
    marked: int  #: an earlier run for this backup has done it
    pages: int  #: not open yet; their transactions will be treated so too

    @property
    def text(self) -> str:
        """The counts in one line."""
        return (
            f"{self.sent_again:,} sent again, {self.looked_up:,} looked up first, "
            f"{self.unknown:,} ended unknown, {self.leases:,} were out, "
            f"{self.marked:,} marked before; pages to open: {self.pages:,}"
        )

    def as_dict(self) -> dict[str, Any]:
        """As programs get it."""
        return asdict(self)


def check(clients: Iterable[Client], since_us: int) -> None:
    """See to it that a recovery may begin.

    Args:
        clients: All that are to be recovered.
        since_us: The moment of the backup, in us since the epoch.

    Raises:
        UsageError: that moment is still to come, or a worker is alive.
        StoreAway: the store gives no answer.
    """
    for client in clients:
        seconds, us = client.store.time()
        now_us = seconds * 1_000_000 + us
        if since_us > now_us:
            raise UsageError(
                f"--since {iso(since_us)} is in the future: the store's clock says {iso(now_us)}; "
                f"give the moment of the backup"
            )
        if alive := _alive(client):
            raise UsageError(
                f"workers are alive for client {client.name} ({alive}), and would send "
                f"meanwhile: stop all workers, and give the command again 5 s later"
            )


def recover(client: Client, since_us: int, *, by: str, reason: str) -> Recovery:
    """Treat what is open as maybe sent; no worker may run meanwhile, see `check`.

    It may be killed at any moment: the same call again does the rest.

    Args:
        client: Whose work it is.
        since_us: The moment of the backup, in us since the epoch.
        by: Who recovers it.
        reason: Why.

    Raises:
        HeadgateError: a worker was started meanwhile.
        StoreAway: the store gives no answer.
    """
    it = foreseen(client, since_us)
    # First of all, so that there is no change without an entry.
    audit.record(
        client.store,
        client.keys,
        "recover",
        subject=client.name,
        by=by,
        reason=reason,
        after=f"backup of {iso(since_us)}: {it.text}",
    )
    found = _walk(client, since_us, dry=False)
    if alive := _alive(client):
        raise HeadgateError(
            f"a worker of client {client.name} was started meanwhile ({alive}), and may have sent "
            f"what was not marked yet: stop it, restore the backup again, and recover again"
        )
    return found


def foreseen(client: Client, since_us: int) -> Recovery:
    """What `recover` would do; nothing is written."""
    return _walk(client, since_us, dry=True)


def _alive(client: Client) -> str:
    """The names of the client's live workers."""
    seconds, us = client.store.time()
    gov: Any = client.store.hgetall(client.keys.governor)
    now_us = seconds * 1_000_000 + us
    return ", ".join(sorted(it for pool in POOLS for it in live_threads(gov, now_us, pool)))


def _walk(client: Client, since_us: int, *, dry: bool) -> Recovery:
    words, pages = Counter[Recovered](), 0
    jobs: list[str] = client.store.zrange(client.keys.jobs, 0, -1)  # type: ignore[assignment]
    for job in jobs:
        it = client.ledger.job(job)
        if not it or "finished_us" in it:
            continue
        pages += number(it, "pages") - number(it, "opened")
        # Without a transaction too: what is marked then is the job itself, for its later pages.
        words.update(client.ledger.recover(job, since_us, [], dry=dry))
        for keys in _open_ones(client, job, number(it, "opened")):
            words.update(client.ledger.recover(job, since_us, keys, dry=dry))
    return Recovery(
        client=client.name,
        sent_again=words[Recovered.SEND],
        looked_up=words[Recovered.LOOK],
        unknown=words[Recovered.UNKNOWN],
        leases=words[Recovered.LEASE],
        marked=words[Recovered.MARKED],
        pages=pages,
    )


def _open_ones(client: Client, job: str, pages: int) -> Iterator[Sequence[str]]:
    """The keys of the job's transactions that have not ended, a handful at a time."""
    for page in range(pages):
        # What stands on a page that is missing or damaged cannot be sent.
        made = transactions_of(client, job, page)
        keys = [it.key for it in made if it.tx and it.tx["s"] not in ENDED]
        for at in range(0, len(keys), _AT_ONCE):
            yield keys[at : at + _AT_ONCE]
