"""All that one process holds of a client: its quota, its ledger, its connections, its token."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from workers import flows, identity
from workers.governor import Governor
from workers.http import Caller, pool_size
from workers.keys import ClientKeys
from workers.ledger import Ledger
from workers.oauth import Tokens
from workers.store import open_store

if TYPE_CHECKING:
    from workers.client_settings import ClientSettings
    from workers.settings import Settings
    from workers.store import Store


@dataclass
class Client:
    """One client in this process; what is not used is not opened."""

    settings: ClientSettings
    fleet: Settings
    store: Store

    @property
    def name(self) -> str:
        """The client's name in the configuration."""
        return self.settings.name

    @cached_property
    def keys(self) -> ClientKeys:
        """Its names in the store."""
        return ClientKeys(self.fleet.store.namespace, self.settings.name)

    @cached_property
    def routes(self) -> set[str]:
        """The routes of its flows, brought under the configuration as it is now."""
        return flows.refresh(self.store, self.keys, self.settings)

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
    def tokens(self) -> Tokens:
        """Its access token."""
        return Tokens(self.settings, self.store, self.keys)

    @cached_property
    def secret(self) -> bytes:
        """The secret from which its idempotency keys are derived."""
        return identity.installation_secret(self.store, self.fleet.store.namespace)

    def key(self, job: str, row: str) -> str:
        """The idempotency key of a row."""
        return identity.idempotency_key(self.secret, self.name, job, row)


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
