"""A client of the configuration: its own values, above those of its provider's profile."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from workers.errors import ConfigError
from workers.settings.access import AuthSettings, RouteSettings
from workers.settings.breaker import BreakerSettings
from workers.settings.limits import LimitSettings, bucket_of
from workers.settings.values import RESERVED, Model, PathOfHost, Seconds, require_plain

if TYPE_CHECKING:
    from collections.abc import Iterable


class TenantSettings(Model):
    """A tenant that sends through this client, or with credentials of its own."""

    #: Its part of the client's rate while all have work; None: see `ClientSettings.weight_of`.
    weight: int | None = Field(None, ge=1, le=1000)
    quota: int | None = Field(None, ge=1)  #: its part of each of the client's limits without count
    client: str | None = None  #: its own credentials: the name of another client
    limits: tuple[LimitSettings, ...] = ()  #: caps for this tenant alone

    @model_validator(mode="after")
    def _whole(self) -> TenantSettings:
        if self.client is not None:
            others = ("weight", "quota", "limits")
            if given := [name for name in others if name in self.model_fields_set]:
                raise ValueError(
                    f"a tenant with a client of its own has no part of this one; "
                    f"leave out {' and '.join(given)}"
                )
        require_kept(self.limits)
        return self


def require_kept(limits: Iterable[LimitSettings]) -> None:
    """Refuse, with a `ValueError`, a name that is there twice, and a limit that no bucket keeps."""
    names = set()
    for limit in limits:
        if limit.name in names:
            raise ValueError("two limits have the same name")
        names.add(limit.name)
        try:
            bucket_of(limit)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        except ArithmeticError:
            raise ValueError(
                f"limit {limit.name}: its numbers are too large or too small"
            ) from None


def sum_of_quotas(limit: object, tenants: dict[str, TenantSettings]) -> int:
    """The count of a limit that states none; `ValueError` when a tenant has no quota."""
    # A tenant with credentials of its own sends nothing through this client.
    quotas = {name: tenant.quota for name, tenant in tenants.items() if tenant.client is None}
    missing = [name for name, quota in quotas.items() if quota is None]
    if missing or not quotas:
        who = f"tenant {missing[0]!r} has none" if missing else "there are no tenants"
        raise ValueError(
            f"limit {limit}: without count it is the sum of its tenants' quotas, and {who}; "
            f"set count, or a quota for each tenant"
        )
    return sum(quota for quota in quotas.values() if quota is not None)


class ClientSettings(AuthSettings, RouteSettings):
    """One set of credentials at a provider: the owner of a quota."""

    provider: str = "rest"  #: "rest" or a profile of profiles.toml
    region: str | None = None  #: names base_url and token_url, where the profile has regions
    idempotency: Literal["key", "none"] = "none"  #: what the provider honours
    idempotency_header: str = Field("Idempotency-Key", pattern=r"^[A-Za-z0-9-]+$")
    key_scope: Literal["transaction", "step"] = "transaction"
    # Before the limits: a limit without count is the sum of the tenants' quotas.
    tenants: dict[str, TenantSettings] = Field(default_factory=dict)
    limits: tuple[LimitSettings, ...] = ()
    breaker: BreakerSettings = BreakerSettings()
    connect_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 30.0
    total_timeout_s: Seconds = 60.0
    max_retries: int = Field(3, ge=0, le=100)
    backoff_base_s: Seconds = 1.0
    backoff_cap_s: Seconds = 30.0
    #: How long a row is tried again while nothing shows whether it or the provider is at fault.
    outage_patience_s: Seconds = 1800.0
    probe: PathOfHost | None = None  #: a GET that changes nothing, see docs
    # How long what was written may stay unseen by the provider's own reads: guard `lookup`.
    lookup_after_s: Seconds = 2.0  #: from a send of unknown outcome to the first look-up
    lookups: int = Field(3, ge=1, le=100)  #: how often it may be asked in vain
    lookup_every_s: Seconds = 5.0  #: between two of them
    max_response_bytes: int = Field(1_000_000, ge=1_000)

    @field_validator("idempotency_header")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if value.lower() in RESERVED | {"authorization", "content-type"}:
            raise ValueError("belongs to the connection or is set by Headgate; name another header")
        return value

    @field_validator("limits", mode="before")
    @classmethod
    def _counted(cls, value: object, info: ValidationInfo) -> object:
        """Give a limit without count the sum of the tenants' quotas."""
        tenants: dict[str, TenantSettings] | None = info.data.get("tenants")
        if tenants is None or not isinstance(value, list | tuple):
            return value  # it has an error of its own
        return [
            {**limit, "count": sum_of_quotas(limit.get("name"), tenants)}
            if isinstance(limit, dict) and "count" not in limit
            else limit
            for limit in value
        ]

    @model_validator(mode="after")
    def _whole(self) -> ClientSettings:
        if self.idempotency_header.lower() in {
            "authorization",
            (self.api_key_header or "").lower(),
        }:
            raise ValueError("idempotency_header is the header of the api key; name another one")
        for tenant in self.tenants:
            require_plain("tenant", tenant)
        _require_one_region(self)
        require_kept(self.limits)
        return self

    def weight_of(self, tenant: str) -> float:
        """The part of the rate that a tenant has while all have work, 1 for rows that name none.

        Where no tenant of the client has a weight, the quotas are the weights: those of the
        smallest quota, and who has none, have 1.
        """
        own = [each for each in self.tenants.values() if each.client is None]
        quotas = [each.quota for each in own if each.quota]
        known = self.tenants.get(tenant)
        if known is None or not quotas or any(each.weight for each in own):
            return (known and known.weight) or 1
        return known.quota / min(quotas) if known.quota else 1

    def client_of(self, tenant: str) -> str | None:
        """The other client, with credentials and a quota of its own, that a tenant sends through.

        None: the tenant sends through this client, or is not known.
        """
        return self.tenants[tenant].client if tenant in self.tenants else None


