"""One request over one connection that was opened before; never a retry or a redirect.

- `request`: what may be sent. `wire`: one exchange over an open socket, under one deadline.
- `route`: the way to a provider, its proxy and certificates (`tls`).
- `connection`: the pool of a client's open connections. `transfer`: files to signed URLs, and
  `destination`: where these may lead.
"""

from workers.http.connection import Caller, Connection
from workers.http.request import Request
from workers.http.route import ConnectFailed, PooledAdapter, Route
from workers.http.transfer import File, Sent, Transfers

__all__ = [
    "Caller",
    "ConnectFailed",
    "Connection",
    "File",
    "PooledAdapter",
    "Request",
    "Route",
    "Sent",
    "Transfers",
]
