"""The way to a client's provider: proxies, certificates, TLS. It opens connections, no more.

`requests` and the urllib3 below it know the way. What is sent over a connection, and when, is none
of their business: see `workers.http`.
"""

from __future__ import annotations

import ssl
from functools import cache
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.exceptions import HTTPError, NameResolutionError

from workers.errors import ConfigError, NotNow

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection

    from workers.client_settings import ClientSettings

try:
    VERSION = version("headgate")
except PackageNotFoundError:  # run from a source tree
    VERSION = "0"


class ConnectFailed(NotNow):
    """There is no connection to the provider; nothing was sent.

    `reason` is a few words such as "connection refused", never data.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class GovernedAdapter(HTTPAdapter):
    """The pools of one client: certificates are always verified, and nothing is sent twice."""

    def __init__(self, tls: ssl.SSLContext, pool_size: int) -> None:
        self.tls = tls
        super().__init__(pool_maxsize=pool_size, max_retries=0, pool_block=False)

    def build_connection_pool_key_attributes(
        self,
        request: requests.PreparedRequest,
        verify: Any,  # noqa: ANN401, ARG002 -- as requests
        cert: Any = None,  # noqa: ANN401, ARG002 -- as requests
    ) -> tuple[Any, Any]:
        """Use the one context: its authorities are read once, and nobody can switch it off."""
        host, _ = super().build_connection_pool_key_attributes(request, verify=True)
        return host, {"ssl_context": self.tls}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ANN401
        """Add nothing: the context holds the authorities."""


class Route:
    """The way to one client's `base_url`, as its settings and the environment describe it.

    Raises:
        ConfigError: the URL, the proxy or the file of authorities cannot be used.
    """

    def __init__(self, client: ClientSettings, pool_size: int) -> None:
        self._client = client
        environment = requests.Session().merge_environment_settings(
            client.base_url, {}, None, None, None
        )
        self.adapter = GovernedAdapter(_tls(client, environment["verify"]), pool_size)
        try:
            prepared = requests.Request("GET", client.base_url).prepare()
            pool: Any = self.adapter.get_connection_with_tls_context(
                prepared, verify=True, proxies=environment["proxies"]
            )
        except requests.RequestException as error:
            raise ConfigError(
                f"client {client.name}: its URL or the proxy of the environment cannot be used "
                f"({type(error).__name__}); correct it"
            ) from None
        self._pool = pool
        url = urlsplit(prepared.url or "")  # quoted, and its host in ASCII
        host = url.netloc.rpartition("@")[2]
        self._tunnels = pool.proxy is not None and url.scheme == "https"
        forwards = pool.proxy is not None and not self._tunnels
        self._place = f"{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}"
        if pool.proxy is not None:
            self._place += f" through the proxy {pool.proxy.host}:{pool.proxy.port}"
        #: What stands before a request's path in its first line.
        self.target = (f"{url.scheme}://{host}" if forwards else "") + url.path.rstrip("/")
        # Identity: answers are small, and what is not compressed cannot explode.
        fixed = {
            "Host": host,
            "User-Agent": f"headgate/{VERSION}",
            "Accept-Encoding": "identity",
            "Connection": "keep-alive",
            **(pool.proxy_headers if forwards else {}),
        }
        #: Header lines that each request has.
        self.fixed = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())

    def open(self) -> HTTPConnection:
        """Open a new connection, TLS included.

        `connect_timeout_s` bounds each of TCP (per address) and TLS; the look-up of the name has
        the resolver's own bound.

        Raises:
            ConnectFailed: there is none; the text names host, port and reason.
        """
        # Only the pool knows how to make its connections; requests itself and botocore ask it so.
        connection: HTTPConnection = self._pool._new_conn()  # noqa: SLF001
        connection.timeout = self._client.connect_timeout_s
        try:
            if self._tunnels:
                self._pool._prepare_proxy(connection)  # noqa: SLF001 -- CONNECT, then TLS
            else:
                connection.connect()
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            connection.close()
            reason = _reason(error, self._client.connect_timeout_s)
            raise ConnectFailed(
                f"client {self._client.name}: no connection to {self._place} ({reason})",
                reason=reason,
            ) from None
        return connection


def _tls(client: ClientSettings, verify: str | bool | None) -> ssl.SSLContext:  # noqa: FBT001
    """Trust the client's own authority, else what the environment names, else certifi's list."""
    named = str(client.ca_file or (verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH))
    try:
        return _context(named)
    except OSError as error:
        raise ConfigError(
            f"client {client.name}: the certificate authorities in {named} cannot be read "
            f"({error.strerror or error}); correct ca_file or REQUESTS_CA_BUNDLE"
        ) from None


@cache
def _context(authorities: str) -> ssl.SSLContext:
    if Path(authorities).is_dir():
        return ssl.create_default_context(capath=authorities)
    return ssl.create_default_context(cafile=authorities)


def _reason(error: BaseException, timeout_s: float) -> str:  # noqa: PLR0911 -- a table
    """A few words, from the innermost cause that says something."""
    if isinstance(error, NameResolutionError):
        return "the name is not known"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no reason given').replace('_', ' ').lower()}"
    if error.__cause__ is not None:
        return _reason(error.__cause__, timeout_s)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
