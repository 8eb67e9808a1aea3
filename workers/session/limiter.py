"""The limiter of calls that are no jobs: the same limits, pauses and breaker, no backlog."""

from __future__ import annotations

import itertools
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.answer.verdict import MAX_TEXT
from workers.clock import now_ns
from workers.errors import STORE_FAILS, CircuitOpen, LedgerDamaged, NotNow, Throttled
from workers.governor import flows
from workers.governor.governor import SWEEP_AT_ONCE
from workers.governor.grants import Leases
from workers.session.refused import RefusedCalls
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from workers.answer.outcome import Health
    from workers.answer.quota_headers import Feedback
    from workers.clients import Client

#: How long the next tokens are left to a call that waits: until it asks again, and a little longer.
TOKEN_KEPT_S: Final = 0.2
#: Between two questions of a call that must wait, at least and at most.
ASK_EVERY_S: Final = (0.005, 0.1)


@dataclass(frozen=True, slots=True)
class Permit:
    """One call may leave; `Limiter.release` must follow."""

    name: str
    start_in_s: float  #: wait this long first; 0 but for limits with a lead
    stale_at_ns: int  #: by `clock.now_ns`: later than this it is not used
    number: int = 0
    flow: str = ""
    fingerprint: str = ""


class Limiter:
    """One client's quota for calls from outside of jobs.

    Such a call does not wait in the backlog: the next token of its limits is left to it. Its lane
    decides whether it may take the reserve (urgent), its tenant which caps it is charged to.

    Args:
        client: Whose quota.
        lane: 0 to 2, see `flows.LANES`.
        tenant: Who sends; `flows.NO_TENANT` = nobody in particular.
        clock: Microseconds since the epoch, for tests that hold the clock.
    """

    def __init__(
        self,
        client: Client,
        lane: int,
        tenant: str = flows.NO_TENANT,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._client, self._lane, self._tenant = client, lane, tenant
        self._run = Scripts(client.store, client.keys, clock)
        self._leases = Leases.of(client.configured, client.fleet.worker)
        self._refused = RefusedCalls(
            client.configured.backoff_base_s,
            client.configured.backoff_cap_s,
            clock or (lambda: now_ns() // 1000),
        )
        self._process = secrets.token_urlsafe(6)
        self._permits = itertools.count(1)
        #: What the script answers that lacks something → what mends it, before it is asked again.
        self._mends = {"FLOW": self._define, "SWEEP": self._sweep, "CLOCK": self._follow_clock}

    def acquire(self, route: str, wait_s: float, fingerprint: str = "") -> Permit | float:
        """Ask once whether a call ("POST /lists") may leave now.

        Args:
            route: Method and path.
            wait_s: How long the caller would still wait.
            fingerprint: A digest of the request, by which it is known again where it is refused.

        Returns:
            A permit, or the seconds after which to ask again.

        Raises:
            CircuitOpen: a breaker is open, and this call may not be its probe: at once, however
                long the caller would wait.
            Throttled: a limit, a pause or its own 429 holds the call for longer than that.
            StoreAway: the store gives no answer; nothing may leave.
            ConfigError: the client's ledger is bound to another account.
        """
        self._client.require_bound()
        asked_ns = now_ns()
        name = f"permit.{self._process}.{next(self._permits)}"
        flow = self._flow(route)
        if fingerprint and (own_s := self._refused.left_s(flow, fingerprint)) > 0:
            self.require_closed(route)
            return self._wait(own_s, wait_s, "this call was answered 429, and waits")
        reply = self._ask(name, flow)
        while mend := self._mends.get(reply[0]):
            mend(route)
            reply = self._ask(name, flow)
        if reply[0] == "GO":
            _, start_us, spread_us, number = reply
            stale_at_ns = self._leases.stale_at_ns(asked_ns, start_us, spread_us)
            return Permit(name, start_us / 1e6, stale_at_ns, number, flow, fingerprint)
        left_s: float = reply[1] / 1e6
        if reply[0] == "OPEN":
            raise self._open(left_s)
        least, most = ASK_EVERY_S
        return min(max(self._wait(left_s, wait_s, "no token for"), least), most, wait_s)

    def _wait(self, left_s: float, wait_s: float, why: str) -> float:
        """The seconds that a call waits, if it would wait so long."""
        if left_s > wait_s or wait_s <= 0:
            raise Throttled(f"client {self._client.name}: {why} another {left_s:.1f} s", left_s)
        return left_s

    def require_closed(self, route: str) -> None:
        """Make sure that no breaker holds a call, before anything is done for it.

        Raises:
            CircuitOpen: a breaker is open, and it is not yet the turn of a probe.
            StoreAway: the store gives no answer; nothing may leave.
        """
        left_us: int = self._run("breaker_left", self._flow(route))
        if left_us > 0:
            raise self._open(left_us / 1e6)

    def report_unreachable(self, route: str, why: str) -> None:
        """Say that no connection came about: where a breaker is open, that was its probe.

        Where none is open, nothing is said: what keeps one host from the provider holds no other.
        """
        with suppress(NotNow, LedgerDamaged):  # another call is the probe, or the store is away
            if self._run("breaker_left", self._flow(route)) == 0:
                permit = self.acquire(route, 0)
                if isinstance(permit, Permit):
                    self.release(permit, "bad", why=why)

    def _open(self, left_s: float) -> CircuitOpen:
        name = self._client.name
        return CircuitOpen(f"client {name}: a breaker is open, another {left_s:.1f} s", left_s)

    def release(
        self,
        permit: Permit,
        came_to: Literal["good", "bad", "neutral", "refused", "unsent"] | Health,
        *,
        pause_s: float = 0.0,
        why: str = "",
        quota: Feedback | None = None,
    ) -> None:
        """Say what the call came to; must be called once for each permit.

        The caller has its answer, so a store that is away raises nothing: the permit is taken back
        when its lease is over, as that of a process that died.

        Args:
            permit: What `acquire` gave.
            came_to: What the answer says of the provider, "refused" of a 429, "unsent".
            pause_s: How long nothing may leave for what was refused; of any other answer the wait
                that it orders, before which no probe of a breaker goes.
            why: The reason of such a pause, or what went wrong, one sentence for people.
            quota: What the answer's headers leave.
        """
        wait_us = round(pause_s * 1e6)
        pause_us, ordered_us = (wait_us, 0) if came_to == "refused" else (0, wait_us)
        left = (quota.remaining, round(quota.reset_s * 1e6)) if quota else ("", 0)
        result, request = (came_to, pause_us, why[:MAX_TEXT]), (permit.number, permit.fingerprint)
        word = ""
        with suppress(*STORE_FAILS):
            word = self._run("release", permit.name, *result, *left, ordered_us, *request)
        names = (permit.fingerprint, permit.flow) if permit.fingerprint else ()
        if came_to == "good":
            self._refused.forget(*names)
        elif came_to == "refused":
            self._refused.refuse(pause_s, *(names[:1] if word == "REQUEST" else names))

    def _ask(self, name: str, flow: str) -> Any:  # noqa: ANN401 -- the script's reply
        return self._run("acquire", name, flow, self._leases.call_us, round(TOKEN_KEPT_S * 1e6))

    def _sweep(self, _route: str) -> None:
        """Free what has expired: where no worker runs nobody else does."""
        self._run("sweep", self._client.fleet.worker.max_crashes, SWEEP_AT_ONCE)

    def _follow_clock(self, _route: str) -> None:
        """Move all moments along with the store's clock, which was set back."""
        self._run("clock_rollback")

    def _flow(self, route: str) -> str:
        return self._client.flow(self._lane, self._tenant, route).id

    def _define(self, route: str) -> None:
        version, settings = self._client.look()
        flow = self._client.flow(self._lane, self._tenant, route, settings)
        flows.define(
            self._client.store, self._client.keys, version, {flow.id: flow.definition(settings)}
        )
