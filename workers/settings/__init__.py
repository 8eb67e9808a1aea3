"""The configuration: what may stand in it, and what follows from it; never a connection.

- `load`: one TOML file and the environment become `Settings`.
- `client`: a client, its tenants, and its provider's profile below them.
- `access`: how a client proves who it is, and the way to its provider.
- `notify`: who is told of events.
- `limits`: a quota rule as the provider states it, and the bucket that keeps it.
- `values`: names, URLs and secrets, of which the others are made.
"""

from workers.settings.access import AuthSettings, RouteSettings, Secrets
from workers.settings.client import ClientSettings, TenantSettings
from workers.settings.limits import Bucket, LimitSettings, bucket_of, tenant_bucket, worst_case
from workers.settings.load import FlowerSettings, Settings, StoreSettings, WorkerSettings, load
from workers.settings.notify import NotifySettings

__all__ = [
    "AuthSettings",
    "Bucket",
    "ClientSettings",
    "FlowerSettings",
    "LimitSettings",
    "NotifySettings",
    "RouteSettings",
    "Secrets",
    "Settings",
    "StoreSettings",
    "TenantSettings",
    "WorkerSettings",
    "bucket_of",
    "load",
    "tenant_bucket",
    "worst_case",
]
