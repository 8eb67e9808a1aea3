"""Which proposals hold for a client: those of all live processes, unless a person chose one.

- Every live process proposes what its configuration says. One that is not live any more proposes
  nothing; when only one configuration lives on, it holds alone.
- Where nobody lives, what holds stays, until a process starts with something else.
- `headgate limits apply` lets one configuration overrule all that were seen until then, also when
  its own processes end. A configuration that is seen first later on proposes again, and holds alone
  where it alone lives. When that one has ended too, the limits that were applied last hold.

A process that joins writes the client's limits even when they stay the same. Whoever decided before
that one was there then finds the version changed, and decides anew: so no process sends while
limits hold to which it did not agree. One that joins beside a live process of the same
configuration writes nothing: since that one wrote, whoever decides sees their configuration live.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from workers.governor import flows, overrides
from workers.governor.overrides import Agreement
from workers.governor.proposals import Proposal
from workers.ledger import audit
from workers.settings.breaker import BreakerSettings
from workers.settings.limits import bucket_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from workers.governor.overrides import Overrides
    from workers.governor.registry import Applied, Configuration, Look, Registry
    from workers.settings.client import ClientSettings
    from workers.settings.limits import LimitSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: What the audit calls a change of the limits that hold.
ACTION: Final = "limits agreed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Whose proposals count just now."""

    live: Collection[str]  #: digests of the configurations of live processes
    applied: Applied | None
    joined: Collection[str] = ()  #: those of which a live process has agreed on all clients


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who decides which proposals hold."""

    own: Proposal | None  #: what this process proposes; None: nothing
    joins: bool  #: it begins to live, or lives again
    by: str  #: for the audit
    reason: str = "the configurations of the live processes changed"


def choose(
    known: Sequence[Proposal], own: Proposal | None, standing: Standing
) -> tuple[Proposal, ...]:
    """The proposals that are kept, the oldest first, each with whether it holds."""
    applied = standing.applied
    there = {one.digest: one for one in known}
    if own:
        there.setdefault(own.digest, own)
    everyone = [
        replace(one, holds=not (applied and applied.overrules(one.digest, one.serial)))
        for one in there.values()
    ]
    kept = {one.digest: one for one in everyone if one.digest in standing.live}
    # Without it, all live ones were overruled, or nobody lives.
    is_held = any(one.holds for one in kept.values())
    if applied and applied.digest in there:
        # It is kept when its processes have ended: it holds again when no other one does.
        holds = not is_held or applied.digest in kept
        kept[applied.digest] = replace(there[applied.digest], holds=holds)
    elif not is_held:
        before = [one for one in known if one.holds] or list(there.values())
        kept |= {one.digest: replace(one, holds=True) for one in before}
    return tuple(sorted(kept.values(), key=lambda one: one.serial))


def change_by(
    party: Party, client: ClientSettings, stand: Callable[[], Standing]
) -> Callable[[Overrides], Sequence[Agreement]]:
    """The change with which the proposals hold that count now, for `flows.refresh`.

    Args:
        party: Who decides.
        client: As the configuration of this process has it.
        stand: Looks whose proposals count. It is asked after the version of what holds was read.
    """

    def change(live: Overrides) -> Sequence[Agreement]:
        standing = stand()
        chosen = choose(live.proposals, party.own, standing)
        if chosen == live.proposals and not _must_write(party, standing):
            return ()
        after = live.changed([Agreement(chosen, [])])
        cause = _cause(live.proposals, standing.applied, party)
        return [Agreement(chosen, _entry(live, after, client, cause) if live.proposals else [])]

    return change


def agree(
    store: Store,
    keys: ClientKeys,
    client: ClientSettings,
    change: Callable[[Overrides], Sequence[Agreement]],
) -> None:
    """Let the proposals hold that count now, if that changes anything.

    Raises:
        ConfigError: what was set live does not go together with the proposals; nothing was written.
        StoreAway: the store did not answer.
    """
    if change(overrides.read(store, keys)):
        flows.refresh(store, keys, client, change)


def propose_alone(
    registry: Registry, look: Look, client: ClientSettings, own: Configuration
) -> Callable[[Overrides], Sequence[Agreement]]:
    """The change with which a process that is no worker proposes, where no worker lives.

    Args:
        registry: Gives its configuration a serial.
        look: Who lives, at the moment.
        client: As its configuration has it.
        own: Its configuration.
    """
    party = Party(
        own=Proposal.of(client, own.digest, registry.serial_of(own)),
        joins=False,
        by=audit.user(),
        reason="no worker lives, and this process has another configuration",
    )
    standing = Standing(live={own.digest, *look.digests}, applied=look.applied)
    return change_by(party, client, lambda: standing)


def _must_write(party: Party, standing: Standing) -> bool:
    """Whether it joins, and no process of its configuration did so before it and lives on."""
    return party.joins and not (party.own and party.own.digest in standing.joined)


def _cause(before: Sequence[Proposal], applied: Applied | None, party: Party) -> Party:
    """Who changes what holds: the person whose choice a process is the first to follow, or it."""
    ends = applied and any(
        one.holds and applied.overrules(one.digest, one.serial) for one in before
    )
    return replace(party, by=applied.by, reason=applied.reason) if applied and ends else party


def _entry(before: Overrides, after: Overrides, client: ClientSettings, party: Party) -> list[str]:
    """The audit's entry of a change; none where the same limits hold as before."""
    texts = [_describe(one.agreed(client)) for one in (before, after)]
    if texts[0] == texts[1]:
        return []
    return audit.addition(
        ACTION,
        subject=client.name,
        before=f"{_digests(before)}: {texts[0]}",
        after=f"{_digests(after)}: {texts[1]}",
        by=party.by,
        reason=party.reason,
    )


def _digests(live: Overrides) -> str:
    return " + ".join(one.digest for one in live.proposals if one.holds)


def _describe(client: ClientSettings) -> str:
    """All limits of a client as the governor keeps them, and its breaker where that is set."""
    own = [
        (f"{tenant}/{limit.name}", limit)
        for tenant, settings in client.tenants.items()
        for limit in settings.limits
    ]
    shared = [(limit.name, limit) for limit in client.limits]
    limits = ", ".join(_describe_limit(name, limit) for name, limit in shared + own) or "no limits"
    usual = client.breaker.rules == BreakerSettings().rules
    return limits if usual else f"{limits}, breaker {client.breaker}"


def _describe_limit(name: str, limit: LimitSettings) -> str:
    bucket = bucket_of(limit)
    match = "" if limit.match == "* *" else f" for {limit.match}"
    if bucket.rate is None:
        return f"{name} {bucket.burst} at once{match}"
    return f"{name} {bucket.rate:.5g}/s burst {bucket.burst}{match}"
