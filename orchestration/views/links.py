"""The links of a configuration: whether the broker answers, and what others could read on the way.

None of the sentences here holds a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workers.errors import StoreAway
from workers.settings.redis_url import is_loopback, read_redis_url
from workers.store.connection import broker_url_of, connect
from workers.store.tls import require_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.settings.client import ClientSettings
    from workers.settings.load import Settings, StoreSettings

#: What a client sends to its provider, by its `auth`.
_CARRIED = {"api_key": "its key", "none": ""}


def require_broker(settings: StoreSettings) -> None:
    """Make sure that the broker answers.

    Raises:
        ConfigError: a certificate or key that its URL names cannot be used.
        StoreAway: it does not answer; the text speaks of the broker.
    """
    url = broker_url_of(settings)
    try:
        require_trusted(url)
        with connect(url) as broker:
            broker.ping()
    except StoreAway as error:
        reason = str(error).replace("the store", "the broker").replace("store.url", "broker_url")
        raise StoreAway(reason) from None


def find_open_links(settings: Settings) -> list[str]:
    """Describe every link beyond this machine on which others could read secrets."""
    clients = settings.clients.values()
    return [
        *find_open_store_links(settings.store),
        *(sentence for client in clients for sentence in find_open_client_links(client)),
    ]


def find_open_store_links(settings: StoreSettings) -> Iterator[str]:
    """Describe the links to store and broker on which others could read secrets."""
    for name, url in (("url", settings.url), ("broker_url", settings.broker_url)):
        server = read_redis_url(url.get_secret_value()) if url else None
        if server is None or is_loopback(server.host):
            continue
        if server.tls is None:
            yield (
                f"store.{name}: the connection to {server.host} is not encrypted, so that others "
                f"in its network can read the password and what is stored; use rediss://"
            )
        elif not server.verifies:
            yield (
                f"store.{name}: the certificate of {server.host} is not verified, so that whoever "
                f"is in between can read the password and what is stored; remove "
                f"accept_unverified_tls"
            )


def find_open_client_links(client: ClientSettings) -> Iterator[str]:
    """Describe the links to a provider on which others could read secrets."""
    carried = _CARRIED.get(client.auth, "its access token")
    links: list[tuple[str, str | None, str]] = [("base_url", client.base_url, carried)]
    if client.auth != "none":
        links.append(("token_url", client.token_url, "its secret"))
    if client.proxy_username:
        links.append(("proxy", client.proxy, "the proxy's password"))
    for name, url, secret in links:
        host = urlsplit(url or "").hostname or ""
        if secret and url and url.startswith("http://") and not is_loopback(host):
            yield (
                f"client {client.name}: {name} is not encrypted, so that others on the way to "
                f"{host} can read {secret}; use https://"
            )
