"""How a client reaches its provider and proves who it is.

The form of authentication and what it needs; the URL, the proxy before it, certificates of both
sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from workers.settings.values import (
    NAME,
    RESERVED,
    BaseUrl,
    HostPattern,
    HttpUrl,
    Model,
    ProxyUrl,
    read_secret,
)

Auth = Literal["none", "client_credentials", "access_key", "password", "bearer", "api_key"]

#: What each form needs; a secret `x` stands in `x_env` or `x_file`.
NEEDS: Final[dict[Auth, tuple[str, ...]]] = {
    "none": (),
    "client_credentials": ("token_url", "client_id", "client_secret"),
    "access_key": ("token_url", "client_id", "client_secret"),
    "password": ("token_url", "client_id", "client_secret", "username", "password"),
    "bearer": ("client_secret",),
    "api_key": ("client_secret", "api_key_header"),
}
#: What it may have beside that. A client without a form may keep what it does not use.
MAY: Final[dict[Auth, tuple[str, ...]]] = {
    "none": ("token_url", "token_auth", "client_id", "client_secret"),
    "client_credentials": ("token_auth", "scope"),
    "access_key": (),
    "password": ("token_auth", "scope"),
    "bearer": (),
    "api_key": (),
}
#: Keys that stand for two of the configuration, which say where the secret is.
SECRETS: Final = ("client_secret", "password")
#: Every key and the forms that use it.
FORMS_OF: Final = {
    key: [form for form in NEEDS if form != "none" and key in NEEDS[form] + MAY[form]]
    for form in NEEDS
    for key in NEEDS[form] + MAY[form]
}
NO_PASSWORD: Final = SecretStr("")


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of a form; their repr shows nothing."""

    client: SecretStr
    password: SecretStr = NO_PASSWORD


class AuthSettings(Model):
    """The part of a client's configuration that says who it is."""

    name: str = Field(pattern=NAME)
    auth: Auth = "none"  #: where only `token_url` is given: "client_credentials"
    token_url: HttpUrl | None = None
    token_auth: Literal["basic", "form"] = Field("basic")  #: how the secret travels to token_url
    scope: str | None = None  #: as the provider writes it, words apart by spaces
    client_id: str | None = None  #: access_key: the key's id
    client_secret_env: str | None = None  #: bearer, api_key: the token or key itself
    client_secret_file: Path | None = None
    username: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    api_key_header: str | None = Field(None, pattern=r"^[A-Za-z0-9-]+$")

    @model_validator(mode="before")
    @classmethod
    def _derived(cls, data: object) -> object:
        if isinstance(data, dict) and "auth" not in data and data.get("token_url"):
            return {**data, "auth": "client_credentials"}
        return data

    @field_validator("api_key_header")
    @classmethod
    def _may_be_set(cls, value: str | None) -> str | None:
        if value and value.lower() in RESERVED | {"content-type"}:
            raise ValueError("belongs to the connection or is set by Headgate; name another header")
        return value

    @model_validator(mode="after")
    def _form_is_whole(self) -> AuthSettings:
        """Name a key that the form lacks, or one that it does not use."""
        for key in NEEDS[self.auth]:
            if not self._given(key):
                set_it = f"set {key}_env or {key}_file" if key in SECRETS else f"set {key}"
                raise ValueError(f'auth "{self.auth}" needs its {key}; {set_it}')
        used = NEEDS[self.auth] + MAY[self.auth]
        for key in FORMS_OF:
            if (given := self._given(key)) and key not in used:
                forms = " or ".join(f'"{form}"' for form in FORMS_OF[key])
                raise ValueError(
                    f'{given} goes with auth {forms}, not with "{self.auth}"; remove it, or '
                    f"choose another auth"
                )
        return self

    def _given(self, key: str) -> str:
        """The name under which a key was set to something, "" = it was not."""
        names = (f"{key}_file", f"{key}_env") if key in SECRETS else (key,)
        given = (name for name in names if name in self.model_fields_set and getattr(self, name))
        return next(given, "")

    def secrets(self) -> Secrets | None:
        """The secrets of the form, read anew at each call; None when it needs none.

        Raises:
            ConfigError: a variable or file that should hold one does not.
        """
        if self.auth == "none":
            return None
        if "password" not in NEEDS[self.auth]:
            return Secrets(self.secret())
        owner, variable, file = f"client {self.name}", self.password_env, self.password_file
        return Secrets(self.secret(), read_secret(owner, "password", variable, file))

    def secret(self) -> SecretStr:
        """The client secret, token or key; as `secrets`."""
        owner, variable = f"client {self.name}", self.client_secret_env
        return read_secret(owner, "client_secret", variable, self.client_secret_file)

    def names(self, *keys: str) -> str:
        """For a sentence: the keys as they stand in the configuration, joined by "and"."""
        *most, last = (self._given(key) or key for key in keys)
        return f"{', '.join(most)} and {last}" if most else last


class RouteSettings(Model):
    """The part of a client's configuration that says how its provider is reached.

    The token endpoint is reached in the same way.
    """

    name: str = Field(pattern=NAME)
    base_url: BaseUrl
    proxy: ProxyUrl | None = None  #: None: as the environment says; "none": none
    proxy_username: str | None = None
    proxy_password_env: str | None = None
    proxy_password_file: Path | None = None
    ca_file: Path | None = None  #: own certificate authority
    client_cert_file: Path | None = None  #: shown to a server that asks for it
    client_key_file: Path | None = None  #: None: the key stands in client_cert_file
    #: Beside its own host those to which a signed URL may lead: names, or "*." and a domain.
    upload_hosts: tuple[HostPattern, ...] = ()

    @model_validator(mode="after")
    def _way_is_whole(self) -> RouteSettings:
        password = self.proxy_password_env or self.proxy_password_file
        if (self.proxy_username or password) and self.proxy in {None, "none"}:
            raise ValueError("proxy_username and its password go with a proxy; set proxy")
        if self.proxy_username and not password:
            raise ValueError(
                "proxy_username needs its password; set proxy_password_env or proxy_password_file"
            )
        if password and not self.proxy_username:
            raise ValueError("the proxy's password needs a name; set proxy_username")
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("client_key_file needs its certificate; set client_cert_file")
        return self

    def proxy_password(self) -> SecretStr | None:
        """The proxy's password, read anew at each call; None when it wants none.

        Raises:
            ConfigError: the variable or file that should hold it does not.
        """
        if not self.proxy_username:
            return None
        return read_secret(
            f"client {self.name}",
            "proxy_password",
            self.proxy_password_env,
            self.proxy_password_file,
        )
