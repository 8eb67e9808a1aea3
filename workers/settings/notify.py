"""Who is told of events: a command of this machine, or a URL whose requests are signed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from workers.settings.redis_url import is_loopback
from workers.settings.values import Model, SecretUrl, read_secret

if TYPE_CHECKING:
    from pydantic import SecretStr


class NotifySettings(Model):
    """Where notices go; neither a command nor a URL: there are none."""

    #: Program and arguments, as a list or as a shell would split the text; no shell runs it.
    command: str | tuple[str, ...] = ()
    url: SecretUrl | None = None  #: https://; services put what lets a request in into its path
    secret_env: str | None = None  #: variable that holds the secret of the signature, or
    secret_file: Path | None = None  #: file that holds it
    ca_file: Path | None = None  #: own certificate authority of the URL's host

    @field_validator("command")
    @classmethod
    def _split(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        try:
            words = tuple(shlex.split(value)) if isinstance(value, str) else value
        except ValueError:
            raise ValueError("has a quote that is not closed; close it, or write a list") from None
        program = Path(words[0] if words else "")
        if len(program.parts) > 1 and not program.is_absolute():
            raise ValueError("must name its program by an absolute path, or by a name in PATH")
        if value and not (words and words[0]):
            raise ValueError("names no program; write one, or leave the key out")
        return words

    @model_validator(mode="after")
    def _one_way(self) -> NotifySettings:
        of_url = [key for key in ("secret_env", "secret_file", "ca_file") if getattr(self, key)]
        if self.command and self.url:
            raise ValueError("has both command and url; keep one of them")
        if of_url and not self.url:
            raise ValueError(f"{of_url[0]} goes with url; set url, or remove {of_url[0]}")
        if self.url and not (self.secret_env or self.secret_file):
            raise ValueError("url needs the secret of its signature; set secret_env or secret_file")
        if self.secret_env and self.secret_file:
            raise ValueError("the secret stands in two places; keep secret_env or secret_file")
        scheme = urlsplit(self.url.get_secret_value()).scheme if self.url else "https"
        if scheme != "https" and not is_loopback(self.host):
            raise ValueError("url must start with https://; http:// is for this machine alone")
        return self

    @property
    def is_on(self) -> bool:
        """Whether anybody is told."""
        return bool(self.command or self.url)

    @property
    def argv(self) -> tuple[str, ...]:
        """The command's words; none where a URL is told."""
        return tuple(self.command)

    @property
    def host(self) -> str:
        """The URL's host, which may be shown; "" = there is no URL."""
        return (urlsplit(self.url.get_secret_value()).hostname or "") if self.url else ""

    def secret(self) -> SecretStr:
        """The secret of the signature, read anew at each call.

        Raises:
            ConfigError: the variable or file that should hold it does not.
        """
        return read_secret("notify", "secret", self.secret_env, self.secret_file)
