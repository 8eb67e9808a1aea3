"""What an operator changes while the fleet runs: limits, and whether a client may send at all.

Each change is one script. It holds for every worker at once and has its entry in the audit, or
nothing was changed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestration.views.holds import FOREVER_S
from workers.errors import ConfigError, UsageError
from workers.governor import agreement, flows, overrides
from workers.governor.agreement_of_all import AgreementOfAll
from workers.governor.overrides import Change, Override
from workers.governor.registry import Registry
from workers.ledger import audit
from workers.store.keys import ClientKeys
from workers.store.many import ManyScripts
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from workers.clients import Client, Clients
    from workers.governor.overrides import Overrides


def set_limit(
    client: Client, limit: str, values: Mapping[str, Any], *, by: str, reason: str
) -> None:
    """Let these values of a limit stand above the configuration's, until they are unset.

    Args:
        client: Whose limit it is.
        limit: Its name; a tenant's own is TENANT/NAME.
        values: Fields of `LimitSettings`; other fields that were set live before stay set.
        by: Who does it.
        reason: Why.

    Raises:
        UsageError: there is no such limit, and the values do not make a whole one.
        ConfigError: the values cannot be kept, or not beside the others, or the limit is a
            tenant's that the configuration lacks; nothing was changed.
    """
    configured = _limit_names(client)
    if "/" in limit and limit not in configured:
        raise ConfigError(
            f"limit {limit} is not in the configuration of client {client.name} (there are: "
            f"{_join_names(configured)}); a tenant's own can be changed live but not added: add it "
            f"there"
        )

    def change(live: Overrides) -> list[Change]:
        before = live.limits.get(limit)
        earlier = before.values if before else {}
        override = Override({**earlier, **values}, audit.plain(by), audit.plain(reason))
        known = configured | live.limits.keys()
        if limit not in known and not override.is_whole:
            raise UsageError(
                f"client {client.name} has no limit {limit!r} (known: {_join_names(known)}); "
                f"choose one of these, or add it with --count, --shape and --match"
            )
        entry = _entry("limits set", limit, before, override, by=by, reason=reason)
        return [Change(limit, override, entry)]

    flows.refresh(client.store, client.keys, client.configured, change)


def unset_limits(client: Client, limits: Sequence[str], *, by: str, reason: str) -> None:
    """Let the configuration's values hold again; a limit that was added live is removed.

    Raises:
        UsageError: nothing is set live of one of them.
        ConfigError: what else is set live does not go together with the configuration.
    """

    def change(live: Overrides) -> list[Change]:
        for limit in limits:
            if limit not in live.limits:
                raise UsageError(
                    f"nothing is set live of limit {limit!r} of client {client.name}; set live "
                    f"are: {_join_names(live.limits)}"
                )
        return [
            Change(
                limit,
                None,
                _entry("limits unset", limit, live.limits[limit], None, by=by, reason=reason),
            )
            for limit in dict.fromkeys(limits)
        ]

    flows.refresh(client.store, client.keys, client.configured, change)


def apply_configuration(clients: Clients, digest: str, *, by: str, reason: str) -> None:
    """Let the limits of this configuration hold, and those of no other one seen until now.

    Raises:
        UsageError: no live worker has this configuration.
        ConfigError: what is set live of a client does not go together with it; of the others it
            holds.
    """
    installation = clients.open_installation()  # nothing is read of a store that is not ours
    store, namespace = installation.store, clients.settings.store.namespace
    registry = Registry(store, namespace)
    live = registry.look().digests
    if digest not in live:
        raise UsageError(
            f"no live worker has configuration {digest} (there are: {_join_names(live)}); choose "
            f"one of these, or start a worker with it first"
        )
    registry.apply(digest, by=audit.plain(by), reason=audit.plain(reason))

    def stand() -> agreement.Standing:
        look = registry.look()
        return agreement.Standing(live=look.digests, applied=look.applied)

    party = agreement.Party(own=None, joins=False, by=by, reason=reason)
    run = ManyScripts(store, installation.find_marks)
    every = {
        ClientKeys(namespace, name): client for name, client in clients.settings.clients.items()
    }
    for error in AgreementOfAll(store, run, stand, lambda _: party).reach(every).values():
        raise error  # the others have agreed


def pause(
    client: Client,
    *,
    for_s: float = FOREVER_S,
    by: str,
    reason: str,
    clock: Callable[[], int] | None = None,
) -> int:
    """Let no further call of a client leave; calls that are under way come to their end.

    Args:
        client: Whose calls wait.
        for_s: How long, seconds. A hold that lasts longer stays as it is.
        by: Who does it.
        reason: Why.
        clock: Microseconds since the epoch, for tests that hold the clock.

    Returns:
        The moment until which the client is held, microseconds since the epoch.
    """
    why = f"paused by {audit.plain(by)}: {audit.plain(reason)}"
    after = "until it is resumed" if for_s >= FOREVER_S else f"for {for_s:g} s"
    entry = audit.addition("client pause", subject=client.name, after=after, by=by, reason=reason)
    run = Scripts(client.store, client.keys, clock)
    return int(run("pause", round(for_s * 1e6), why, *entry))


def resume(
    client: Client,
    *,
    by: str,
    reason: str,
    everything: bool = False,
    clock: Callable[[], int] | None = None,
) -> list[str]:
    """End an operator's pause of a client, and breakers that are open.

    The calls that waited leave at the governed rate, from empty buckets.

    Args:
        client: Whose.
        by: Who says so.
        reason: Why.
        everything: End the provider's holds too, of the client, its limits and routes, and the
            wait of each row that the provider ordered to come late.
        clock: For tests that hold the clock.

    Returns:
        What was held and is no more, as people read it; empty: nothing was.
    """
    action = "client resume --all" if everything else "client resume"
    entry = audit.addition(action, subject=client.name, by=by, reason=reason)
    spans = flows.spans(client.store, client.keys)
    run = Scripts(client.store, client.keys, clock)
    rows, *scopes = run("resume", int(everything), *entry)
    held = {spans[scope][0] if scope in spans else scope for scope in scopes}
    named = sorted(held, key=lambda scope: (scope != "client", scope))
    if rows:
        named.append(f"{rows} {'row that waits' if rows == 1 else 'rows that wait'} alone")
    return named


def _entry(
    action: str, limit: str, before: Override | None, after: Override | None, **why: str
) -> list[str]:
    """The audit's entry of a change; `why` is by and reason."""
    texts = [json.dumps(values.values) if values else "" for values in (before, after)]
    return audit.addition(action, subject=limit, before=texts[0], after=texts[1], **why)


def _limit_names(client: Client) -> set[str]:
    settings = overrides.read(client.store, client.keys).agreed(client.configured)
    of_tenants = {
        f"{name}/{limit.name}"
        for name, tenant in settings.tenants.items()
        for limit in tenant.limits
    }
    return of_tenants | {limit.name for limit in settings.limits}


def _join_names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
