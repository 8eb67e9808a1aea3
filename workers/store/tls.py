"""Certificates of a store or broker: whether ours can be used, and whether we trust the server's.

redis-py and kombu shake hands by themselves; nothing here is needed for that. It says beforehand,
in a sentence, what they would only log.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, Never

from workers.errors import ConfigError, StoreAway
from workers.handshake import Names, await_refusal, describe_failure
from workers.settings.redis_url import read_redis_url

if TYPE_CHECKING:
    from workers.settings.redis_url import RedisServer

#: How a URL calls what a user can set.
NAMES: Final = Names("ssl_ca_certs", "ssl_certfile")
#: Seconds until a handshake counts as failed.
TIMEOUT_S: Final = 5.0


def require_usable(url: str) -> RedisServer:
    """Read the URL of a server, whose certificates and keys are there and can be used.

    Raises:
        ConfigError: one cannot.
    """
    server = read_redis_url(url)
    if server.tls:
        _context(server.tls)
    return server


def require_trusted(url: str) -> None:
    """Shake hands with a server of `rediss://`, and say nothing more.

    A server of `redis://` shakes no hands.

    Raises:
        ConfigError: as `require_usable`.
        StoreAway: the server cannot be reached, one of the two does not accept the other's
            certificate, or the server demands one.
    """
    server = read_redis_url(url)
    if server.tls is None:
        return
    context = _context(server.tls)
    try:
        with (
            socket.create_connection((server.host, server.port), TIMEOUT_S) as taken,
            context.wrap_socket(taken, server_hostname=server.host) as secure,
        ):
            await_refusal(secure)
    except OSError as error:
        reason = describe_failure(error, NAMES) or (error.strerror or type(error).__name__).lower()
        raise StoreAway(f"there is no connection to the store: {reason}") from None


def _context(tls: dict[str, Any]) -> ssl.SSLContext:
    """Build what redis-py builds for each connection."""
    context = ssl.create_default_context()
    context.minimum_version = tls["ssl_min_version"]
    context.check_hostname = tls["ssl_check_hostname"]
    context.verify_mode = tls["ssl_cert_reqs"]
    name = "ssl_ca_certs"
    try:
        if name in tls:
            context.load_verify_locations(tls[name])
        name = "ssl_certfile"
        if name in tls:
            context.load_cert_chain(tls[name], tls.get("ssl_keyfile"), _no_password)
    except OSError as error:
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise _unusable(name, tls, (why or "no PEM").replace("_", " ").lower()) from None
    except _EncryptedError:
        raise _unusable(name, tls, "the key is encrypted") from None
    return context


class _EncryptedError(Exception):
    """A key is encrypted."""


def _no_password() -> Never:
    """Refuse, where OpenSSL would ask at the terminal."""
    raise _EncryptedError


def _unusable(name: str, tls: dict[str, Any], why: str) -> ConfigError:
    key = tls.get("ssl_keyfile") if name == "ssl_certfile" else None
    both = f"{tls[name]} with the key in {key}" if key else tls[name]
    return ConfigError(f"{name} {both} cannot be used ({why}); correct it in the rediss:// URL")
