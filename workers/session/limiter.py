"""The governor's entry for calls that are no jobs: the same limits, pauses and breaker, no line."""

from __future__ import annotations

import itertools
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.answer.verdict import MAX_TEXT
from workers.clock import now_ns
from workers.errors import CircuitOpen, StoreAway, Throttled
from workers.governor import flows
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from workers.answer.quota_headers import Feedback
    from workers.clients import Client

#: How long the next tokens are left to a guest: until it asks again, and a little longer.
KEEP_S: Final = 0.2
#: Between two questions of a guest that must wait, at least and at most.
ASK_S: Final = (0.005, 0.1)


@dataclass(frozen=True, slots=True)
class Entry:
    """A grant for one call; `Gate.leave` must follow."""

    guest: str
    start_in_s: float  #: wait this long first; 0 but for limits with a lead
    stale_at_ns: int  #: by `clock.now_ns`: later than this it is not used


class Gate:
    """One client's quota for calls from outside of jobs.

    A guest does not stand in the line: the next token of its limits is left to it. Its lane decides
    whether it may take the reserve (urgent), its tenant which caps it is charged to.

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
        settings, worker = client.configured, client.fleet.worker
        lease_s = settings.total_timeout_s + settings.connect_timeout_s + worker.lease_margin_s
        self._lease_us = round(lease_s * 1e6)
        self._margin_us = round(worker.lease_margin_s * 1e6)
        self._process = secrets.token_urlsafe(6)
        self._guests = itertools.count(1)

    def enter(self, route: str, wait_s: float) -> Entry | float:
        """Ask once whether a call ("POST /lists") may leave now.

        Args:
            route: Method and path.
            wait_s: How long the caller would still wait.

        Returns:
            A grant, or the seconds after which to ask again.

        Raises:
            CircuitOpen: the breaker is open for longer than that.
            Throttled: a limit or a pause holds the call for longer than that.
            StoreAway: the store gives no answer; nothing may leave.
        """
        asked_ns = now_ns()
        guest = f"guest.{self._process}.{next(self._guests)}"
        flow = self._flow(route)
        reply = self._run("enter", guest, flow, self._lease_us, round(KEEP_S * 1e6))
        while reply[0] == "FLOW":
            self._define(route)
            reply = self._run("enter", guest, flow, self._lease_us, round(KEEP_S * 1e6))
        if reply[0] == "GO":
            _, start_us, spread_us = reply
            stale_us = min(start_us + spread_us, self._margin_us)
            return Entry(guest, start_us / 1e6, asked_ns + stale_us * 1000)
        left_s: float = reply[1] / 1e6
        if left_s > wait_s or wait_s <= 0:
            name = self._client.name
            if reply[0] == "OPEN":
                raise CircuitOpen(
                    f"client {name}: the breaker is open, another {left_s:.1f} s", left_s
                )
            raise Throttled(f"client {name}: no token for another {left_s:.1f} s", left_s)
        least, most = ASK_S
        return min(max(left_s, least), most, wait_s)

    def leave(
        self,
        entry: Entry,
        came_to: Literal["answered", "refused", "none", "unsent"],
        *,
        pause_s: float = 0.0,
        why: str = "",
        quota: Feedback | None = None,
    ) -> None:
        """Say what the call came to; must be said once for each entry.

        The caller has its answer, so a store that is away raises nothing: the entry is taken back
        when its lease is over, as that of a guest that died.

        Args:
            entry: The grant.
            came_to: Refused is a 429, none an unknown outcome.
            pause_s: How long nothing may leave for what was refused.
            why: The reason of such a pause, one sentence for people.
            quota: What the answer's headers leave.
        """
        left = (quota.remaining, round(quota.reset_s * 1e6)) if quota else ("", 0)
        with suppress(StoreAway):
            self._run("leave", entry.guest, came_to, round(pause_s * 1e6), why[:MAX_TEXT], *left)

    def _flow(self, route: str) -> str:
        return self._client.flow(self._lane, self._tenant, route).id

    def _define(self, route: str) -> None:
        version, settings = self._client.look()
        flow = self._client.flow(self._lane, self._tenant, route, settings)
        flows.define(
            self._client.store, self._client.keys, version, {flow.id: flow.definition(settings)}
        )
