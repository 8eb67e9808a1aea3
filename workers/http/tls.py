"""Certificates: which ones the client trusts, which one it shows, and how a server refuses that."""

from __future__ import annotations

import re
import ssl
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.wait import wait_for_read

from workers.errors import ConfigError

if TYPE_CHECKING:
    from workers.settings.access import RouteSettings

#: How long a new connection waits for the server's word on the certificate that it was shown.
ACCEPTED_S: Final = 0.2
#: Alerts with which a server refuses the certificate of a client, or that it showed none.
_REFUSED = re.compile(
    r"ALERT_(CERTIFICATE_REQUIRED|NO_CERTIFICATE|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|"
    r"CERTIFICATE_REVOKED|CERTIFICATE_EXPIRED|CERTIFICATE_UNKNOWN|UNKNOWN_CA|ACCESS_DENIED)$"
)
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


def await_refusal(sock: ssl.SSLSocket) -> None:
    """Wait for what a server says to the certificate that it was shown.

    With TLS 1.3 the handshake is over for the client before the server has looked at the
    certificate. A server that takes it sends session tickets as a rule, one that does not sends an
    alert. Here nothing was admitted yet; later the alert would stand in place of an answer.

    Args:
        sock: A connection after its handshake; urllib3's TLS within TLS has the same methods.

    Raises:
        OSError: it was not accepted, or the connection was closed.
    """
    if sock.version() != "TLSv1.3" or not wait_for_read(sock, ACCEPTED_S):
        return
    sock.settimeout(0)
    try:
        data = sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return  # tickets
    raise ConnectionResetError(0, "closed after the handshake" if not data else "spoke unasked")


def refusal(error: BaseException) -> str | None:
    """A few words when the error is a server's refusal of the client's certificate, else None.

    Such an alert ends the handshake: the server did not look at what was sent behind it.
    """
    reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
    alert = _REFUSED.search(reason or "")
    if not alert:
        return None
    words = alert[1].replace("_", " ").lower()
    return f"the server does not accept the client certificate: {words}; check client_cert_file"


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
