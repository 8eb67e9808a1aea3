"""The store: connection, embedded server, names and scripts; never what the names mean.

- `connection`: the one client of the store, whose failures are `StoreAway`; durability and room.
- `embedded`: the server that Headgate brings along; `keeper`, which runs with -m, watches over it.
- `keys`: every name in the store. `scripts`: the Lua library, loaded where it is missing.
- `many`: many commands, or a script for many clients, in few round trips.
- `releases`: which servers are known to be unsafe.
"""

from workers.store.connection import Pipeline, Reply, Store, connect, open_store
from workers.store.embedded import EmbeddedStore, open_embedded, stop_embedded
from workers.store.keys import ClientKeys
from workers.store.scripts import Scripts

__all__ = [
    "ClientKeys",
    "EmbeddedStore",
    "Pipeline",
    "Reply",
    "Scripts",
    "Store",
    "connect",
    "open_embedded",
    "open_store",
    "stop_embedded",
]
