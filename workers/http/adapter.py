"""The part of `requests` that makes connections, with what a client's certificates demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    import requests


class GovernedAdapter(HTTPAdapter):
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

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:  # noqa: ANN401 -- as requests
        """Verify a proxy's own certificate by the same authorities."""
        return super().proxy_manager_for(proxy, proxy_ssl_context=self._proxy_tls, **options)

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Log in at the proxy."""
        return self._login() if self._login else dict(super().proxy_headers(proxy))
