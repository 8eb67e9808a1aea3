"""The state of the provider: what it was ordered to do, and what it remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestration.sandbox.determinism import Clock, SeededRandom
from orchestration.sandbox.faults import FaultBook, StormInForce
from orchestration.sandbox.idempotency import KeyStore
from orchestration.sandbox.journal import JournalEntry
from orchestration.sandbox.oauth import OPEN_PATHS, OAuth
from orchestration.sandbox.platforms import Platforms
from orchestration.sandbox.quota import QuotaEnforcer

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestration.sandbox.calls import Call, Reply
    from orchestration.sandbox.config import Config, Storm
    from orchestration.sandbox.journal import Journal


class Provider:
    """One provider: its configuration, clock, journal, tokens, keys, limits, faults, platforms."""

    def __init__(self, config: Config, journal: Journal, transfer_port: int = 0) -> None:
        self.config = config
        self.journal = journal
        self.transfer_port = transfer_port  #: where the signed URLs lead to
        self.clock = Clock()
        self.oauth = OAuth()
        self.max_lag_us = 0  #: longest time that this process kept arrivals waiting
        self.in_flight = 0  #: calls that wait for their latency or are broken off slowly
        #: closes the port of the API for so many seconds; None where nobody listens
        self.close_port: Callable[[float], None] | None = None
        self._start_empty()

    def _start_empty(self) -> None:
        self.keys = KeyStore()
        self.platforms = Platforms(self.transfer_port)
        self.quota = QuotaEnforcer(self.config.limits)
        self.faults = FaultBook(self.config.faults, self.clock.real_us())
        self.storm: StormInForce | None = None
        self._random = SeededRandom(self.config.seed)

    def reset(self) -> None:
        """Forget effects, keys, entities and counters; tokens, clock and configuration stay."""
        self.journal.clear()
        self._start_empty()

    def apply(self, config: Config) -> None:
        """Take a configuration; the state of limits that it does not change stays."""
        before, self.config = self.config, config
        if config.limits != before.limits:
            self.quota = QuotaEnforcer(config.limits)
        if config.seed != before.seed:
            self._random = SeededRandom(config.seed)

    def set_faults(self, config: Config) -> None:
        """Take a configuration's faults, with their counters at zero."""
        self.config = config
        self.faults = FaultBook(config.faults, self.clock.real_us())

    def start_storm(self, storm: Storm) -> None:
        """Let a storm begin now, in place of the last one."""
        self.storm = StormInForce(storm, self.clock.real_us())

    def draw_latency_s(self) -> float:
        """Return how many seconds the next call waits for its effect."""
        spread = self.config.latency_sigma
        factor = self._random.lognormvariate(0.0, spread) if spread else 1.0
        return self.config.latency_ms * factor / 1000

    def record(self, call: Call, reply: Reply) -> None:
        """Put a call and what became of it into the journal; the call is out of work."""
        call.release_permits()
        self.journal.add(
            JournalEntry(
                t_us=call.t_us,
                client=call.client,
                method=call.method,
                path=call.path,
                key=call.key,
                status=reply.status,
                kind="token" if call.path in OPEN_PATHS else reply.kind,
                fault=call.fault,
                created=reply.created,
                updated=reply.updated,
                repeated=reply.repeated,
                queued=reply.queued,
                work_us=self.clock.real_us() - call.t_us,
                refused_by=call.refused_by,
                ahead_us=call.ahead_us,
                host=call.host,
                md5=reply.md5,
                size=reply.size,
            )
        )
