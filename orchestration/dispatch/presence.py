"""What a worker process says of itself: its heartbeat, and the limits that it proposes."""

from __future__ import annotations

import logging
import os
import platform
import time
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from orchestration.dispatch.restarts import restarts
from workers.broker.reception import reception
from workers.clients import Clients
from workers.errors import HeadgateError, LedgerDamaged
from workers.governor import agreement, binding
from workers.governor.agreement_of_all import AgreementOfAll
from workers.governor.proposals import Proposal
from workers.governor.registry import EVERY_S, WORKER_ID, Process, Registry
from workers.store.connection import connect, open_store, url_of
from workers.store.keys import ClientKeys
from workers.store.many import ManyScripts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.settings.load import Settings

#: Seconds within which the store must answer to a supervisor, which has to look at its worker.
REPORT_TIMEOUT_S: Final = 1.0

#: Clients that are left out at one time of which each has a line of its own in the log.
MOST_LOGGED: Final = 10

_logger = logging.getLogger(__name__)


class Presence:
    """This process in the registry of its namespace.

    Args:
        clients: Its configuration.
        name: That it was given; what follows "@" is its host.
        threads: How many steps it can do at once.
        pool: What its threads do, one of `flows.POOLS`.
        worker_id: Its own in the registry.
    """

    def __init__(
        self, clients: Clients, name: str, *, threads: int, pool: str, worker_id: str = WORKER_ID
    ) -> None:
        self._clients = clients
        self.process = describe_process(clients, name, threads=threads, pool=pool, id_=worker_id)
        self._due_s = 0.0
        self._live = frozenset({worker_id})
        self._seen: object = None  #: whose proposals counted when all clients were agreed on
        self._serial = 0
        self._before: Process | None = None  #: its own entry before the newest heartbeat
        self._left_out: dict[str, HeadgateError] = {}  #: client → why its limits were not agreed on

    def keep(self, *, now: bool = False) -> None:
        """Write the heartbeat when it is due, and let the limits hold that follow from all others.

        Args:
            now: It is due in any case.

        Raises:
            HeadgateError: there was none, and nothing may be rung before the next one.
        """
        if time.monotonic() < self._due_s and not now:
            return
        if not self._clients.installation_id:  # it may be no worker of this store
            self._clients.open_installation()
        look = self._registry.look()
        ringing = (one.id for one in look.live.values() if one.works and not one.takes_none)
        self._live = frozenset(ringing) | {self.process.id}
        own = look.live.get(self.process.id)
        joins = own is None or own.digest != self.process.digest or not self._serial
        if joins:
            self._serial = self._registry.serial_of(self._clients.configuration)
        self._before = own
        self.process = replace(
            self.process,
            installation=self._clients.installation_id,
            obstacles=self._clients.obstacles.sentences(),
            agreed=not joins and not self._left_out,
            trouble=restarts.trouble,
            takes_none=reception.why,
        )
        self._registry.write(self.process, look)
        seen = (look.digests | {self.process.digest}, look.applied)
        if joins or seen != self._seen:
            self._agree(self._clients.names(), joins=joins)
            self._seen = seen
        elif self._left_out:
            self._agree([*self._left_out], joins=True)
        self._due_s = time.monotonic() + EVERY_S

    @property
    def live(self) -> frozenset[str]:
        """The ids of the processes that could ring at the newest heartbeat, and of this one."""
        return self._live

    def end(self) -> None:
        """End the entry: what only this process proposed holds no longer."""
        try:
            self._registry.remove(self.process)
        except HeadgateError as error:
            _logger.warning("the registry still has this worker for some seconds: %s", error)

    def require_agreed(self, client: str) -> None:
        """Raise why the limits of a client were not agreed on, if they were not."""
        if error := self._left_out.get(client):
            raise error

    @cached_property
    def _registry(self) -> Registry:
        store = self._clients.settings.store
        return Registry(open_store(store), store.namespace)

    def _agree(self, names: Sequence[str], *, joins: bool) -> None:
        """Decide with all others which limits hold; a client that is refused stops no other one."""
        errors: Mapping[str, Exception]
        try:
            errors = self._agree_on(names, joins=joins)
        except HeadgateError as error:
            errors = dict.fromkeys(names, error)
        before = {*self._left_out}
        for name in names:
            if name in errors:
                self._left_out[name] = self._explain(name, errors[name])
            else:
                self._left_out.pop(name, None)
        newly = [name for name in self._left_out if name not in before]
        for name in newly[:MOST_LOGGED]:  # one without work would be told of at its first row
            _logger.warning("client %s is not rung for now: %s", name, self._left_out[name])
        if len(newly) > MOST_LOGGED:
            _logger.warning("%d more clients are not rung for now", len(newly) - MOST_LOGGED)

    def _agree_on(self, names: Sequence[str], *, joins: bool) -> Mapping[str, Exception]:
        """Agree on the limits of these clients; returns why not, by name."""
        installation, settings = self._clients.open_installation(), self._clients.settings
        clients = {
            ClientKeys(settings.store.namespace, name): settings.client(name) for name in names
        }
        run = ManyScripts(installation.store, installation.find_marks)
        refused = binding.bind_all(installation.store, run, clients)
        bound = {keys: client for keys, client in clients.items() if keys not in refused}

        def party_of(name: str) -> agreement.Party:
            return agreement.Party(
                own=Proposal.of(settings.client(name), self.process.digest, self._serial),
                joins=joins or name in self._left_out,
                by=f"worker {self.process.title}",
            )

        everybody = AgreementOfAll(installation.store, run, self._stand, party_of)
        errors = {**refused, **everybody.reach(bound)}
        return {keys.client: error for keys, error in errors.items()}

    def _explain(self, name: str, error: Exception) -> HeadgateError:
        """Why a client is left out; what is stored of it may be damaged in any way."""
        if isinstance(error, HeadgateError):
            return error
        if name not in self._left_out:
            _logger.error("client %s: its limits were not agreed on", name, exc_info=error)
        why = f"its limits cannot be agreed on ({type(error).__name__})"
        return LedgerDamaged(f"{why}; headgate doctor looks at the ledger")

    def _stand(self) -> agreement.Standing:
        look = self._registry.look()
        joined = set(look.joined)
        # What stood in the place of this process before may be the one that it was before a
        # restart. It must have lived until the heartbeat of this one was there.
        if self._before and self._before.agreed and self._before.is_live(look.now_us):
            joined.add(self._before.digest)
        return agreement.Standing(
            live=look.digests | {self.process.digest}, applied=look.applied, joined=joined
        )


def describe_process(
    clients: Clients, name: str, *, threads: int, pool: str, id_: str = WORKER_ID
) -> Process:
    """This process, as the registry has it; the arguments are those of `Presence`."""
    node, _, host = name.partition("@")
    return Process(
        id=id_,
        name=node,
        host=host or platform.node(),
        pid=os.getpid(),
        pool=pool,
        threads=threads,
        digest=clients.configuration.digest,
        release=version("headgate"),
    )


def report_failing(settings: Settings, name: str, pool: str, why: str) -> None:
    """Enter a worker that cannot work into the registry, in the place of its own heartbeat.

    Its supervisor does so, and keeps no connection. Nobody is told where the store is away.

    Args:
        settings: With which the supervisor was started.
        name: Of the worker.
        pool: What its threads would do.
        why: One sentence.
    """
    try:
        process = describe_process(Clients(settings), name, threads=0, pool=pool)
        with connect(url_of(settings.store), timeout_s=REPORT_TIMEOUT_S) as store:
            registry = Registry(store, settings.store.namespace)
            registry.write(replace(process, works=False, trouble=why), registry.look())
    except HeadgateError as error:
        _logger.warning("nobody is told that this worker cannot work: %s", error)
