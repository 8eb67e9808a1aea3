"""Every name in the store, built in one place.

All keys of a client carry the hash tag `{client}`, so that one script may touch any of them on a
clustered store too; the namespace keeps environments apart on one server.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The names of one client."""

    namespace: str
    client: str
    #: Gives the name of the client's mark, see `workers.ledger.installation`; None: nothing checks.
    find_mark: Callable[[ClientKeys], str] | None = field(default=None, compare=False, repr=False)

    @property
    def prefix(self) -> str:
        """What every name of the client begins with; lua/prelude.lua builds the same names."""
        return f"{self.namespace}:{{{self.client}}}:"

    def _of(self, *parts: str) -> str:
        return self.prefix + ":".join(parts)

    def mark(self, installation: str) -> str:
        """String: the mark of the installation of this id, without which no script runs."""
        return self._of("installation", installation)

    def for_looking(self) -> ClientKeys:
        """The same names for those who only look: no mark is asked for, and none is made."""
        return replace(self, find_mark=None)

    @property
    def governor(self) -> str:
        """Hash: buckets of limits, bells out per limit, the next ring, passes, live workers."""
        return self._of("gov")

    @property
    def flows(self) -> str:
        """Hash: flow → JSON of its lane, tenant, weight, route and limits."""
        return self._of("flows")

    @property
    def deadlines(self) -> str:
        """Sorted set: transaction that is out (rung, retrying, sent) → its deadline."""
        return self._of("deadlines")

    @property
    def reclaimed(self) -> str:
        """Sorted set: transaction that is out since before the store went back → its deadline."""
        return self._of("reclaimed")

    @property
    def retries(self) -> str:
        """Sorted set: transaction whose Celery countdown runs → its due time."""
        return self._of("retries")

    @property
    def quarantine(self) -> str:
        """Sorted set: transactions under which a worker died → due time; rung one at a time."""
        return self._of("quarantine")

    @property
    def permits(self) -> str:
        """Sorted set: permit of a call outside of jobs → its end."""
        return self._of("permits")

    @property
    def needs_page(self) -> str:
        """Set: jobs that want their next page opened."""
        return self._of("needs_page")

    @property
    def jobs(self) -> str:
        """Sorted set: every job → when it was accepted."""
        return self._of("jobs")

    @property
    def dead(self) -> str:
        """Stream: transactions that ended without success and wait for a person."""
        return self._of("dead")

    @property
    def audit(self) -> str:
        """Stream: what was done to the client, by whom and why."""
        return self._of("audit")

    @property
    def attempts(self) -> str:
        """Stream: the newest sends that were no plain success, see workers/ledger/attempts.py."""
        return self._of("attempts")

    @property
    def damaged(self) -> str:
        """Hash: what is unreadable, by its name behind the prefix → when that was seen, and why."""
        return self._of("damaged")

    @property
    def overrides(self) -> str:
        """Hash: limits that hold beside a configuration, see workers/governor/overrides.py."""
        return self._of("overrides")

    @property
    def bound(self) -> str:
        """Hash: the account that the ledger is bound to, see workers/governor/binding.py."""
        return self._of("bound")

    @property
    def refusals(self) -> str:
        """Stream: the newest answers of 429, see workers/governor/refusals.py."""
        return self._of("refusals")

    @property
    def evidence(self) -> str:
        """Hash: scope → its newest answers, while bad ones are among them."""
        return self._of("evidence")

    @property
    def healthy(self) -> str:
        """Hash: scope → the second since which its answers are all good again."""
        return self._of("healthy")

    def breaker(self, scope: str) -> str:
        """Hash: the breaker of a scope, while it is open."""
        return self._of("breaker", scope)

    @property
    def active(self) -> str:
        """Set: flows in which something waits."""
        return self._of("active")

    @property
    def oauth(self) -> str:
        """Hash: the encrypted access token, its expiry and its generation."""
        return self._of("oauth")

    @property
    def oauth_lock(self) -> str:
        """String with expiry: who refreshes the token just now."""
        return self._of("oauth", "lock")

    @property
    def backlogs(self) -> str:
        """Prefix of the backlogs: + flow = list of new ones, + flow + ":due" = sorted set."""
        return self._of("backlog", "")

    @property
    def transactions(self) -> str:
        """Prefix of the ledger: + idempotency key = hash of one transaction."""
        return self._of("tx", "")

    @property
    def job_prefix(self) -> str:
        """Prefix of the jobs: + job = hash of one job."""
        return self._of("job", "")

    def backlog(self, flow: str) -> str:
        """List: transactions of this flow that never went."""
        return self.backlogs + flow

    def transaction(self, key: str) -> str:
        """Hash: one transaction of the ledger."""
        return self.transactions + key

    def job(self, job: str) -> str:
        """Hash: one job and its counters."""
        return self.job_prefix + job

    def waiters(self, key: str) -> str:
        """Set: transactions that wait for the one of this key."""
        return self._of("waiters", key)

    def writes(self, task: str) -> str:
        """Hash: key of a write of a task outside of jobs → when it was first sent, and its digest.

        It has an expiry, see `workers.session.writes`.
        """
        return self._of("writes", task)

    def page(self, job: str, page: int) -> str:
        """String: page number `page` of the job's rows, compressed."""
        return self.job_prefix + f"{job}:page:{page}"


def installation(namespace: str) -> str:
    """Hash: the `secret` of this installation, and the `schema` of all that is stored."""
    return f"{namespace}:installation"


def registry(namespace: str) -> str:
    """Hash: worker process → JSON of its newest heartbeat, see workers/governor/registry.py."""
    return f"{namespace}:registry"


def configurations(namespace: str) -> str:
    """Hash: digest of a configuration → JSON of its serial and clients; `#` → the newest serial."""
    return f"{namespace}:configurations"


def notices(namespace: str) -> str:
    """Hash: id of a notice that is not delivered yet → JSON, see orchestration/notify/outbox.py."""
    return f"{namespace}:notices"


def watched(namespace: str) -> str:
    """Hash: what the notices are of, as JSON → since when, in us, and whether there was one."""
    return f"{namespace}:notices:watched"


def notice_claim(namespace: str, notice: str) -> str:
    """String with expiry: somebody delivers the notice, or it was delivered."""
    return f"{namespace}:notices:claim:{notice}"


def notice_turn(namespace: str, configuration: str) -> str:
    """String with expiry: a worker of this configuration has looked what there is to tell."""
    return f"{namespace}:notices:turn:{configuration}"
