"""The governor: when a call may leave, and what follows from its answer.

Its main methods are one script each, one round trip: `ring` asks which transactions can go now,
`admit` takes the tokens and makes SENT durable, `settle` records the answer and decides the next
bell, `sweep` takes back what nobody answered. The contracts stand at the head of the scripts in
`lua/`.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from workers import failpoints
from workers.answer.verdict import MAX_TEXT, UNSENT, to_json
from workers.clock import now_ns, wait
from workers.errors import StoreAway, StoreReplaced
from workers.governor.flows import CALLS_POOL, MEDIA_POOL
from workers.governor.grants import (
    ANYBODY,
    PLAIN,
    Asked,
    Denied,
    DeniedKind,
    Grant,
    Hindrance,
    Leases,
    PutBack,
    Ring,
    Settled,
)
from workers.governor.recent import Recent, share_recent
from workers.store.replaced import behind
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workers.answer.verdict import Verdict
    from workers.governor.grants import Asker, Half, KeyExpired, MustSplit
    from workers.settings.client import ClientSettings
    from workers.settings.load import WorkerSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: No send starts on a key older than this; the provider may forget it after 24 h.
KEY_LIFE_S: Final = 23 * 3600
#: A key is replaced only when its newest send ended so long ago: it may lie in a proxy meanwhile.
QUIET_S: Final = 600
#: Under so many keys a step may be sent, and once more when it is replayed.
MOST_KEYS: Final = 3
#: How many unanswered bells and expired leases one sweep takes.
SWEEP_AT_ONCE: Final = 200
#: A store that is so much older than the newest grant is no copy that lagged, but a backup.
MOST_LOST_S: Final = 60
#: What `requeue` answers, where more follows than that the bell was put back.
_PUT_BACK: Final = {2: PutBack.PAUSED, 3: PutBack.OWN}
#: Between two tries to settle while the store is away.
SETTLE_AGAIN_S: Final = 0.25


def requeue(
    run: Scripts, key: str, step: int, hindrance: Hindrance = PLAIN, asker: Asker = ANYBODY
) -> PutBack:
    """Put a bell that could not be answered back into its backlog.

    Args:
        run: The client's scripts.
        key: The transaction.
        step: Its step.
        hindrance: Why, and what waits for that.
        asker: Whose bell it is; nothing changes where the step is not for it.

    Returns:
        What follows from the hindrance.
    """
    pause_us, delay_us = round(hindrance.pause_s * 1e6), round(hindrance.delay_s * 1e6)
    why, failing_us = hindrance.why[:MAX_TEXT], round(hindrance.failing_s * 1e6)
    hindered = (pause_us, why, delay_us, asker.kind, asker.does, hindrance.process, failing_us)
    return _PUT_BACK.get(run("requeue", key, step, *hindered), PutBack.PLAIN)


class Governor:
    """The quota and the backlog of one client."""

    def __init__(
        self,
        store: Store,
        keys: ClientKeys,
        client: ClientSettings,
        worker: WorkerSettings,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._run = Scripts(store, keys, clock)
        self._worker = worker
        self._leases = Leases.of(client, worker)
        # No send may start so late that it could arrive after the key's life.
        self._max_age_us = round((KEY_LIFE_S - client.total_timeout_s) * 1e6)
        self._quiet_us = round(QUIET_S * 1e6)
        self._process = secrets.token_urlsafe(6)
        self._grants = itertools.count(1)
        self._grace_us = round(worker.bell_grace_s * 1e6)
        self._recent = Recent()

    def share_recent(self, clients: int) -> None:
        """Keep as many of its grants as a process does that serves so many clients."""
        self._recent = Recent(share_recent(clients))

    def ring(
        self,
        worker: str,
        threads: int,
        pool: str = CALLS_POOL,
        most: Mapping[str, int | None] = MappingProxyType({}),
    ) -> Ring:
        """Take out of the backlogs what can leave now; the caller must publish the bells.

        Args:
            worker: Who rings.
            threads: That the worker has.
            pool: What they do, one of `flows.POOLS`.
            most: Pool → how many bells and calls of this client may be out; None or left out: as
                many as suit its threads.
        """
        tick_us = round(self._worker.tick_s * 1e6)
        bounds = [most.get(one) for one in (CALLS_POOL, MEDIA_POOL)]
        given = ["" if bound is None else bound for bound in bounds]
        args = (worker, threads, self._grace_us, tick_us, pool, *given)
        reply, reclaimed = self._run("ring", *args, self._recent.newest), Counter[str]()
        if reply[0] == "LOST":
            reclaimed = self._reclaim(*reply[1:])
            reply = self._run("ring", *args, self._recent.newest)
        ring = Ring.from_reply(reply, reclaimed)
        if ring.bells:
            failpoints.reach("rung")
        return ring

    def step_down(self, worker: str, pool: str) -> None:
        """Ring no more: the threads of this worker count no longer, and another one follows."""
        self._run("step_down", worker, pool)

    def admit(
        self, key: str, step: int, asker: Asker = ANYBODY, *, local: bool = False
    ) -> Grant | KeyExpired | MustSplit | Denied:
        """Ask whether this call may leave now; a `Grant` has been charged and is durable.

        Nothing is charged and nothing changes where the step is not for the asker: a message names,
        the ledger decides. The lease of a `local` step, which makes no call, is shorter: see
        `renew`.

        The fence is named here, not by the store: when the reply is lost, the grant that may
        stand there can still be settled as not sent, and is. The question itself may also arrive
        after that, over a connection that was slow: then it grants nothing.
        """
        asked = Asked(key, step, f"{self._process}.{next(self._grants)}", now_ns())
        lease_us = self._leases.local_us if local else self._leases.call_us
        try:
            reply = self._run(
                "admit", key, step, asked.fence, lease_us, self._max_age_us, asker.kind, asker.does
            )
        except StoreReplaced:
            raise  # nothing has run, and nothing is there to settle
        except StoreAway:
            self._insist("undo", asked.key, asked.fence)
            self._settle(asked, UNSENT)
            return Denied(DeniedKind.WAIT, "the store was away")
        decision = Grant.from_reply(reply, asked=asked, leases=self._leases)
        if isinstance(decision, Grant):
            self._recent.add(decision)
        return decision

    def _reclaim(self, newest: int, known_until: int) -> Counter[str]:
        """Put back the grants of this process that the store has forgotten, by what became of each.

        Args:
            newest: Number of the newest grant that the store knows.
            known_until: Up to which number its data are surely complete.

        Raises:
            StoreReplaced: it has forgotten more than this process can know of; the client is
                stopped until a person recovers.
        """
        lost = self._recent.after(newest)
        if lost is None or self._recent.newest - known_until > MOST_LOST_S * 1e6:
            raise StoreReplaced(behind(self._run("distrust", known_until)))
        words = Counter[str]()
        for grant in lost:
            names = (grant.key, grant.job, grant.step, grant.fence, grant.number)
            words[self._run("reclaim", *names, self._leases.call_us)] += 1
        self._recent.forget(newest)
        return words

    def renew(self, grant: Grant) -> bool:
        """Prolong the lease of a local step; False: it is another's by now.

        It lasts as long as nothing may move in a transfer, and a margin.
        """
        return bool(self._run("renew", grant.key, grant.fence, self._leases.local_us))

    def rotate(self, expired: KeyExpired, entry: Sequence[str]) -> str:
        """Replace a key that is of no more use, if that is safe; else the transaction ends.

        Args:
            expired: What admit answered.
            entry: What the audit shall say of it, from `audit.addition`.

        Returns:
            What Flower shows.
        """
        known = (expired.key, expired.step, expired.generation)
        word = self._run("rotate", *known, self._quiet_us, MOST_KEYS, *entry)
        return f"old: {str(word).lower()}"

    def split(self, refused: MustSplit, halves: Sequence[Half]) -> str:
        """Let two transactions take the place of a batch that was refused.

        Returns:
            What Flower shows.
        """
        args = [text for half in halves for text in (half.key, str(half.place), half.rows)]
        word = self._run("split", refused.key, refused.step, halves[1].place.first, *args)
        failpoints.reach("split")
        return f"refused: {str(word).lower()}"

    def settle(self, grant: Grant, verdict: Verdict) -> Settled:
        """Record what the grant came to.

        While the store is away the answer is kept and offered again until the lease is over:
        giving up earlier would turn an answer that is known into an unknown one.
        """
        settled = self._settle(grant, verdict)
        failpoints.reach("settled")
        return settled

    def _settle(self, granted: Grant | Asked, verdict: Verdict) -> Settled:
        number = granted.number if isinstance(granted, Grant) else 0  # 0: older than any other
        names = (granted.key, granted.step, granted.fence)
        args = (*names, to_json(verdict), self._grace_us, number)
        return Settled(self._insist("settle", *args))

    def _insist(self, script: str, *args: str | int) -> Any:  # noqa: ANN401 -- the script's
        """Run a script as soon as the store answers, as long as a lease lasts."""
        give_up_ns = now_ns() + self._leases.call_us * 1000
        while True:
            try:
                return self._run(script, *args)
            except StoreAway:
                if now_ns() > give_up_ns:
                    raise
                wait(SETTLE_AGAIN_S)

    def requeue(
        self, key: str, step: int, hindrance: Hindrance = PLAIN, asker: Asker = ANYBODY
    ) -> PutBack:
        """Put a bell that could not be answered back into its backlog; as `requeue`."""
        return requeue(self._run, key, step, hindrance, asker)

    def fails_alone(self, process: str) -> bool:
        """Whether others can connect to the provider, while this process cannot.

        Args:
            process: Its id in the registry.
        """
        return bool(self._run("fails_alone", process))

    def note_connected(self, process: str) -> None:
        """Note that a process that could not connect to the provider can connect again."""
        self._run("connected", process)

    def sweep(self) -> tuple[int, int, int]:
        """Take back what nobody answered: (bells, leases taken over, transactions ended).

        If the store's clock was set back, every moment first moves along with it.
        """
        self._run("clock_rollback")
        bells, leases, ended = self._run("sweep", self._worker.max_crashes, SWEEP_AT_ONCE)
        if leases:
            failpoints.reach("taken_over")
        return bells, leases, ended
