"""`governed_session`: a `requests` session for code that is no job, on the fleet's quota.

    session = governed_session("acme", wait_s=10)
    session.post("/api/v2/outbound/contactlists", json={"name": "Spring"})

Each call takes its tokens from the same limits as the workers', obeys the same pauses and breaker,
and carries the client's token and, where it writes, an idempotency key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import requests
from typing_extensions import override

from workers.clients import Clients
from workers.errors import UsageError
from workers.governor import flows
from workers.session.adapter import GovernedAdapter
from workers.settings.load import load

if TYPE_CHECKING:
    from workers.clients import Client


class GovernedSession(requests.Session):
    """A session whose calls are governed; made by `governed_session`.

    A URL is one of the client's provider, or a path below its base_url. Timeouts, proxy and
    certificates are the client's own; what a call says of them is ignored.
    """

    def __init__(self, client: Client, lane: int, tenant: str, wait_s: float) -> None:
        super().__init__()
        self.client = client
        self.base_url = str(client.configured.base_url).rstrip("/")
        self.trust_env = False  # no proxy and no password from files of the user
        self.max_redirects = 0
        self.adapters.clear()  # calls go to nobody else, for each carries the client's token
        self.mount(f"{self.base_url}/", GovernedAdapter(client, lane, tenant, wait_s))

    @classmethod
    def of(cls, client: Client, lane: str, tenant: str, wait_s: float) -> Self:
        """Make a session of this class; arguments and errors are those of `governed_session`."""
        tenants = client.configured.tenants
        if tenant != flows.NO_TENANT and (
            tenant not in tenants or client.configured.client_of(tenant)
        ):
            known = ", ".join(name for name, one in tenants.items() if not one.client) or "none"
            raise UsageError(
                f"tenant {tenant!r} does not send through client {client.name} (known: {known})"
            )
        return cls(client, flows.lane_of(lane), tenant, wait_s)

    @override
    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> Any:
        """Send one call, or raise.

        Raises:
            CircuitOpen: a breaker is open, and the call is not its probe; whatever `wait_s` is.
            Throttled: its limits hold the call for longer.
            TokenUnavailable: the provider gives no access token.
            StoreAway: the store does not answer, so nothing may leave.
            requests.RequestException: as always; a `ConnectionError` or `ReadTimeout` after the
                call was sent leaves open what the provider did.
        """
        where = url.decode() if isinstance(url, bytes) else url
        if where.startswith("/"):
            where = self.base_url + where
        kwargs["allow_redirects"] = False
        return super().request(method, where, *args, **kwargs)


def governed_session(
    client: str,
    *,
    lane: str = "normal",
    tenant: str = flows.NO_TENANT,
    wait_s: float = 30.0,
    config: str | None = None,
) -> GovernedSession:
    """Make a session on the quota of a configured client; threads may share it.

    Args:
        client: Its name.
        lane: urgent, which may take the reserve, normal or bulk.
        tenant: Who sends, where the client has tenants.
        wait_s: The longest time that a call may wait for its tokens, seconds >= 0. What its
            connection and its answer take comes on top.
        config: The configuration's file; None = as for the commands.

    Raises:
        ConfigError: the configuration is wrong, or has no such client.
        UsageError: lane or tenant are none.
        StoreAway: the store does not answer.
    """
    return GovernedSession.of(Clients(load(config))[client], lane, tenant, wait_s)
