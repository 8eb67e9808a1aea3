"""The configuration: one TOML file, every value overridable by environment, checked when read.

`load()` reads `--config`, `HEADGATE_CONFIG`, or the nearest `headgate.toml` of the current folder
and those above it, in this order (`workers.settings.place`). An environment
variable overrides a value by its path: `HEADGATE_STORE__URL`, `HEADGATE_WORKER__CONCURRENCY`,
`HEADGATE_CLIENTS__ACME__BASE_URL`. No error shows a value: it may be a secret.
"""

from __future__ import annotations

import os
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from workers.errors import ConfigError
from workers.settings.client import ClientSettings, with_profile
from workers.settings.environment import Environment
from workers.settings.notify import NotifySettings
from workers.settings.place import find_file, find_folder
from workers.settings.redis_url import RedisUrl, require_verified, with_password
from workers.settings.small_file import read_small_file
from workers.settings.values import (
    NAME,
    Model,
    Seconds,
    read_secret,
    require_known,
)

#: What an error shows of a line that is no TOML: the name of a table, or of a value without it.
_LINE_START: Final = re.compile(r"\s*(\[[\w.\- ]{0,64}\]*|[\w.\- ]{1,64}=)")


class StoreSettings(Model):
    """Where ledger, governor and jobs live, and where the bells go."""

    url: RedisUrl | None = None  #: redis:// or rediss://; None starts the embedded store
    broker_url: RedisUrl | None = None  #: None: the store's server
    password_env: str | None = None  #: variable that holds the password of `url`, or
    password_file: Path | None = None  #: file that holds it; both None: it stands in `url`
    broker_password_env: str | None = None  #: the same of `broker_url`
    broker_password_file: Path | None = None
    data_dir: Path = Path(".headgate")
    """Folder of the embedded store, and of what this machine remembers of its store; relative to
    the folder of the configuration file, or looked for upwards where there is none."""
    namespace: str = Field("headgate", pattern=NAME)  #: first part of every key
    accept_everysec: bool = False  #: run guards `none` and `lookup` on appendfsync everysec
    durable: Literal["always", "everysec"] | None = None
    """What the operator states where the store does not allow CONFIG GET."""
    accept_unverified_tls: bool = False
    """Whether a URL may turn off the verification of certificates beyond this machine."""
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """The configuration that was read; None = there was no file."""
        return self._file

    def at(self, data_dir: Path, file: Path | None) -> StoreSettings:
        """The same with its data in this folder, as it was read from this configuration."""
        placed = self.model_copy(update={"data_dir": data_dir})
        placed._file = file  # noqa: SLF001 -- it is one of its own kind
        return placed

    @model_validator(mode="after")
    def _certificates_are_verified(self) -> StoreSettings:
        """Nobody turns verification off by a word in a URL that was copied from elsewhere."""
        if not self.accept_unverified_tls:
            require_verified("url", self.url)
            require_verified("broker_url", self.broker_url)
        return self

    @model_validator(mode="after")
    def _password_has_its_url(self) -> StoreSettings:
        """A password is for a server of one's own, and stands in one place."""
        for name, of in (("url", ""), ("broker_url", "broker_")):
            url: SecretStr | None = getattr(self, name)
            keys = (f"{of}password_env", f"{of}password_file")
            given = [key for key in keys if getattr(self, key)]
            if not given:
                continue
            if url is None:
                raise ValueError(f"{given[0]} goes with {name}; set it, or remove {given[0]}")
            if len(given) > 1 or urlsplit(url.get_secret_value()).password:
                server = "broker" if of else "store"
                raise ValueError(
                    f"the password of the {server} stands in two places; keep one of them"
                )
        return self

    def server_url(self) -> str | None:
        """The URL of the user's own server with its password; None = the embedded store.

        Raises:
            ConfigError: the variable or file that should hold the password does not.
        """
        return _with_secret(self.url, "password", self.password_env, self.password_file)

    def server_url_of_broker(self) -> str | None:
        """The URL of the broker with its password; None = the store's; raises as `server_url`."""
        variable, file = self.broker_password_env, self.broker_password_file
        return _with_secret(self.broker_url, "broker_password", variable, file)


def _with_secret(
    url: SecretStr | None, key: str, variable: str | None, file: Path | None
) -> str | None:
    """A URL with the password that stands elsewhere, where one does."""
    if url is None:
        return None
    if not (variable or file):
        return url.get_secret_value()
    password = read_secret("store", key, variable, file)
    return with_password(url.get_secret_value(), password.get_secret_value())


class WorkerSettings(Model):
    """How a worker runs and how long the fleet waits for it."""

    concurrency: int = Field(32, ge=1, le=1000)  #: threads of one worker process
    bell_grace_s: Seconds = 3.0  #: an unanswered bell is rung again after this
    lease_margin_s: Seconds = 5.0  #: lease = total deadline of the call + this
    backlog_after_s: Seconds = 15.0  #: a longer backoff waits in the backlog, not in Celery
    tick_s: float = Field(0.025, ge=0.005, le=1)  #: shortest time between two rings of a client
    max_crashes: int = Field(3, ge=1)  #: deaths under one transaction before it is a dead letter
    media_root: Path | None = None
    """Folder below which all media files lie, under the same names on every machine that submits or
    transfers; None: files are known by their whole path."""
    events: bool = False  #: send task events from the start; else Flower turns them on


