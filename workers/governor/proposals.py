"""What the configurations that are in use say of a client's limits, and what holds of it.

A configuration is a proposal. It is known by its digest, and was given a serial number when it was
seen first. While live processes have different ones, a call obeys all of them: a limit that only
one has holds, of a limit of one name and pattern each value of its bucket is the strictest, and the
breaker opens where any of them opens it. All else (weights of tenants, what a limit is called)
follows the newest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from workers.cache import ByteCache, weigh
from workers.governor.binding import binding_digest
from workers.settings.breaker import BreakerSettings, agree_on_breaker
from workers.settings.client import TenantSettings
from workers.settings.limits import LimitSettings, agree_on
from workers.store.reading import Unreadable, read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workers.settings.client import ClientSettings

#: Characters of a configuration's digest.
DIGEST: Final = 12
#: Bytes that texts of proposals may take once they are read, and how much heavier our settings are
#: than the JSON values that they are made of.
READ_BYTES: Final = 8_000_000
SETTINGS_WEIGHT: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What one configuration says of one client's limits."""

    digest: str  #: of the whole configuration, see `digest_of`
    serial: int
    holds: bool  #: False: it was overruled, see `workers.governor.agreement`
    limits: tuple[LimitSettings, ...]
    tenants: Mapping[str, TenantSettings]
    breaker: BreakerSettings

    @classmethod
    def of(cls, client: ClientSettings, digest: str, serial: int) -> Proposal:
        """What the client's own configuration says."""
        return cls(
            digest=digest,
            serial=serial,
            holds=True,
            limits=client.limits,
            tenants=client.tenants,
            breaker=client.breaker,
        )

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Proposal:
        """Read what `as_stored` wrote; raises `ValueError` where it is damaged."""
        try:
            tenants = {name: TenantSettings(**given) for name, given in stored["tenants"].items()}
            limits = tuple(LimitSettings(**given) for given in stored["limits"])
            breaker = BreakerSettings(**stored.get("breaker", {}))
            read = cls(**{**stored, "limits": limits, "tenants": tenants, "breaker": breaker})
        except (AttributeError, KeyError, TypeError):
            raise Unreadable("it is no proposal") from None
        if [type(value) for value in (read.digest, read.serial, read.holds)] != [str, int, bool]:
            raise Unreadable("its digest or serial cannot be read")
        return read

    def as_stored(self) -> dict[str, Any]:
        """The proposal as the store keeps it: only values that were given."""
        return {
            "digest": self.digest,
            "serial": self.serial,
            "holds": self.holds,
            **_contents(self.limits, self.tenants, self.breaker),
        }


_read: Final = ByteCache[tuple[Proposal, ...]](READ_BYTES)


def to_json(proposals: Iterable[Proposal]) -> str:
    """All proposals of a client as the store keeps them."""
    return json.dumps([one.as_stored() for one in proposals], separators=(",", ":"))


def from_json(text: str) -> tuple[Proposal, ...]:
    """Read what `to_json` wrote; raises as `Proposal.from_stored`."""
    known = _read.get(text)  # each page that is opened reads them
    if known is None:
        known = tuple(Proposal.from_stored(stored) for stored in _items(read_json(text)))
        _read.put(text, known, SETTINGS_WEIGHT * weigh(text.encode()))
    return known


def _items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise Unreadable("it is no JSON array")
    return value


def digest_of(clients: Mapping[str, ClientSettings]) -> str:
    """The digest of what a configuration says of the limits, and the bindings, of its clients."""
    contents = {
        name: [
            _contents(
                sorted(client.limits, key=lambda limit: limit.name), client.tenants, client.breaker
            ),
            binding_digest(client),
        ]
        for name, client in clients.items()
    }
    text = json.dumps(contents, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]


def agreed(client: ClientSettings, proposals: Sequence[Proposal]) -> ClientSettings:
    """The client with the limits of all proposals that hold; its own where there are none."""
    newest_first = sorted((one for one in proposals if one.holds), key=lambda one: -one.serial)
    if not newest_first:
        return client
    tenants: dict[str, TenantSettings] = {}
    for name in dict.fromkeys(name for one in newest_first for name in one.tenants):
        versions = [one.tenants[name] for one in newest_first if name in one.tenants]
        # Which client a tenant sends through is this process's own affair, for it has them.
        sender = client.tenants.get(name, versions[0]).client
        limits = _all_of([version.limits for version in versions])
        tenants[name] = versions[0].model_copy(update={"limits": limits, "client": sender})
    limits = _all_of([one.limits for one in newest_first])
    breaker = agree_on_breaker(one.breaker for one in newest_first)
    return client.model_copy(update={"limits": limits, "tenants": tenants, "breaker": breaker})


def own_name(limit: str) -> str:
    """The name of a limit in the configurations: of "app@1a2b3c" it is app."""
    return limit.partition("@")[0]


def _all_of(versions: Sequence[Iterable[LimitSettings]]) -> tuple[LimitSettings, ...]:
    """The limits of all versions, the newest first.

    Limits of one name that count other calls, or count in another way, all hold: the newest keeps
    the name, and the others are named after it.
    """
    groups: dict[tuple[str, str, bool], list[LimitSettings]] = {}
    for limit in (limit for limits in versions for limit in limits):
        key = (limit.name, " ".join(limit.match.split()), limit.shape == "concurrent")
        groups.setdefault(key, []).append(limit)
    limits: dict[str, LimitSettings] = {}
    for (name, *what), group in groups.items():
        free = f"{name}@{_short(what)}" if name in limits else name
        limits[free] = agree_on(group).model_copy(update={"name": free})
    return tuple(limits.values())


def _contents(
    limits: Iterable[LimitSettings], tenants: Mapping[str, TenantSettings], breaker: BreakerSettings
) -> dict[str, Any]:
    given = breaker.model_dump(mode="json", exclude_unset=True)
    return {
        "limits": [limit.model_dump(mode="json", exclude_unset=True) for limit in limits],
        "tenants": {
            name: tenant.model_dump(mode="json", exclude_unset=True)
            for name, tenant in tenants.items()
        },
        **({"breaker": given} if given else {}),
    }


def _short(parts: Iterable[object]) -> str:
    return hashlib.sha256(repr(tuple(parts)).encode()).hexdigest()[:6]
