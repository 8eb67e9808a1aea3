"""What an operator changes while the fleet runs: limits, and whether a client may send at all.

Each change is one script: it is there for every worker at once, with its entry in the audit, or it
did not happen.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from workers.errors import ConfigError, UsageError
from workers.governor import flows
from workers.governor.overrides import Change, Override
from workers.ledger import audit
from workers.store.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from workers.clients import Client
    from workers.governor.overrides import Overrides

#: A pause without an end, in seconds: ten years.
FOREVER_S: Final = 3650 * 86_400.0


def set_limit(
    client: Client, limit: str, values: Mapping[str, Any], *, by: str, reason: str
) -> None:
    """Let these values of a limit stand above the configuration's, until they are unset.

    Args:
        client: Whose limit it is.
        limit: Its name; a tenant's own is TENANT/NAME.
        values: Fields of `LimitSettings`; earlier ones that they do not name stay set.
        by: Who does it.
        reason: Why.

    Raises:
        UsageError: there is no such limit, and the values do not make a whole one.
        ConfigError: the values cannot be kept, or not beside the others, or the limit is a
            tenant's that the configuration lacks; nothing was changed.
    """
    said = {"by": by, "reason": reason}
    configured = _names(client)
    if "/" in limit and limit not in configured:
        raise ConfigError(
            f"limit {limit} is not in the configuration of client {client.name} (there are: "
            f"{_list(configured)}); a tenant's own can be changed live but not added: add it there"
        )

    def change(live: Overrides) -> list[Change]:
        was = live.limits.get(limit)
        earlier = was.values if was else {}
        override = Override({**earlier, **values}, audit.plain(by), audit.plain(reason))
        known = configured | live.limits.keys()
        if limit not in known and not override.is_whole:
            raise UsageError(
                f"client {client.name} has no limit {limit!r} (known: {_list(known)}); choose one "
                f"of these, or add it with --count, --shape and --match"
            )
        return [_change("limits set", limit, was, override, said)]

    flows.refresh(client.store, client.keys, client.configured, change)


def unset_limits(client: Client, limits: Sequence[str], *, by: str, reason: str) -> None:
    """Let the configuration's values hold again; a limit that was added live goes.

    Raises:
        UsageError: nothing is set live of one of them.
        ConfigError: what else is set live does not go together with the configuration.
    """
    said = {"by": by, "reason": reason}

    def change(live: Overrides) -> list[Change]:
        for limit in limits:
            if limit not in live.limits:
                raise UsageError(
                    f"nothing is set live of limit {limit!r} of client {client.name}; set live "
                    f"are: {_list(live.limits)}"
                )
        return [
            _change("limits unset", limit, live.limits[limit], None, said)
            for limit in dict.fromkeys(limits)
        ]

    flows.refresh(client.store, client.keys, client.configured, change)


def pause(
    client: Client,
    *,
    for_s: float = FOREVER_S,
    by: str,
    reason: str,
    clock: Callable[[], int] | None = None,
) -> int:
    """Let nothing leave for a client; calls that are under way come to their end.

    Args:
        client: Whose calls wait.
        for_s: How long. A hold that ends later stands as it is.
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


def resume(client: Client, *, by: str, reason: str, clock: Callable[[], int] | None = None) -> bool:
    """End what holds a client: an operator's pause, the provider's, an open breaker.

    What waited is paced from empty buckets.

    Returns:
        Whether anything held it.
    """
    entry = audit.addition("client resume", subject=client.name, by=by, reason=reason)
    return bool(Scripts(client.store, client.keys, clock)("resume", *entry))


def _change(
    action: str, limit: str, was: Override | None, will: Override | None, said: Mapping[str, str]
) -> Change:
    before, after = (json.dumps(it.values) if it else "" for it in (was, will))
    entry = audit.addition(action, subject=limit, before=before, after=after, **said)
    return Change(limit, will, entry)


def _names(client: Client) -> set[str]:
    settings = client.configured
    own = {f"{name}/{it.name}" for name, one in settings.tenants.items() for it in one.limits}
    return own | {it.name for it in settings.limits}


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
