"""The configuration: one TOML file, every value overridable by environment, checked at birth.

`load()` reads `--config`, `HEADGATE_CONFIG`, or `headgate.toml` in the current folder, in this
order; without any of them the defaults hold and the embedded store is used. An environment
variable overrides a value by its path: `HEADGATE_STORE__URL`, `HEADGATE_WORKER__CONCURRENCY`,
`HEADGATE_CLIENTS__ACME__BASE_URL`. No error tells a value: it may be a secret.
"""

from __future__ import annotations

import os
import re
import tomllib
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from workers.errors import ConfigError
from workers.limits import cell
from workers.request import RESERVED
from workers.urls import BaseUrl, HttpUrl, RedisUrl

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Where the file is looked for when neither `--config` nor `HEADGATE_CONFIG` names one.
DEFAULT_FILE = "headgate.toml"
#: Names that may stand in store keys, messages and headers.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Shape = Literal["bucket", "fixed_window", "sliding_window", "concurrent"]
Calibration = Literal["guide", "tight"]


#: A span of time that a person would wait for.
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:  # noqa: ANN401 -- raw TOML, checked by the model
        """Say what else the key could be."""
        if isinstance(data, dict):
            _require_known(data, cls.model_fields)
        return data


def _require_known(given: Iterable[str], known: Iterable[str]) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"unknown key {key!r}; {hint}")


class StoreSettings(_Model):
    """Where ledger, governor and jobs live, and where the bells go."""

    url: RedisUrl | None = None  #: redis:// or rediss://; None starts the embedded store
    broker_url: RedisUrl | None = None  #: None: the store's server
    data_dir: Path = Path(".headgate")  #: folder of the embedded store
    namespace: str = Field("headgate", pattern=NAME)  #: first part of every key
    accept_everysec: bool = False  #: run guard `none` on appendfsync everysec
    durable: Literal["always", "everysec"] | None = None
    """What the operator states where the store does not allow CONFIG GET."""


class WorkerSettings(_Model):
    """How a worker runs and how long the fleet waits for it."""

    concurrency: int = Field(32, ge=1, le=1000)  #: threads of one worker process
    bell_grace_s: Seconds = 3.0  #: an unanswered bell is given back after this
    lease_margin_s: Seconds = 5.0  #: lease = total deadline of the call + this
    line_after_s: Seconds = 15.0  #: a longer backoff waits in the line, not in Celery
    beat_s: float = Field(0.025, ge=0.005, le=1)  #: one ring per client and beat, fleet-wide
    max_crashes: int = Field(3, ge=1)  #: deaths under one transaction before it is a dead letter
    events: bool = True  #: send task events, so that Flower shows tasks


def _usual_calibration(limit: dict[str, Any]) -> Calibration | None:
    shape = limit.get("shape")
    return None if shape == "concurrent" else "guide" if shape == "bucket" else "tight"


class LimitSettings(_Model):
    """One quota rule of a client or of a tenant, as the provider states it."""

    name: str = Field(pattern=NAME)
    count: int = Field(ge=1)  #: calls per window, or at once where the shape is concurrent
    window_s: float = Field(1.0, gt=0)
    shape: Shape = "bucket"
    match: str = "* *"  #: method and path pattern, `*` stands for anything
    calibration: Calibration | None = Field(default_factory=_usual_calibration)
    """How near to the limit; unless set, guide for a bucket and tight for a window."""
    rate: float | None = Field(None, gt=0)  #: calls per second, instead of the calibration's
    burst: int | None = Field(None, ge=1)  #: tokens, instead of the calibration's
    reserve: int | None = Field(None, ge=0)  #: tokens of the burst that only urgent may take

    @field_validator("name")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if value == "client" or value.startswith("route"):
            raise ValueError(f"{value!r} is a name of Headgate's own; choose another one")
        return value

    @field_validator("match")
    @classmethod
    def _method_and_path(cls, value: str) -> str:
        if not re.fullmatch(r"\S+ +[/*]\S*", value):
            raise ValueError('must be a method and a path, such as "POST /api/v2/*" or "* *"')
        return value

    @model_validator(mode="after")
    def _fits_its_shape(self) -> LimitSettings:
        if self.shape == "concurrent":
            of_a_rate = ("window_s", "calibration", "rate", "burst", "reserve")
            if given := [name for name in of_a_rate if name in self.model_fields_set]:
                raise ValueError(
                    f'shape "concurrent" counts calls at once, whatever their rate; '
                    f"leave out {' and '.join(given)}"
                )
        elif self.shape != "bucket" and self.calibration == "guide":
            raise ValueError(
                'calibration "guide" is a rule for buckets and does not keep a window; '
                'use "tight" or leave it out'
            )
        return self


class TenantSettings(_Model):
    """A tenant that sends through this client, or with credentials of its own."""

    weight: int = Field(1, ge=1, le=1000)  #: its part of the client's rate while all have work
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
        _require_kept(self.limits)
        return self


