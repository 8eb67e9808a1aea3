"""Where a URL may lead that an answer names, and not the configuration.

What such a URL gets is a file of the user's, and nothing of the client's credentials. It may lead
to the client's own host, and by https to the hosts of `upload_hosts`. Behind a name of those no
address of an inner network is connected to: the addresses are looked up once, and the one that was
checked is the one that is used.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from urllib3.util.connection import create_connection

if TYPE_CHECKING:
    from workers.settings.access import RouteSettings

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: What a host looks like that can be one of `upload_hosts`.
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9])?")
#: Prefixes of IPv6 in whose last 32 bits stands the IPv4 address that is meant (NAT64).
_TRANSLATED: Final = (
    ipaddress.IPv6Network("64:ff9b::/96"),
    ipaddress.IPv6Network("64:ff9b:1::/96"),
)
#: The addresses of IPv6 that are given out for the public network.
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
#: Of those, one that is kept for documentation; not every Python knows it.
_DOCUMENTATION: Final = ipaddress.IPv6Network("3fff::/20")
#: The middle of an address of IPv6 in whose last 32 bits stands one of an inner network (ISATAP).
_ISATAP: Final = (bytes.fromhex("00005efe"), bytes.fromhex("02005efe"))
#: Addresses that look public, under which clouds tell their machines about themselves.
_METADATA: Final = (
    ipaddress.IPv4Network("168.63.129.16/32"),
    ipaddress.IPv4Network("192.0.0.0/24"),
)
#: The way of 6to4 into IPv6, which nobody keeps any more.
_RELAYS: Final = ipaddress.IPv4Network("192.88.99.0/24")
#: As urllib3 sets them.
_OPTIONS: Final[list[tuple[int, int, int | bytes]]] = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


class NotAllowed(ValueError):
    """A URL of an answer leads to where nothing may go; the text holds its host alone."""


class Destination(NamedTuple):
    """Where a signed URL leads."""

    origin: str  #: scheme, host and port
    path: str  #: with the query
    is_own: bool  #: it is a host of the client's base_url, which may have any address


def find_destination(url: str, client: RouteSettings) -> Destination:
    """Take a URL of an answer apart, and see to it that it leads where it may.

    Raises:
        NotAllowed: it is no URL, is not one of https, or its host is none of the client's.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:  # its text holds the URL
        raise NotAllowed("it cannot be read as a URL") from None
    own = urlsplit(client.base_url)
    is_own = _is_same_host(host, own)
    if parts.scheme != "https" and not (is_own and parts.scheme == own.scheme):
        raise NotAllowed("it is not one of https")
    if "@" in parts.netloc:
        raise NotAllowed("it must not hold a user or password")
    if not is_own:
        _require_listed(host, client)
    place = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{place}" + (f":{port}" if port is not None else "")
    query = f"?{parts.query}" if parts.query else ""
    return Destination(origin, f"{parts.path or '/'}{query}", is_own)


def _is_same_host(host: str, own: SplitResult) -> bool:
    """Whether it is the client's own host; on loopback, where a sandbox is, any name of that."""
    own_host = own.hostname or ""
    return host == own_host.rstrip(".") or (_is_loopback(own_host) and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_listed(host: str, client: RouteSettings) -> None:
    if not _HOST.fullmatch(host):
        raise NotAllowed("its host is no name that can be one of upload_hosts")
    for listed in client.upload_hosts:
        if host == listed or (listed.startswith("*.") and host.endswith(listed[1:])):
            return
    raise NotAllowed(
        f"its host {host} is none of upload_hosts of client {client.name}; add it there if it is "
        f"your provider's"
    )


def is_public(text: str) -> bool:
    """Whether an IP address is one of the public network, as far as it can be told from it.

    Example:
        >>> is_public("8.8.8.8"), is_public("10.0.0.1"), is_public("::ffff:169.254.169.254")
        (True, False, False)
    """
    address: _Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = _unwrap(address)
    if isinstance(address, ipaddress.IPv6Address):
        is_kept = address in _DOCUMENTATION or address.packed[8:12] in _ISATAP
        return address.is_global and address in _GLOBAL_UNICAST and not is_kept
    is_kept = any(address in network for network in (*_METADATA, _RELAYS))
    return address.is_global and not address.is_multicast and not is_kept


def _unwrap(address: ipaddress.IPv6Address) -> _Address:
    """The IPv4 address that is meant, where there is one."""
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(address.packed[-4:])
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


def connect_public(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to one of the host's public addresses.

    Args:
        host: A name, or an address.
        port: Of the host.
        timeout_s: The longest time for each address.

    Raises:
        NotAllowed: it has none.
        OSError: it is not known, or none of its public addresses answers.
    """
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [text for *_, (text, *_) in entries if isinstance(text, str) and is_public(text)]
    if not addresses:
        raise NotAllowed(f"its host {host} has no public address")
    failure: OSError | None = None
    for text in dict.fromkeys(addresses):
        try:
            return create_connection((text, port), timeout_s, socket_options=_OPTIONS)
        except OSError as error:
            failure = error
    raise failure or OSError("no address answers")