def _require_one_region(client: ClientSettings) -> None:
    """A token of one region is none in another: there every call is answered 401."""
    profile = profiles().get(client.provider, {})
    hosts, regions = profile.get("hosts", {}), profile.get("regions", {})
    region_of = {}
    for key, url in (("base_url", client.base_url), ("token_url", client.token_url)):
        for region, domain in regions.items():
            if key in hosts and str(url).rstrip("/") == hosts[key].format(domain):
                region_of[key] = region
    if len(set(region_of.values())) > 1:
        raise ValueError(
            f"base_url is of region {region_of['base_url']} and token_url of "
            f"{region_of['token_url']}; set region alone"
        )


def with_profile(name: str, given: object) -> object:
    """Add its name to a client as it was given, and its profile's values below its own."""
    require_plain("client", name)
    if not isinstance(given, dict):
        return given
    provider = str(given.get("provider", "rest"))
    base = {} if provider == "rest" else profiles().get(provider)
    if base is None:
        raise ValueError(
            f"provider {provider!r} of client {name!r} is unknown; "
            f"use rest, {', '.join(sorted(profiles()))}"
        )
    hosts = {} if "base_url" in given and "region" not in given else _hosts(name, given, base)
    form = base.get("auth", "client_credentials")
    if given.get("auth", form) != form:
        hosts.pop("token_url", None)  # it belongs to the profile's form
    base = {key: value for key, value in base.items() if key not in {"auth", "regions", "hosts"}}
    base |= _upload_hosts(given, profiles().get(provider, {}))
    whole = {**base, **hosts, **given, "name": name}
    # A client that names no credentials sends without any, whatever its profile.
    if "auth" not in whole and form != "client_credentials":
        whole |= {"auth": form} if whole.keys() & {"token_url", "client_id"} else {}
    return whole


def _hosts(name: str, given: dict[str, Any], profile: dict[str, Any]) -> dict[str, str]:
    """The URLs of a client's region; a client's own stand above them."""
    regions: dict[str, str] = profile.get("regions", {})
    region = str(given.get("region", "")).lower().replace("_", "-")
    if region in regions:
        return {key: url.format(regions[region]) for key, url in profile["hosts"].items()}
    if not regions or ("region" not in given and "base_url" not in profile["hosts"]):
        if "region" in given:
            raise ValueError(
                f"clients.{name}.region: this provider has no known regions; set base_url and "
                f"token_url instead"
            )
        return {}
    fault = "this region is unknown" if "region" in given else "set it, or base_url"
    raise ValueError(f"clients.{name}.region: {fault}; there are {', '.join(regions)}")


def _upload_hosts(given: dict[str, Any], profile: dict[str, Any]) -> dict[str, list[str]]:
    """The hosts of signed URLs of a client's region; of all regions where it names none."""
    if "upload_hosts" not in profile:
        return {}
    regions: dict[str, str] = profile["regions"]
    region = str(given.get("region", "")).lower().replace("_", "-")
    domains = [regions[region]] if region in regions else regions.values()
    return {
        "upload_hosts": [host.format(name) for name in domains for host in profile["upload_hosts"]]
    }


@cache
def profiles() -> dict[str, dict[str, Any]]:
    """Provider profiles by name: values that stand below a client's own.

    A profile that is `like` another one has that one's values below its own.
    """
    text = resources.files("workers.settings").joinpath("profiles.toml").read_text("utf-8")
    given: dict[str, dict[str, Any]] = tomllib.loads(text)
    return {name: {**given.get(own.pop("like", ""), {}), **own} for name, own in given.items()}
