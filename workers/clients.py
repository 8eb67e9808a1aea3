"""One client in this process, wired together: its quota, its ledger, its connections, its token."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from workers.answer.judging import RetryPolicy
from workers.auth.tokens import credentials_of
from workers.governor import agreement, binding, flows, overrides
from workers.governor.governor import Governor, requeue
from workers.governor.grants import ANYBODY, PLAIN
from workers.governor.obstacle import Obstacle, Obstacles
from workers.governor.refusals import Refusals
from workers.governor.registry import Configuration, Registry
from workers.http.connection import Caller, Connection, pool_size
from workers.http.idle import IdleConnections, most_idle
from workers.http.transfer import Transfers
from workers.ledger.cache import LedgerCache
from workers.ledger.identity import idempotency_key
from workers.ledger.installation import Installation
from workers.ledger.ledger import Ledger
from workers.settings.load import load
from workers.store.connection import open_store
from workers.store.keys import ClientKeys
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workers.auth.credentials import Credentials
    from workers.governor.flows import Flow
    from workers.governor.grants import Asker, Hindrance, PutBack
    from workers.governor.overrides import Agreement, Overrides
    from workers.settings.client import ClientSettings
    from workers.settings.load import Settings
    from workers.store.connection import Store

_Built = TypeVar("_Built")


@dataclass
class Client:
    """One client in this process; what is not used is not opened.

    A property only names something. A method may ask the store, read files or build connections:
    at its first call, and never again, except for `look`.
    """

    configured: ClientSettings
    fleet: Settings
    store: Store
    #: Microseconds since the epoch, for tests that hold the clock; None = the store's.
    clock: Callable[[], int] | None = None
    #: What all clients of a process share; None: it has its own.
    cache: LedgerCache | None = field(default=None, repr=False)
    idle: IdleConnections[Connection] | None = field(default=None, repr=False)
    _seen: tuple[int, ClientSettings] | None = field(default=None, init=False)
    _bound_until_s: float = field(default=0.0, init=False)
    _built: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _building: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    @property
    def name(self) -> str:
        """The client's name in the configuration."""
        return self.configured.name

    @cached_property
    def keys(self) -> ClientKeys:
        """Its names in the store."""
        return ClientKeys(
            self.fleet.store.namespace, self.configured.name, self.installation.find_mark
        )

    @cached_property
    def installation(self) -> Installation:
        """The installation to which the client belongs; `Clients` gives all of them the same."""
        return Installation(self.store, self.fleet.store)

    @cached_property
    def obstacle(self) -> Obstacle:
        """What keeps this process alone from its calls; `Clients` knows it before it is opened."""
        return Obstacle(self.configured.name)

    @cached_property
    def configuration(self) -> Configuration:
        """The configuration that it is of; `Clients` gives all of its clients the same."""
        return Configuration.of({**self.fleet.clients, self.name: self.configured})

    @cached_property
    def scripts(self) -> Scripts:
        """Its scripts: they ask for its mark once."""
        return Scripts(self.store, self.keys, self.clock)

    @cached_property
    def ledger(self) -> Ledger:
        """Its jobs and transactions."""
        return Ledger(self.store, self.keys, self.clock, self.cache)

    @cached_property
    def retry_policy(self) -> RetryPolicy:
        """How its calls are tried again."""
        return RetryPolicy.of(self.configured, self.fleet.worker)

    @cached_property
    def refusals(self) -> Refusals:
        """Its record of answers of 429."""
        return Refusals(self.store, self.keys)

    def look(self) -> tuple[int, ClientSettings]:
        """Look which limits hold now: agreed, and set live; returns their version, and them.

        Raises:
            ConfigError: they do not go together with the configuration.
            StoreAway: the store did not answer.
        """
        live = overrides.read(self.store, self.keys)
        self._seen = (live.version, live.over(self.configured))
        return self._seen

    def settings(self) -> ClientSettings:
        """Its settings, with the limits that held at the last look; raises as `look`."""
        return (self._seen or self.look())[1]

    def routes(self) -> set[str]:
        """The routes of its flows, which the first call brings under the limits of now.

        Raises:
            ConfigError: limits that were set live do not go together with the configuration.
            StoreAway: the store did not answer.
        """
        return self._build_once("routes", self._build_routes)

    def _build_routes(self) -> set[str]:
        of = (self.store, self.keys, self.configured)
        return flows.refresh(*of, self._propose, clock=self.clock)

    def _propose(self, live: Overrides) -> Sequence[Agreement]:
        """Propose its own limits where no worker lives, and where nothing was proposed yet."""
        registry = Registry(self.store, self.keys.namespace)
        look = registry.look()
        if live.proposals and look.live:
            return ()
        registry.keep_away(look)
        self.require_bound()
        return agreement.propose_alone(registry, look, self.configured, self.configuration)(live)

    def require_bound(self) -> None:
        """Make sure that its ledger is bound to the account that it is configured for.

        Raises:
            ConfigError: it is bound to another one.
            StoreAway: the store did not answer.
        """
        if time.monotonic() >= self._bound_until_s:
            binding.bind(self.scripts, self.configured)
            self._bound_until_s = time.monotonic() + binding.CHECK_EVERY_S

    def governor(self) -> Governor:
        """Its quota and its backlog; its flows follow the configuration from now on.

        Raises:
            ConfigError: as `routes`.
            StoreAway: as `routes`.
        """
        return self._build_once("governor", self._build_governor)

    def _build_governor(self) -> Governor:
        self.routes()
        governor = Governor(self.store, self.keys, self.settings(), self.fleet.worker, self.clock)
        governor.share_recent(len(self.fleet.clients))
        return governor

    def caller(self) -> Caller:
        """Its connections to the provider; raises `ConfigError` where there is no way to it."""
        return self._build_once("caller", self._build_caller)

    def _build_caller(self) -> Caller:
        settings = self.settings()
        most = pool_size(self.fleet.worker.concurrency, settings.max_retries)
        return Caller(settings, most, idle=self.idle)

    def transfers(self) -> Transfers:
        """Its connections to the hosts of signed URLs: a pool of their own."""
        threads = self.fleet.worker.concurrency
        return self._build_once("transfers", lambda: Transfers(self.settings(), threads, self.idle))

    def tokens(self) -> Credentials:
        """What its calls carry; raises `ConfigError` where there is no way to a token."""
        return self._build_once(
            "tokens", lambda: credentials_of(self.settings(), self.store, self.keys)
        )

    def warm_up(self) -> None:
        """Open what the first call would wait for, above all its access token.

        Raises:
            HeadgateError: the first call will raise it too.
        """
        self.require_bound()
        self.governor()
        with self.caller().connection():
            self.tokens().get()

    def put_back(
        self, key: str, step: int, hindrance: Hindrance = PLAIN, asker: Asker = ANYBODY
    ) -> PutBack:
        """Put a bell back, as `Governor.requeue`, though limits may not go together here."""
        return requeue(self.scripts, key, step, hindrance, asker)

    def flow(
        self, lane: int, tenant: str, route: str, settings: ClientSettings | None = None
    ) -> Flow:
        """The flow of a call ("POST /api/v2/…"); beyond `flows.MOST_ROUTES` routes share one.

        Args:
            lane: See `flows.LANES`.
            tenant: Who sends, or `flows.NO_TENANT`.
            route: Method and path.
            settings: The limits that hold now; None: those of the last look.
        """
        now = settings or self.settings()
        return flows.coarse(flows.flow(now, lane, tenant, route), self.routes())

    def key(self, job: str, row: str, generation: int = 1) -> str:
        """The idempotency key of a row; its first one is the name of its transaction.

        Raises:
            StoreAway: the store did not give the secret from which keys are derived.
            StoreReplaced: it is not the store of this installation.
        """
        return idempotency_key(self.installation.secret(), self.name, job, row, generation)

    def _build_once(self, name: str, build: Callable[[], _Built]) -> _Built:
        """What `build` returns, called once in this process for each name, by one thread."""
        if name not in self._built:
            with self._building:
                if name not in self._built:
                    self._built[name] = build()
        built: _Built = self._built[name]
        return built


