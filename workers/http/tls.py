"""Certificates: which ones the client trusts, and which one it shows."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from workers.errors import ConfigError
from workers.handshake import OLDEST_TLS, Names

if TYPE_CHECKING:
    from workers.settings.access import RouteSettings

#: How the configuration calls what a user can set.
NAMES: Final = Names("ca_file", "client_cert_file")
#: When a file was last changed, and which one it is.
_Stamp = tuple[int, int, int]


def tls_context(client: RouteSettings, authorities: str | None) -> ssl.SSLContext:
    """Build what a new connection needs; files that were changed meanwhile are read anew.

    Args:
        client: Whose `ca_file` and certificate it is.
        authorities: What the environment trusts, None = certifi's list.

    Raises:
        ConfigError: a file cannot be read or used.
    """
    shown, key = client.client_cert_file, client.client_key_file or client.client_cert_file
    file, remedy = client.ca_file or Path(authorities or DEFAULT_CA_BUNDLE_PATH), "ca_file"
    try:
        trust = (file, _stamp(file))
        context = _context(trust, None)
        if shown and key:
            file, remedy = shown, "client_cert_file"
            stamp = _stamp(shown)
            file, remedy = key, "client_key_file"
            context = _context(trust, (shown, stamp, key, _stamp(key)))
    except _Unusable as error:
        raise ConfigError(
            f"client {client.name}: {shown} with the key in {key} is no client certificate "
            f"({error}); correct client_cert_file or client_key_file"
        ) from None
    except OSError as error:
        if file != client.ca_file and remedy == "ca_file":
            remedy = "REQUESTS_CA_BUNDLE, or set ca_file"
        raise ConfigError(
            f"client {client.name}: {file} cannot be read ({error.strerror or error}); "
            f"correct {remedy}"
        ) from None
    return context


class _Unusable(Exception):
    """Certificate and key cannot be used together; the text is a few words."""


def _stamp(file: Path) -> _Stamp:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


@lru_cache(maxsize=64)
def _context(
    trust: tuple[Path, _Stamp], shown: tuple[Path, _Stamp, Path, _Stamp] | None
) -> ssl.SSLContext:
    authorities = trust[0]
    if authorities.is_dir():
        context = ssl.create_default_context(capath=authorities)
    else:
        context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = OLDEST_TLS
    if shown:
        certificate, _, key, _ = shown
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except ssl.SSLError as error:
            raise _Unusable((error.reason or "no PEM").replace("_", " ").lower()) from None
    return context


def _no_password() -> Never:
    """Refuse, where OpenSSL would ask at the terminal."""
    raise _Unusable("the key is encrypted")
