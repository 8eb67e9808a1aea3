"""What every part of the configuration is made of: a frozen model, names, secrets and URLs.

No error of a value shows it: it may be a secret.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Final, get_args
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from workers.errors import ConfigError
from workers.settings.small_file import read_small_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: Names that may stand in store keys, messages and headers.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
#: A span of time that a person would wait for.
Seconds = Annotated[float, Field(gt=0, le=86_400)]
#: Headers that belong to the connection, or that Headgate sets on each request.
RESERVED: Final = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    )
)
#: One label of a host's name, and a host, or all hosts below a domain of two labels or more.
_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_HOST_PATTERN: Final = re.compile(rf"(?:\*\.{_LABEL}\.)?{_LABEL}(?:\.{_LABEL})*")
#: What is no name of the public network: an address (its last label is a number), or loopback.
_NO_NAME: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*|localhost)")
#: Characters of a path in the configuration.
MOST_PATH: Final = 2_048
_PATH: Final = re.compile(r"/[\x21\x22\x24-\x7e]*")  # printable ASCII, no space and no fragment
#: A segment `.` or `..`; servers differ in what ends a segment, and in when they unquote it.
_CLIMBS: Final = re.compile(r"[/\\]\.{1,2}([/\\;]|$)")


class Model(BaseModel):
    """A section of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: object) -> object:
        """Say what else the key could be."""
        if isinstance(data, dict):
            require_known(data, cls.model_fields)
        return data

    @field_validator("*", mode="before")
    @classmethod
    def _plain_values(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what pydantic would take for a number, and what no system call can take."""
        texts = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(text, str) and "\0" in text for text in texts):
            raise ValueError("must not hold a NUL character")
        if isinstance(value, bool):
            annotation = cls.model_fields[str(info.field_name)].annotation
            if {int, float} & {annotation, *get_args(annotation)}:
                raise ValueError("must be a number, not true or false")
        return value


def require_known(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a key that is none of the known ones with a `ValueError` that names the nearest."""
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"unknown key {key!r}; {hint}")


def require_plain(what: str, name: str) -> None:
    """Refuse a name that may not stand in store keys, messages and headers."""
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"{what} {name!r}: use at most 64 letters, digits, dots, dashes and underscores"
        )


def read_secret(owner: str, key: str, variable: str | None, file: Path | None) -> SecretStr:
    """Read a secret as it is now: a changed file counts without a restart.

    Args:
        owner: Whose it is, as messages say it: "client acme".
        key: What it is called in the configuration, without `_env` and `_file`.
        variable: The environment variable that holds it.
        file: The file that holds it, instead; spaces and line ends around the secret do not count.

    Raises:
        ConfigError: the variable or file does not hold it; the text never shows its content.
    """
    if file:
        try:
            value = read_small_file(file).strip()
        except (OSError, ValueError) as error:  # ValueError: no path, or no text
            reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
            raise ConfigError(
                f"{owner}: {key}_file {file} cannot be read ({reason}); create it or "
                f"correct the path"
            ) from None
        if not value:  # also what one sees who reads while it is being written
            raise ConfigError(f"{owner}: {key}_file {file} is empty; put the {_words(key)} there")
        return SecretStr(value)
    value = os.environ.get(variable or "", "")
    if not value:
        raise ConfigError(
            f"{owner}: the environment variable {variable} is not set; put the {_words(key)} there"
        )
    if not is_text(value):
        raise ConfigError(
            f"{owner}: the environment variable {variable} holds bytes that are no UTF-8; put the "
            f"{_words(key)} there, or use {key}_file"
        )
    return SecretStr(value)


def is_text(value: str) -> bool:
    """Whether a value of the environment can be sent; bytes that are no UTF-8 stand as halves."""
    return not any("\ud800" <= mark <= "\udfff" for mark in value)


def _words(key: str) -> str:
    return key.replace("_", " ")


def require_host(host: str | None) -> None:
    """Refuse what no resolver takes with a `ValueError`: an empty label, or one of over 63."""
    try:
        (host or "").encode("idna")
    except UnicodeError:
        raise ValueError("its host is no name that can be looked up; correct it") from None


def require_path(path: str) -> str:
    """Refuse with a `ValueError` what is no path, with its query, below a base URL."""
    if not _PATH.fullmatch(path):
        raise ValueError('the path must begin with "/" and be printable ASCII; quote the rest')
    if _CLIMBS.search(unquote(path.partition("?")[0])):
        raise ValueError('the path must have no segment "." or ".."; write where it leads to')
    return path


def _path_of_host(value: str) -> str:
    if "//" in value.partition("?")[0] or len(value) > MOST_PATH:
        raise ValueError(f'the path must not hold "//", nor more than {MOST_PATH:,} characters')
    return require_path(value)


def _http_url(value: str) -> str:
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        raise ValueError("must not hold spaces or control characters")
    try:
        url = urlsplit(value)
        _ = url.port  # raises where it is no port
        require_host(url.hostname)
    except ValueError:
        raise ValueError("cannot be read as a URL; correct its host or port") from None
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must start with http:// or https:// and a host")
    if "@" in url.netloc:
        raise ValueError("must not hold a user or password; leave out what stands before the @")
    if url.fragment:
        raise ValueError("must not hold a fragment; leave out the # and what follows")
    return value.rstrip("/")


def _secret_url(value: SecretStr) -> SecretStr:
    _http_url(value.get_secret_value())
    return value


def _base_url(value: str) -> str:
    if "?" in value:
        raise ValueError("must not hold a query; leave out the ? and what follows")
    return value


def _proxy_url(value: str) -> str:
    if value == "none":
        return value
    if "@" in value:
        raise ValueError("must not hold a user or password; use proxy_username and its password")
    url = _http_url(value)
    if urlsplit(url).path or "?" in url:
        raise ValueError("must end after its host and port; leave out what follows")
    return url


def _host_pattern(value: str) -> str:
    low = value.lower()
    if not _HOST_PATTERN.fullmatch(low) or _NO_NAME.fullmatch(low):
        raise ValueError(
            "must be a host such as files.example.com, or all below a domain: *.files.example.com; "
            "no address, and not this machine"
        )
    return low


HttpUrl = Annotated[str, AfterValidator(_http_url)]
#: A URL whose path may hold what lets a request in; it is kept as it was given.
SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url)]
BaseUrl = Annotated[HttpUrl, AfterValidator(_base_url)]
HostPattern = Annotated[str, AfterValidator(_host_pattern)]
PathOfHost = Annotated[str, AfterValidator(_path_of_host)]
ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]
