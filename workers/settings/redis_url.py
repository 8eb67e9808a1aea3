"""The URL of a Redis server, and the connection that it describes.

The store's client and Celery's transport have rules of their own for what stands behind the "?" of
such a URL. Here it is read once for both, so that both connect, and verify, alike. What only one of
them would understand is refused. No error shows a value, for it may be a secret.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

import redis
from pydantic import AfterValidator, SecretStr

from workers.handshake import OLDEST_TLS
from workers.settings.values import require_host

DEFAULT_PORT: Final = 6379
#: The longest time of an option: a day.
MOST_S: Final = 86_400
#: What a connection that verifies its server is given.
VERIFIED: Final = {
    "ssl_cert_reqs": ssl.CERT_REQUIRED,
    "ssl_check_hostname": True,
    "ssl_min_version": OLDEST_TLS,
}
#: Options of TLS.
_TLS: Final = (
    "ssl_cert_reqs",
    "ssl_check_hostname",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
)
#: Options in seconds.
_SECONDS: Final[tuple[str, ...]] = (
    "socket_timeout",
    "socket_connect_timeout",
    "health_check_interval",
)
_FORM: Final = (
    "must be redis://[[user]:password@]host[:port][/number], or rediss:// with TLS; "
    "write special characters of the password as %23 for #, %2F for /, %3F for ?, %40 for @"
)
#: redis-py's spelling, and Celery's behind CERT_. A server always shows a certificate, so that
#: whoever connects verifies an optional one as well.
_VERIFIES: Final = {"required": True, "optional": True, "none": False}
_TRUTHS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server and how to connect to it."""

    url: str = field(repr=False)  #: without options; it may hold a password
    host: str
    port: int
    #: TLS, under the names of redis-py, which are also those of Celery's `broker_use_ssl`; None =
    #: the connection is not encrypted.
    tls: dict[str, Any] | None
    seconds: dict[str, float]  #: timeouts

    @property
    def place(self) -> str:
        """Where the data are: host, port and number, without user and password."""
        number = int(urlsplit(self.url).path.strip("/") or 0)
        return f"{self.host}:{self.port}/{number}"

    @property
    def verifies(self) -> bool:
        """Whether a server with a wrong certificate, or one of another name, is refused."""
        return self.tls is None or self.tls.items() >= VERIFIED.items()


def read_redis_url(url: str) -> RedisServer:
    """Read the URL of a server.

    Raises:
        ValueError: it is none, or an option of it is not known or cannot be used. The text names
            the option and shows no value.
    """
    try:
        parts = urlsplit(url)
        # kombu would take what stands behind a ";" for a second broker.
        netloc = parts.netloc.replace(";", "%3B")
        bare = parts._replace(netloc=netloc, query="").geturl()
        redis.ConnectionPool.from_url(bare).make_connection()  # this opens nothing
        # A special character that is not quoted ends the password early, without an error.
        whole = re.fullmatch(r"/?[0-9]*", parts.path) and not parts.fragment
    except (ValueError, TypeError, redis.RedisError):
        raise ValueError(_FORM) from None
    secure = parts.scheme == "rediss"
    if not (secure or parts.scheme == "redis") or not parts.hostname or not whole:
        raise ValueError(_FORM)
    if "@" in parts.query:
        raise ValueError(_FORM)
    require_host(parts.hostname)
    try:
        given = _options(parts.query, secure=secure)
        seconds = {name: _seconds(name, given.pop(name)) for name in _SECONDS if name in given}
        tls = _tls(given) if secure else None
    except ValueError as error:
        raise ValueError(f"{_FORM}; {error}") from None
    return RedisServer(bare, parts.hostname, parts.port or DEFAULT_PORT, tls, seconds)


@lru_cache(maxsize=8)  # each look at an installation asks for it
def place_of(url: str) -> str:
    """Where the data of a server are, see `RedisServer.place`; raises as `read_redis_url`."""
    return read_redis_url(url).place


def _options(query: str, *, secure: bool) -> dict[str, str]:
    """The options by name; refuses one that is not known or is given twice."""
    given: dict[str, str] = {}
    known = (*_TLS, *_SECONDS) if secure else _SECONDS
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _TLS and not secure:
            raise ValueError(f"its option {name} goes with rediss:// alone")
        if name not in known:
            raise ValueError(f"its option {name!r} is unknown; there are {', '.join(known)}")
        if name in given or not value:
            raise ValueError(f"its option {name} must be given once, with a value")
        if not value.isprintable():
            raise ValueError(f"its option {name} must not hold a control character")
        given[name] = value
    return given


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MOST_S:
        raise ValueError(f"its option {name} must be a number of seconds, above 0 and up to a day")
    return seconds


def _tls(given: dict[str, str]) -> dict[str, Any]:
    """TLS with everything stated that a library could have a default of its own for."""
    requires = given.pop("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    checks = given.pop("ssl_check_hostname", "true").lower()
    if requires not in _VERIFIES:
        raise ValueError("its option ssl_cert_reqs must be required, optional or none")
    if checks not in _TRUTHS:
        raise ValueError("its option ssl_check_hostname must be true or false")
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ValueError("its option ssl_keyfile needs ssl_certfile")
    verifies = _VERIFIES[requires]
    return {
        "ssl_cert_reqs": ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE,
        "ssl_check_hostname": verifies and _TRUTHS[checks],
        "ssl_min_version": OLDEST_TLS,
        **given,
    }


def require_verified(name: str, url: SecretStr | None) -> None:
    """Refuse a URL that turns off the verification of another machine's certificate.

    Raises:
        ValueError: it does.
    """
    server = read_redis_url(url.get_secret_value()) if url else None
    if server and not server.verifies and not is_loopback(server.host):
        raise ValueError(
            f"{name} turns off the verification of the certificate of {server.host}, so that "
            f"anybody in between could read the password; remove ssl_cert_reqs and "
            f"ssl_check_hostname, name your own authority in ssl_ca_certs, or state "
            f"accept_unverified_tls = true"
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def with_password(url: str, password: str) -> str:
    """Put a password into a Redis URL that has none."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


def _readable(value: SecretStr) -> SecretStr:
    read_redis_url(value.get_secret_value())
    return value


RedisUrl = Annotated[SecretStr, AfterValidator(_readable)]
