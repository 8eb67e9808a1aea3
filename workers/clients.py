"""All that one process holds of a client: its quota, its ledger, its connections, its token."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from workers.auth.credentials import NoCredentials, StaticSecret
from workers.auth.tokens import Tokens
from workers.governor import flows, overrides
from workers.governor.governor import Governor
from workers.governor.refusals import Refusals
from workers.http.connection import Caller, pool_size
from workers.http.transfer import Transfers
from workers.ledger import identity
from workers.ledger.ledger import Ledger
from workers.settings.load import load
from workers.store.connection import open_store
from workers.store.keys import ClientKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.auth.credentials import Credentials
    from workers.settings.client import ClientSettings
    from workers.settings.load import Settings
    from workers.store.connection import Store


@dataclass
class Client:
    """One client in this process; what is not used is not opened."""

    configured: ClientSettings
    fleet: Settings
    store: Store
    _seen: tuple[int, ClientSettings] | None = None

    @property
    def name(self) -> str:
        """The client's name in the configuration."""
        return self.configured.name

    @property
    def settings(self) -> ClientSettings:
        """Its settings, with the limits that held at the last look."""
        return (self._seen or self.look())[1]

    def look(self) -> tuple[int, ClientSettings]:
        """Look for limits that were set live; returns their version, and what holds now.

        Raises:
            ConfigError: they do not go together with the configuration.
        """
        live = overrides.read(self.store, self.keys)
        self._seen = (live.version, live.over(self.configured))
        return self._seen

    @cached_property
    def keys(self) -> ClientKeys:
        """Its names in the store."""
        return ClientKeys(self.fleet.store.namespace, self.configured.name)

    @cached_property
    def routes(self) -> set[str]:
        """The routes of its flows, brought under the limits as they are now."""
        return flows.refresh(self.store, self.keys, self.configured)

    @cached_property
    def governor(self) -> Governor:
        """Its quota and its line."""
        self.routes  # noqa: B018 -- the flows follow the configuration from the first ring on
        return Governor(self.store, self.keys, self.settings, self.fleet.worker)

    @cached_property
    def ledger(self) -> Ledger:
        """Its jobs and transactions."""
        return Ledger(self.store, self.keys)

    @cached_property
    def caller(self) -> Caller:
        """Its connections to the provider."""
        size = pool_size(self.fleet.worker.concurrency, self.settings.max_retries)
        return Caller(self.settings, size)

    @cached_property
    def transfers(self) -> Transfers:
        """Its connections to the hosts of signed URLs: a pool of their own."""
        return Transfers(self.settings, self.fleet.worker.concurrency)

    @cached_property
    def tokens(self) -> Credentials:
        """What its calls carry."""
        it = self.settings
        if it.auth == "none":
            return NoCredentials()
        if it.auth in {"bearer", "api_key"}:
            return StaticSecret(it)
        return Tokens(it, self.store, self.keys)

    def warm_up(self) -> None:
        """Open what the first call would wait for, above all its access token.

        Raises:
            HeadgateError: the first call will say so too.
        """
        self.governor, self.ledger, self.refusals  # noqa: B018 -- opened by being asked for
        with self.caller.connection():
            self.tokens.get()

    @cached_property
    def refusals(self) -> Refusals:
        """Its record of answers of 429."""
        return Refusals(self.store, self.keys)

    @cached_property
    def secret(self) -> bytes:
        """The secret from which its idempotency keys are derived."""
        return identity.installation_secret(self.store, self.fleet.store.namespace)

    def key(self, job: str, row: str, generation: int = 1) -> str:
        """The idempotency key of a row; its first one is the name of its transaction."""
        return identity.idempotency_key(self.secret, self.name, job, row, generation)


class Clients:
    """The clients of one configuration, opened when they are first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._open: dict[str, Client] = {}
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> Client:
        """The client of this name; `ConfigError` when there is none, `StoreAway` when no store."""
        client = self._open.get(name)
        if client is None:
            with self._lock:
                client = self._open.get(name) or Client(
                    self.settings.client(name), self.settings, open_store(self.settings.store)
                )
                self._open[name] = client
        return client

    def names(self) -> list[str]:
        """The names of all configured clients."""
        return list(self.settings.clients)


@dataclass
class _Source:
    """Where this process has its settings from."""

    read: Callable[[], Settings] = load


_source = _Source()


def use_settings(read: Callable[[], Settings]) -> None:
    """Let `clients()` read its settings in this way, here and in processes forked from this one."""
    _source.read = read
    _clients.cache_clear()


def clients(config: str | None = None) -> Clients:
    """The clients of a configuration in this process.

    None stands for what `use_settings` named, else for HEADGATE_CONFIG or ./headgate.toml.
    """
    return _clients(os.getpid(), config)


@cache
def _clients(process: int, config: str | None) -> Clients:
    """A process that was forked from another one has connections of its own."""
    del process
    return Clients(load(config) if config else _source.read())
