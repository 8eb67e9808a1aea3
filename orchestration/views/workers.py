"""The live worker processes as a client sees them: who serves it, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from workers.errors import HeadgateError
from workers.governor import binding, overrides
from workers.governor.registry import LIVES_S, Process, Registry
from workers.store.connection import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workers.clients import Client, Clients
    from workers.governor.registry import Configuration, Look
    from workers.store.connection import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who lives, for one client."""

    serving: Sequence[Process]  #: those that ring for it
    problems: list[str]  #: what a person must know of the others, one sentence each
    hindered: int = 0  #: processes that know the client, and make none of its calls

    def threads(self, pool: str) -> list[int]:
        """The threads of each process of a pool that serves the client."""
        return [process.threads for process in self.serving if process.pool == pool]


@dataclass(frozen=True, slots=True)
class Roster:
    """Who lives at one moment, and with which configuration: read once for many clients."""

    look: Look
    configurations: Mapping[str, Configuration]

    @classmethod
    def of(cls, store: Store, namespace: str) -> Self:
        """Read it; raises `StoreAway`."""
        registry = Registry(store, namespace)
        return cls(registry.look(), registry.configurations())


def workers_of(client: Client, roster: Roster | None = None) -> Workers:
    """The live workers of a client, by their newest heartbeats.

    Args:
        client: The client.
        roster: The workers, where several clients are looked at.
    """
    roster = roster or Roster.of(client.store, client.keys.namespace)
    look, known = roster.look, roster.configurations
    outdated, strangers, refused, serving, hindered = (list[Process]() for _ in range(5))
    values = binding.stored(client.store, client.keys)
    bound = binding.digest_of(values) if values else None
    for process in sorted(look.live.values(), key=lambda one: (one.name, one.host, one.pid)):
        if process.installation and process.installation != client.installation.id:
            outdated.append(process)
            continue
        configuration = known.get(process.digest)  # an entry of old may be forgotten
        own = configuration.clients.get(client.name) if configuration else bound
        group = strangers if own is None and configuration else serving
        if own and bound and own != bound:
            group = refused
        elif process.takes_none or client.name in process.obstacles or not process.works:
            group = hindered
        group.append(process)
    problems = [*_differences(client, look), *_troubles(client.name, [*hindered, *serving])]
    if outdated:
        problems.append(
            f"{_titles(outdated)} works for the installation that this store had before, and does "
            f"nothing; start it again"
        )
    if strangers:
        problems.append(
            f"{_titles(strangers)} has no client {client.name} in its configuration, and does "
            f"nothing for it; start it again with the configuration of today"
        )
    if refused:
        problems.append(
            f"{_titles(refused)} has another account for client {client.name} than its ledger is "
            f"bound to, and does nothing for it; correct its configuration, or bind the client "
            f'anew: headgate client rebind {client.name} --reason "…"'
        )
    return Workers(serving=serving, problems=problems, hindered=len(hindered))


def require_alive(clients: Clients, name: str, host: str) -> None:
    """Make sure that the worker of this name on this host is alive: it runs, and takes bells.

    Raises:
        HeadgateError: it does not.
    """
    settings = clients.settings.store
    look = Registry(open_store(settings), settings.namespace).look()
    own = [one for one in look.live.values() if (one.name, one.host) == (name, host)]
    if not own:
        raise HeadgateError(
            f"worker {name}@{host} is not alive: it wrote no heartbeat in the last {LIVES_S:g} s"
        )
    for process in own:
        if not process.works:
            raise HeadgateError(_cannot_work(process))
        if process.takes_none:
            raise HeadgateError(_takes_no_bells(process))


def find_outdated(clients: Clients, installation: str) -> list[str]:
    """The live workers that work for another installation than this one, each by its title."""
    settings = clients.settings.store
    look = Registry(open_store(settings), settings.namespace).look()
    return sorted(
        process.title
        for process in look.live.values()
        if process.installation not in {"", installation}
    )


def name_problems(clients: Clients) -> list[str]:
    """Live workers that people cannot tell apart, one sentence for each name."""
    settings = clients.settings.store
    look = Registry(open_store(settings), settings.namespace).look()
    return [
        f"{_titles(group)} have one name; give each worker a --name of its own"
        for group in look.namesakes()
    ]


def _differences(client: Client, look: Look) -> Iterator[str]:
    """What live workers propose differently for the client's limits."""
    proposals = overrides.read(client.store, client.keys).proposals
    holding = [one for one in proposals if one.holds]
    contents = {(one.limits, tuple(one.tenants.items())) for one in holding}
    if len(contents) > 1:
        who = "; ".join(f"{one.digest}: {_who(look, one.digest)}" for one in holding)
        yield (
            f"the workers have different limits for it ({who}), and a call obeys all of them; "
            f'start them with one configuration, or: headgate limits apply DIGEST --reason "…"'
        )
    for one in proposals:
        if not one.holds and one.digest in look.digests and look.applied:
            yield (
                f"{_who(look, one.digest)} has limits that were overruled by {look.applied.by} "
                f"({look.applied.reason}): those of "
                f"{' and '.join(other.digest for other in holding)} hold"
            )


def _troubles(client: str, processes: Sequence[Process]) -> Iterator[str]:
    """What keeps processes from the client's calls, or from any work, and who was started anew."""
    for process in processes:
        if process.takes_none:
            yield _takes_no_bells(process)
        elif why := process.obstacles.get(client):
            yield f"{_titles([process])} makes no calls of client {client}: {why}"
        if not process.works:
            yield _cannot_work(process)
        elif process.trouble:
            yield f"{_titles([process])} is in trouble: {process.trouble}"


def _takes_no_bells(process: Process) -> str:
    return f"{_titles([process])} takes no bells: {process.takes_none}"


def _cannot_work(process: Process) -> str:
    return f"{_titles([process])} cannot work: {process.trouble}"


def _who(look: Look, digest: str) -> str:
    return _titles([one for one in look.live.values() if one.digest == digest]) or "nobody"


def _titles(processes: Sequence[Process]) -> str:
    titles = sorted(process.title for process in processes)
    return f"worker {' and '.join(titles)}" if titles else ""
