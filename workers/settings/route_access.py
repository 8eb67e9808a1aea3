"""How a client's provider is reached: its URL, the proxy before it, certificates of both sides."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from workers.settings.secret_source import read_secret
from workers.settings.urls import BaseUrl, ProxyUrl
from workers.settings.values import NAME, Model


class RouteSettings(Model):
    """The part of a client's configuration that is about the way to its provider.

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
