"""The way to a client's provider: proxies, certificates, TLS. It opens connections, no more.

`requests` and the urllib3 below it know the way. What is sent over a connection, and when, is for
`workers.http.connection` to decide.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
from functools import partial
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import override
from urllib3.exceptions import HTTPError, NameResolutionError

from workers.clock import now_ns
from workers.errors import ConfigError, NotNow
from workers.handshake import await_refusal, describe_failure
from workers.http.destination import NotAllowed, connect_public
from workers.http.tls import NAMES, tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3.connection import HTTPConnection

    from workers.settings.client import ClientSettings

#: How http.client says that a proxy opened no tunnel.
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")

try:
    VERSION = version("headgate")
except PackageNotFoundError:  # run from a source tree
    VERSION = "0"


class ConnectFailed(NotNow):
    """There is no connection to the provider; nothing was sent.

    `reason` is a few words such as "connection refused", never data. `failing_s` is for how long no
    new connection of this process came about, 0 at the first failure.
    """

    def __init__(self, message: str, *, reason: str = "", failing_s: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.failing_s = failing_s


class PooledAdapter(HTTPAdapter):
    """The pools of one client: certificates are always verified, and nothing is sent twice.

    Args:
        tls: What it trusts and shows.
        pool_size: The most connections of a pool.
        proxy_tls: What it trusts of a proxy that speaks TLS itself; it shows nothing there.
        login: The headers for the client's own proxy; None = as its URL says.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        pool_size: int,
        proxy_tls: ssl.SSLContext,
        login: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        self.tls = tls
        self._proxy_tls = proxy_tls
        self._login = login
        super().__init__(pool_maxsize=pool_size, max_retries=0, pool_block=False)

    @override
    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        """Use the one context: its authorities are read once, and nobody can switch it off."""
        host, _ = super().build_connection_pool_key_attributes(request, verify=True)
        return host, {"ssl_context": self.tls}

    @override
    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Add nothing: the context holds the authorities."""

    @override
    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Verify a proxy's own certificate by the same authorities."""
        return super().proxy_manager_for(proxy, proxy_ssl_context=self._proxy_tls, **options)

    @override
    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Log in at the proxy."""
        return self._login() if self._login else dict(super().proxy_headers(proxy))


class Route:
    """The way to one client's `base_url`, as its settings and the environment describe it.

    The environment decides what the settings leave open, in the way of `requests`: HTTP_PROXY,
    HTTPS_PROXY, ALL_PROXY and NO_PROXY, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.

    Args:
        client: Where and how.
        pool_size: The most connections of a pool.
        only_public: An answer named the host: it is connected to at a public address alone. Through
            a proxy, which looks up the host, that is the proxy's to keep.

    Raises:
        ConfigError: the URL, the proxy, its password or a certificate cannot be used.
    """

    def __init__(
        self, client: ClientSettings, pool_size: int, *, only_public: bool = False
    ) -> None:
        self._client = client
        environment = requests.Session().merge_environment_settings(
            client.base_url, {}, None, None, None
        )
        proxies = environment["proxies"]
        if client.proxy:
            proxies = {} if client.proxy == "none" else {"all": client.proxy}
        verify = environment["verify"]
        self._authorities = verify if isinstance(verify, str) else None
        plain = client.model_copy(update={"client_cert_file": None, "client_key_file": None})
        self.adapter = PooledAdapter(
            tls_context(client, self._authorities),
            pool_size,
            tls_context(plain, self._authorities),
            self._login if client.proxy else None,
        )
        try:
            prepared = requests.Request("GET", client.base_url).prepare()
            pool: Any = self.adapter.get_connection_with_tls_context(
                prepared, verify=True, proxies=proxies
            )
        except (requests.RequestException, HTTPError) as error:
            raise ConfigError(
                f"client {client.name}: its URL or the proxy of the environment cannot be used "
                f"({type(error).__name__}); correct it"
            ) from None
        self._pool = pool
        self._only_public = only_public and pool.proxy is None
        url = urlsplit(prepared.url or "")  # quoted, and its host in ASCII
        host = url.netloc.rpartition("@")[2]
        self._secure = url.scheme == "https"
        #: Whether a proxy reads the requests and passes them on, instead of a tunnel's bytes.
        self.forwards = pool.proxy is not None and not self._secure
        self._place = f"{url.hostname}:{url.port or (443 if self._secure else 80)}"
        if pool.proxy is not None:
            self._place += f" through the proxy {pool.proxy.host}:{pool.proxy.port}"
        #: What stands before a request's path in its first line.
        self.target = (f"{url.scheme}://{host}" if self.forwards else "") + url.path.rstrip("/")
        # Identity: answers are small, and what is not compressed cannot explode.
        self._fixed = _lines(
            {
                "Host": host,
                "User-Agent": f"headgate/{VERSION}",
                "Accept-Encoding": "identity",
                "Connection": "keep-alive",
            }
        )
        #: Header lines that each request has.
        self.fixed = self._fixed + (_lines(pool.proxy_headers) if self.forwards else "")
        self._failed_ns = 0  # when the first of the newest failures was; 0: the newest was none

    @property
    def fails(self) -> bool:
        """Whether the newest connection that was to be opened did not come about."""
        return self._failed_ns != 0

    def open(self, *, patient: bool = False) -> HTTPConnection:
        """Open a new connection: to the proxy, through it, and TLS, as far as each is needed.

        `connect_timeout_s` bounds each of TCP (per address), the proxy's answer and TLS; the
        look-up of the name has the resolver's own bound. Secrets and certificates are those of now.

        Args:
            patient: Wait also where no certificate is shown whether the server demands one.

        Raises:
            ConnectFailed: there is none; the text names host, port and reason.
            ConfigError: its password or a certificate cannot be used now.
            NotAllowed: the host has no public address, where it must have one.
        """
        client = self._client
        if client.proxy and self._pool.proxy is not None:
            self._pool.proxy_headers = login = self._login()
            self.fixed = self._fixed + (_lines(login) if self.forwards else "")
        tls = tls_context(client, self._authorities)
        connection: Any = self._pool._new_conn()  # noqa: SLF001 -- urllib3 has no public way
        connection.timeout = client.connect_timeout_s
        if self._only_public:
            place = (connection.host, connection.port, client.connect_timeout_s)
            connection._new_conn = partial(connect_public, *place)  # noqa: SLF001 -- as above
        try:
            if self._secure:
                connection.ssl_context = tls
            if self._secure and self._pool.proxy is not None:
                self._pool._prepare_proxy(connection)  # noqa: SLF001 -- nor one for CONNECT
            else:
                connection.connect()
            if self._secure and (client.client_cert_file or patient):
                await_refusal(connection.sock)
        except NotAllowed:
            raise
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            connection.close()
            reason, failed_ns = _reason(error, client.connect_timeout_s), now_ns()
            self._failed_ns = since_ns = self._failed_ns or failed_ns
            raise ConnectFailed(
                f"client {client.name}: no connection to {self._place} ({reason})",
                reason=reason,
                failing_s=(failed_ns - since_ns) / 1e9,
            ) from None
        self._failed_ns = 0
        opened: HTTPConnection = connection
        return opened

    def _login(self) -> dict[str, str]:
        """The headers for the client's own proxy, with the password as it is now."""
        password = self._client.proxy_password()
        if password is None:
            return {}
        pair = f"{self._client.proxy_username}:{password.get_secret_value()}".encode()
        return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _reason(error: BaseException, timeout_s: float) -> str:
    """A few words, from the innermost cause that says something."""
    if isinstance(error, NameResolutionError | socket.gaierror):
        return "the name is not known"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ssl.SSLError):
        return str(describe_failure(error, NAMES))
    if tunnel := _TUNNEL.match(str(error)):  # nothing of what the proxy says beside its status
        hint = "; check proxy_username and its password" if tunnel[1] == "407" else ""
        return f"the proxy answered {tunnel[1]}{hint}"
    if error.__cause__ is not None:
        return _reason(error.__cause__, timeout_s)
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror.lower() if strerror else type(error).__name__
