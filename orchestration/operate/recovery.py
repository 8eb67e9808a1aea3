"""After a restored backup of the store: what was open then may have been sent since.

The store has forgotten what was sent after the backup, but keys are derived, so the same ones come
again. Each step does what its guard says of a send of unknown outcome. lua/recover.lua decides;
this module walks through jobs and pages.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestration.views.pages import transactions_of
from orchestration.views.progress import iso
from workers.errors import HeadgateError, UsageError
from workers.governor.flows import POOLS
from workers.governor.state import GovernorState
from workers.ledger import audit
from workers.ledger.installation import Installation
from workers.ledger.ledger import Recovered
from workers.store.connection import open_store, store_now_us
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workers.clients import Client, Clients
    from workers.ledger.job import Job

#: Transactions that one script marks.
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What becomes of a client's work: counts of transactions, and of pages."""

    client: str
    sent_again: int
    looked_up: int
    unknown: int  #: ended, for nothing guards a second send
    leases: int  #: were out at the backup: the sweep does the same to them
    marked: int  #: an earlier run for this backup has marked them
    pages: int  #: not open yet; their transactions will be treated in the same way

    @property
    def text(self) -> str:
        """The counts in one line."""
        return (
            f"{self.sent_again:,} sent again, {self.looked_up:,} looked up first, "
            f"{self.unknown:,} ended unknown, {self.leases:,} were out, "
            f"{self.marked:,} marked before; pages to open: {self.pages:,}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The counts as programs get them."""
        return asdict(self)


def check(clients: Iterable[Client], since_us: int) -> None:
    """Refuse a recovery that must not begin.

    Args:
        clients: All that are to be recovered.
        since_us: The moment of the backup, in us since the epoch.

    Raises:
        UsageError: that moment is still to come, or a worker is alive.
        StoreAway: the store gives no answer.
    """
    for client in clients:
        now_us = store_now_us(client.store)
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

    A process that is killed meanwhile leaves a part of the work: the same call again does the rest.

    Args:
        client: Whose work it is.
        since_us: The moment of the backup, in us since the epoch.
        by: Who recovers.
        reason: Why.

    Raises:
        HeadgateError: a worker was started meanwhile.
        StoreAway: the store gives no answer.
    """
    forecast = foresee(client, since_us)
    # First of all, so that there is no change without an entry.
    audit.record(
        client.store,
        client.keys,
        "recover",
        subject=client.name,
        by=by,
        reason=reason,
        after=f"backup of {iso(since_us)}: {forecast.text}",
    )
    recovery = _walk(client, since_us, dry=False)
    client.ledger.trust()
    if alive := _alive(client):
        raise HeadgateError(
            f"a worker of client {client.name} was started meanwhile ({alive}), and may have sent "
            f"what was not marked yet: stop it, restore the backup again, and recover again"
        )
    return recovery


def begin_anew(clients: Clients, *, by: str, reason: str) -> tuple[str, str]:
    """Take the store as it is for this installation; each client's audit says so.

    Returns:
        The id of the installation that this machine remembered, and the new one.

    Raises:
        UsageError: the store is the one that this machine remembers.
        StoreAway: the store gives no answer.
    """
    settings, chosen = clients.settings.store, [("", "")]
    store = open_store(settings)

    def record(before: str, after: str) -> None:
        for name in clients.names():
            audit.record(
                store,
                ClientKeys(settings.namespace, name),
                "new installation",
                subject=name,
                by=by,
                reason=reason,
                before=before,
                after=after,
            )
        chosen.append((before, after))

    Installation(store, settings).choose(record)
    return chosen[-1]


def foresee(client: Client, since_us: int) -> Recovery:
    """What `recover` would do; nothing is written."""
    return _walk(client, since_us, dry=True)


def _alive(client: Client) -> str:
    """The names of the client's live workers."""
    state = GovernorState.read(client.store, client.keys)
    ids = [name for pool in POOLS for name in state.live_threads(pool)]
    return ", ".join(sorted(each.partition("/")[0] for each in ids))


def _walk(client: Client, since_us: int, *, dry: bool) -> Recovery:
    words, pages = Counter[Recovered](), 0
    for name in client.ledger.job_names():
        job = client.ledger.job(name)
        if job is None or job.finished_us is not None:
            continue
        pages += job.pages - job.next_page
        # A call without a transaction marks the job itself, for its later pages.
        words.update(client.ledger.recover(name, since_us, [], dry=dry))
        for keys in _open_keys(client, job):
            words.update(client.ledger.recover(name, since_us, keys, dry=dry))
    return Recovery(
        client=client.name,
        sent_again=words[Recovered.SEND],
        looked_up=words[Recovered.LOOK],
        unknown=words[Recovered.UNKNOWN],
        leases=words[Recovered.LEASE],
        marked=words[Recovered.MARKED],
        pages=pages,
    )


def _open_keys(client: Client, job: Job) -> Iterator[Sequence[str]]:
    """The keys of the job's transactions that have not ended, `_AT_ONCE` of them at a time."""
    for page in range(job.next_page):
        # A page that is missing or damaged has none, for its rows cannot be sent.
        transactions = (each.transaction for each in transactions_of(client, job.name, page))
        keys = [one.key for one in transactions if one and not one.state.has_ended]
        for start in range(0, len(keys), _AT_ONCE):
            yield keys[start : start + _AT_ONCE]