class FlowerSettings(Model):
    """Who may look at `headgate flower`."""

    user: str = Field("headgate", pattern=NAME)  #: name of the login
    password_env: str | None = None  #: variable that holds its password, or
    password_file: Path | None = None  #: file that holds it; both None: one is made

    def password(self) -> SecretStr | None:
        """The password that was set, None = none was.

        Raises:
            ConfigError: the variable or file that should hold it does not.
        """
        if not (self.password_env or self.password_file):
            return None
        return read_secret("flower", "password", self.password_env, self.password_file)


class Settings(BaseSettings):
    """The whole configuration, frozen."""

    model_config = SettingsConfigDict(
        env_prefix="HEADGATE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    store: StoreSettings = StoreSettings()
    worker: WorkerSettings = WorkerSettings()
    flower: FlowerSettings = FlowerSettings()
    notify: NotifySettings = NotifySettings()
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
        del env_settings, dotenv_settings, file_secret_settings
        return (_Sections(settings_cls, Environment(settings_cls)), init_settings)

    @model_validator(mode="before")
    @classmethod
    def _fill_clients(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Give each client its name and, below its own values, those of its profile."""
        require_known(data, cls.model_fields)
        clients = data.get("clients")
        if isinstance(clients, dict):
            data = {
                **data,
                "clients": {name: with_profile(name, given) for name, given in clients.items()},
            }
        return data

    @model_validator(mode="after")
    def _own_clients(self) -> Settings:
        """A tenant's own client is there, is another one, and is where it ends."""
        for name, client in self.clients.items():
            for tenant, settings in client.tenants.items():
                own = settings.client
                if own is None:
                    continue
                place = f"clients.{name}.tenants.{tenant}.client"
                if own == name:
                    raise ValueError(f"{place}: is this client itself; leave it out")
                if own not in self.clients:
                    near = get_close_matches(own, self.clients, 1)
                    hint = f"did you mean {near[0]!r}?" if near else f"add [clients.{own}]"
                    raise ValueError(f"{place}: there is no client {own!r}; {hint}")
                there = self.clients[own].tenants.get(tenant)
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
    """The sections that the environment sets.

    Other HEADGATE_ variables (HEADGATE_CONFIG, secrets of clients) are left out.
    """

    def __init__(self, cls: type[BaseSettings], env: PydanticBaseSettingsSource) -> None:
        super().__init__(cls, {k: v for k, v in env().items() if k in Settings.model_fields})


def load(given: str | os.PathLike[str] | None = None) -> Settings:
    """Read the configuration, as the head of this module says.

    Raises:
        ConfigError: there is none, the file is missing or no TOML, or a value in it is wrong.
    """
    path = find_file(given)
    _require_known_variables()
    data = {} if path is None else _read(path)
    try:
        settings = Settings(**data)
    except ValidationError as error:
        raise ConfigError(f"configuration {path or '(environment)'}: {_reason(error)}") from None
    except (SettingsError, RecursionError):
        raise ConfigError(
            "environment: HEADGATE_STORE, HEADGATE_WORKER, HEADGATE_FLOWER, HEADGATE_NOTIFY, "
            "HEADGATE_CLIENTS, or a variable below them is not valid JSON, or nested too deeply; "
            "correct it, or set single values: HEADGATE_STORE__URL"
        ) from None
    folder = find_folder(settings.store.data_dir, path, in_environment=_environment_sets_values())
    return settings.model_copy(update={"store": settings.store.at(folder, path)})


def _read(path: Path) -> dict[str, Any]:
    try:
        text = read_small_file(path)
    except OSError as error:
        raise ConfigError(
            f"configuration {path} cannot be read ({error.strerror}); correct the path"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"configuration {path} is not UTF-8 (byte {error.start + 1}); save it as UTF-8"
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"configuration {path} is not valid TOML: {error}{_show_line(text, str(error))}"
        ) from None
    except (ValueError, RecursionError):  # tomllib does not say where
        raise ConfigError(
            f"configuration {path} cannot be read: a value is nested too deeply, or a number has "
            f"thousands of digits; correct it"
        ) from None


def _show_line(text: str, error: str) -> str:
    """What stands in the line of which a TOML error speaks, without its value."""
    number = re.search(r"at line (\d+)", error)
    if not number:
        return ""
    line = "".join(text.splitlines()[int(number[1]) - 1 : int(number[1])])
    start = _LINE_START.match(line)
    return f", in: {start[0].strip()} \N{HORIZONTAL ELLIPSIS}" if start else ""


def _environment_sets_values() -> bool:
    """Whether the environment configures anything, beside the name of the file."""
    sections = (name.upper().removeprefix("HEADGATE_").partition("__")[0] for name in _variables())
    return any(section.lower() in Settings.model_fields for section in sections)


def _variables() -> list[str]:
    return [name for name in os.environ if name.upper().startswith("HEADGATE_")]


def _require_known_variables() -> None:
    """Refuse a misspelt section; a variable without "__" may belong to anything."""
    for variable in _variables():
        section, nested, _ = variable.upper().removeprefix("HEADGATE_").partition("__")
        if nested:
            try:
                require_known([section.lower()], Settings.model_fields)
            except ValueError as error:
                raise ConfigError(f"environment: {variable}: {error}") from None


def _reason(error: ValidationError) -> str:
    """The first problem, with its place; never the value, which may be a secret."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")