class ClientSettings(_Model):
    """One set of OAuth credentials at a provider: the owner of a quota."""

    name: str = Field(pattern=NAME)
    provider: str = "rest"  #: "rest" or a profile of profiles.toml
    region: str | None = None  #: names the two URLs below, where the profile has regions
    base_url: BaseUrl
    token_url: HttpUrl | None = None  #: None: calls go without a token
    token_auth: Literal["basic", "form"] = "basic"  # noqa: S105 -- how the secret travels to token_url
    client_id: str | None = None
    client_secret_env: str | None = None
    client_secret_file: Path | None = None
    idempotency: Literal["key", "none"] = "none"  #: what the provider honours
    idempotency_header: str = Field("Idempotency-Key", pattern=r"^[A-Za-z0-9-]+$")
    key_scope: Literal["transaction", "step"] = "transaction"
    # Before the limits: a limit without count is the sum of the tenants' quotas.
    tenants: dict[str, TenantSettings] = Field(default_factory=dict)
    limits: tuple[LimitSettings, ...] = ()
    connect_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 30.0
    total_timeout_s: Seconds = 60.0
    max_retries: int = Field(3, ge=0, le=100)
    backoff_base_s: Seconds = 1.0
    backoff_cap_s: Seconds = 30.0
    max_response_bytes: int = Field(1_000_000, ge=1_000)
    ca_file: Path | None = None  #: own certificate authority

    @field_validator("idempotency_header")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if value.lower() in RESERVED | {"authorization", "content-type"}:
            raise ValueError("belongs to the connection or is set by Headgate; name another header")
        return value

    @field_validator("limits", mode="before")
    @classmethod
    def _counted(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 -- raw TOML
        """Give a limit without count the sum of the tenants' quotas."""
        tenants: dict[str, TenantSettings] | None = info.data.get("tenants")
        if tenants is None or not isinstance(value, list | tuple):
            return value  # its own error is told
        return [
            {**it, "count": _sum_of_quotas(it.get("name"), tenants)}
            if isinstance(it, dict) and "count" not in it
            else it
            for it in value
        ]

    @model_validator(mode="after")
    def _whole(self) -> ClientSettings:
        if self.token_url:
            if not self.client_id:
                raise ValueError("client_id is missing beside token_url")
            if not (self.client_secret_env or self.client_secret_file):
                raise ValueError("set client_secret_env or client_secret_file beside token_url")
        for tenant in self.tenants:
            _require_plain("tenant", tenant)
        _require_kept(self.limits)
        return self

    def secret(self) -> SecretStr:
        """The client secret, read anew at each call so that a changed one is picked up.

        Raises:
            ConfigError: the variable or file that should hold it does not.
        """
        if self.client_secret_file:
            try:
                return SecretStr(self.client_secret_file.read_text("utf-8").strip())
            except (OSError, ValueError) as error:  # ValueError: no path, or no text
                reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
                raise ConfigError(
                    f"client {self.name}: client_secret_file {self.client_secret_file} cannot be "
                    f"read ({reason}); create it or correct the path"
                ) from None
        value = os.environ.get(self.client_secret_env or "", "")
        if not value:
            raise ConfigError(
                f"client {self.name}: the environment variable {self.client_secret_env} is not "
                f"set; put the client secret there"
            )
        return SecretStr(value)


class Settings(BaseSettings):
    """The whole configuration, frozen."""

    model_config = SettingsConfigDict(
        env_prefix="HEADGATE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    store: StoreSettings = StoreSettings()
    worker: WorkerSettings = WorkerSettings()
    clients: dict[str, ClientSettings] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file."""
        del dotenv_settings, file_secret_settings
        return (_Sections(settings_cls, env_settings), init_settings)

    @model_validator(mode="before")
    @classmethod
    def _fill_clients(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Give each client its name and, below its own values, those of its profile."""
        _require_known(data, cls.model_fields)
        clients = data.get("clients")
        if isinstance(clients, dict):
            data = {**data, "clients": {name: _client(name, it) for name, it in clients.items()}}
        return data

    @model_validator(mode="after")
    def _own_clients(self) -> Settings:
        """A tenant's own client is there, is another one, and is where it ends."""
        for name, client in self.clients.items():
            for tenant, it in client.tenants.items():
                if it.client is None:
                    continue
                place = f"clients.{name}.tenants.{tenant}.client"
                if it.client == name:
                    raise ValueError(f"{place}: is this client itself; leave it out")
                if it.client not in self.clients:
                    near = get_close_matches(it.client, self.clients, 1)
                    hint = f"did you mean {near[0]!r}?" if near else f"add [clients.{it.client}]"
                    raise ValueError(f"{place}: there is no client {it.client!r}; {hint}")
                there = self.clients[it.client].tenants.get(tenant)
                if there and there.client is not None:
                    raise ValueError(f"{place}: leads on to client {there.client!r}; name that one")
        return self

    def client(self, name: str) -> ClientSettings:
        """The client of this name, or `ConfigError` naming those that exist."""
        try:
            return self.clients[name]
        except KeyError:
            known = ", ".join(sorted(self.clients)) or "none"
            raise ConfigError(
                f"client {name!r} is not in the configuration (known: {known}); "
                f"add [clients.{name}] or choose another one"
            ) from None


class _Sections(InitSettingsSource):
    """The environment, reduced to the three sections.

    Other HEADGATE_ variables (HEADGATE_CONFIG, secrets of clients) are none of its business.
    """

    def __init__(self, cls: type[BaseSettings], env: PydanticBaseSettingsSource) -> None:
        assert isinstance(env, EnvSettingsSource)  # noqa: S101 -- narrows the type
        super().__init__(cls, {k: v for k, v in env().items() if k in Settings.model_fields})


def _require_plain(what: str, name: str) -> None:
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"{what} {name!r}: use at most 64 letters, digits, dots, dashes and underscores"
        )


def _require_kept(limits: Iterable[LimitSettings]) -> None:
    names = set()
    for limit in limits:
        if limit.name in names:
            raise ValueError("two limits have the same name")
        names.add(limit.name)
        try:
            cell(limit)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        except ArithmeticError:
            raise ValueError(
                f"limit {limit.name}: its numbers are too large or too small"
            ) from None


def _sum_of_quotas(limit: object, tenants: dict[str, TenantSettings]) -> int:
    # Who has credentials of its own sends nothing through this client.
    quotas = {name: it.quota for name, it in tenants.items() if it.client is None}
    missing = [name for name, quota in quotas.items() if quota is None]
    if missing or not quotas:
        who = f"tenant {missing[0]!r} has none" if missing else "there are no tenants"
        raise ValueError(
            f"limit {limit}: without count it is the sum of its tenants' quotas, and {who}; "
            f"set count, or a quota for each tenant"
        )
    return sum(quota for quota in quotas.values() if quota is not None)


def _client(name: str, given: Any) -> Any:  # noqa: ANN401 -- raw TOML, checked by the model
    _require_plain("client", name)
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
    base = {key: value for key, value in base.items() if key not in {"regions", "hosts"}}
    return {**base, **hosts, **given, "name": name}


def _hosts(name: str, given: dict[str, Any], profile: dict[str, Any]) -> dict[str, str]:
    """The URLs of a client's region; a client's own stand above them."""
    regions: dict[str, str] = profile.get("regions", {})
    region = str(given.get("region", "")).lower().replace("_", "-")
    if region in regions:
        return {key: url.format(regions[region]) for key, url in profile["hosts"].items()}
    if not regions:
        if "region" in given:
            raise ValueError(
                f"clients.{name}.region: this provider has no known regions; set base_url and "
                f"token_url instead"
            )
        return {}
    said = "this region is unknown" if "region" in given else "set it, or base_url"
    raise ValueError(f"clients.{name}.region: {said}; there are {', '.join(regions)}")


@cache
def profiles() -> dict[str, dict[str, Any]]:
    """Provider profiles by name: values that stand below a client's own.

    A profile that is `like` another one has that one's values below its own.
    """
    text = resources.files("workers").joinpath("profiles.toml").read_text("utf-8")
    read: dict[str, dict[str, Any]] = tomllib.loads(text)
    return {name: {**read.get(it.pop("like", ""), {}), **it} for name, it in read.items()}


def config_path(given: str | os.PathLike[str] | None = None) -> Path | None:
    """The file that `load` reads, or None when there is none."""
    named = given or os.environ.get("HEADGATE_CONFIG")
    if named:
        return Path(named)
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def load(given: str | os.PathLike[str] | None = None) -> Settings:
    """Read the configuration.

    Raises:
        ConfigError: the file is missing, is no TOML, or a value in it is wrong.
    """
    path = config_path(given)
    _require_known_variables()
    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(
                f"configuration {path} cannot be read ({error.strerror}); correct the path"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"configuration {path} is not valid TOML: {error}") from None
    try:
        return Settings(**data)
    except ValidationError as error:
        raise ConfigError(f"configuration {path or '(environment)'}: {_reason(error)}") from None
    except SettingsError:
        raise ConfigError(
            "environment: HEADGATE_STORE, HEADGATE_WORKER, HEADGATE_CLIENTS, or a variable below "
            "them is not valid JSON; correct it, or set single values: HEADGATE_STORE__URL"
        ) from None


def _require_known_variables() -> None:
    """Refuse a misspelt section; a variable without "__" may be anything's, a secret's too."""
    for variable in os.environ:
        section, nested, _ = variable.upper().removeprefix("HEADGATE_").partition("__")
        if variable.upper().startswith("HEADGATE_") and nested:
            try:
                _require_known([section.lower()], Settings.model_fields)
            except ValueError as error:
                raise ConfigError(f"environment: {variable}: {error}") from None


def _reason(error: ValidationError) -> str:
    """The first problem, with its place; never the value, which may be a secret."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")