class Clients:
    """The clients of one configuration, opened when they are first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._by_name: dict[str, Client] = {}
        self.obstacles = Obstacles()
        self.idle = IdleConnections[Connection](most_idle(settings.worker.concurrency))
        self._cache = LedgerCache()
        self._installation: Installation | None = None
        self._lock = threading.RLock()

    @cached_property
    def configuration(self) -> Configuration:
        """What the registry knows of this configuration, without its serial."""
        return Configuration.of(self.settings.clients)

    def __getitem__(self, name: str) -> Client:
        """The client of this name.

        Raises:
            ConfigError: there is none, or the store holds data of another schema.
            StoreAway: the store does not answer, or is not that of this installation.
        """
        client = self._by_name.get(name)
        if client is None:
            with self._lock:
                client = self._by_name.get(name) or self._open_client(name)
                self._by_name[name] = client
        return client

    def _open_client(self, name: str) -> Client:
        configured, installation = self.settings.client(name), self.open_installation()
        store = installation.store
        client = Client(configured, self.settings, store, cache=self._cache, idle=self.idle)
        client.installation, client.configuration = installation, self.configuration
        client.obstacle = self.obstacles[name]
        return client

    def open_installation(self) -> Installation:
        """The installation, and in it the store, after a look at both; raises as `__getitem__`."""
        store = self.settings.store
        with self._lock:
            self._installation = self._installation or Installation(open_store(store), store)
            self._installation.check()
            return self._installation

    @property
    def installation_id(self) -> str:
        """The id of the installation that this process works for; "" = it does not know yet."""
        return self._installation.id if self._installation else ""

    def sender(self, name: str, tenant: str) -> tuple[Client, str]:
        """Who sends for a tenant of the client `name`: a client, and the tenant's name there.

        A tenant with credentials of its own sends through a client of its own, of which it is no
        tenant.

        Raises:
            ConfigError: there is no such client.
            StoreAway: the store does not answer.
        """
        client = self[name]
        own = client.settings().client_of(tenant)
        return (self[own], flows.NO_TENANT) if own else (client, tenant)

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
    """Open them once a process: one that was forked from another has connections of its own."""
    del process
    return Clients(load(config) if config else _source.read())
