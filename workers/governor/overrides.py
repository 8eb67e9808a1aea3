"""The limits that hold: what the configurations agreed on, and what was changed live above it.

They belong to the client, not to a process: every process reads them before it writes a flow's
definition, and the scripts refuse a definition that was computed from older ones (`version`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from workers.errors import ConfigError
from workers.governor import proposals
from workers.settings.client import require_kept
from workers.settings.limits import AgreedLimit, LimitSettings, agree_on
from workers.store.reading import read_integer, read_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.governor.proposals import Proposal
    from workers.settings.client import ClientSettings
    from workers.store.connection import Store
    from workers.store.keys import ClientKeys

#: The field of the hash that is no limit: it counts the changes.
VERSION: Final = "#"
#: The field of the hash that holds the proposals of the configurations.
AGREED: Final = "#agreed"
#: An override of a limit that the configuration lacks must set at least these.
WHOLE: Final = ("count", "shape", "match")


@dataclass(frozen=True, slots=True)
class Override:
    """What was set live of one limit."""

    values: Mapping[str, Any]  #: fields of `LimitSettings`, but for its name
    by: str  #: who set it last
    reason: str

    @property
    def is_whole(self) -> bool:
        """Whether it makes a limit by itself, without values of the configuration."""
        return all(name in self.values for name in WHOLE)

    def as_json(self) -> str:
        """The override as the store keeps it."""
        return json.dumps({"values": self.values, "by": self.by, "reason": self.reason})


@dataclass(frozen=True, slots=True)
class Change:
    """One limit that is changed live."""

    limit: str
    override: Override | None  #: None: nothing of it is set live any more
    entry: list[str]  #: of the audit, see `workers.ledger.audit.addition`

    def row(self) -> tuple[str, str, list[str]]:
        """The change as lua/apply_limits.lua reads it."""
        return self.limit, self.override.as_json() if self.override else "", self.entry


@dataclass(frozen=True, slots=True)
class Agreement:
    """The proposals are these from now on."""

    proposals: tuple[Proposal, ...]
    entry: list[str]  #: of the audit; empty: what holds stays the same

    def row(self) -> tuple[str, str, list[str]]:
        """The change as lua/apply_limits.lua reads it."""
        return AGREED, proposals.to_json(self.proposals), self.entry


@dataclass(frozen=True, slots=True)
class Overrides:
    """What holds of one client's limits beside the configuration of this process."""

    version: int  #: how often any of it changed
    limits: Mapping[str, Override]  #: set live, by limit; a tenant's own is TENANT/NAME
    proposals: tuple[Proposal, ...] = ()  #: of the configurations; empty: there was none yet

    def agreed(self, client: ClientSettings) -> ClientSettings:
        """The client as the configurations have it, without what was set live."""
        return proposals.agreed(client, self.proposals)

    def over(self, client: ClientSettings) -> ClientSettings:
        """The client with the values that hold now.

        Raises:
            ConfigError: overrides and configuration contradict each other. Nothing may leave under
                limits that nobody knows, so neither is ignored.
        """
        client = self.agreed(client)
        if not self.limits:
            return client
        owners = {
            "": client.limits,
            **{name: tenant.limits for name, tenant in client.tenants.items()},
        }
        merged = {
            owner: {limit.name: limit for limit in limits} for owner, limits in owners.items()
        }
        for name, override in sorted(self.limits.items()):
            owner, slash, own = name.rpartition("/")
            there = None if slash and not owner else merged.get(owner, {}).get(own)
            if there is None and (slash or not override.is_whole):
                raise ConfigError(
                    f"limit {name} was set live, and is not in the configuration of client "
                    f"{client.name}; take it out: headgate limits unset {client.name} {name} "
                    f'--reason "…"'
                )
            same = [other for other in merged.get(owner, {}) if proposals.own_name(other) == own]
            for limit in same or [own]:
                before = merged[owner].get(limit)
                merged[owner][limit] = _limit(name, before, override.values, limit)
        return client.model_copy(
            update={
                "limits": tuple(merged[""].values()),
                "tenants": {
                    name: tenant.model_copy(update={"limits": tuple(merged[name].values())})
                    for name, tenant in client.tenants.items()
                },
            }
        )

    def changed(self, changes: Iterable[Change | Agreement]) -> Overrides:
        """What holds after these changes."""
        limits: dict[str, Override | None] = dict(self.limits)
        agreed = self.proposals
        for change in changes:
            if isinstance(change, Agreement):
                agreed = change.proposals
            else:
                limits[change.limit] = change.override
        kept = {name: override for name, override in limits.items() if override}
        return Overrides(self.version, kept, agreed)


def read(store: Store, keys: ClientKeys) -> Overrides:
    """The client's overrides as they are now.

    Raises:
        ConfigError: the store holds overrides that this version of Headgate cannot read.
    """
    texts: dict[str, str] = store.hgetall(keys.overrides)  # type: ignore[assignment]
    return from_hash(keys, texts)


def from_hash(keys: ClientKeys, texts: Mapping[str, str]) -> Overrides:
    """The overrides of a client that its hash holds; raises as `read`."""
    version, limits = 0, {}
    agreed: tuple[Proposal, ...] = ()
    for name, text in texts.items():
        try:
            if name == VERSION:
                version = read_integer(text)
            elif name == AGREED:
                agreed = proposals.from_json(text)
            else:
                limits[name] = read_record(Override, text, exact=True)
        except ValueError:
            raise ConfigError(
                f"what was set live of client {keys.client} cannot be read: field {name!r} of the "
                f"hash {keys.overrides} is of another version of Headgate, or damaged; use that "
                f"version, or delete the field in the store and set the limit anew"
            ) from None
    return Overrides(version, limits, agreed)


def _limit(
    name: str, before: LimitSettings | None, values: Mapping[str, Any], own: str
) -> LimitSettings:
    """The limit with these values, in each of its versions; it is called `own`."""
    versions = before.versions if isinstance(before, AgreedLimit) else [before]
    changed = agree_on([_version(name, version, values) for version in versions])
    return changed.model_copy(update={"name": own})


def _version(
    name: str, configured: LimitSettings | None, values: Mapping[str, Any]
) -> LimitSettings:
    # Only values that were given: those that follow from them (a shape's calibration) may change.
    given = configured.model_dump(exclude_unset=True) if configured else {}
    own = name.rpartition("/")[2]
    try:
        limit = LimitSettings.model_validate({**given, **values, "name": own})
        require_kept([limit])
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join([f"limit {name}", *map(str, first["loc"])])
        why = f"{place}: {first['msg'].removeprefix('Value error, ')}"
    except ValueError as error:  # of its bucket; the sentence names the limit
        why = str(error)
    else:
        return limit
    raise ConfigError(f"{why} (set live: {format_values(values)})")


def format_values(values: Mapping[str, Any]) -> str:
    """Values of a limit as people read them."""
    return ", ".join(f"{name} {value}" for name, value in values.items())
