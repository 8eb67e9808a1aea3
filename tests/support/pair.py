"""Two servers behind one address, for tests of a failover."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.conftest import start_server
from tests.support.endpoint import Endpoint, an_endpoint
from tests.support.fleet import port_of, until
from workers.store.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.store.connection import Store


class Pair:
    """Two servers behind one address, which begins with the first."""

    def __init__(self, first: str, second: str, endpoint: Endpoint) -> None:
        self.first, self.second = connect(first), connect(second)
        self.ports = (port_of(first), port_of(second))
        self.endpoint = endpoint

    def fail_over(self) -> None:
        """The address leads to the second one now; the first lives on and cannot reach it."""
        self.endpoint.target = self.ports[1]
        self.first.execute_command("REPLICAOF", "127.0.0.1", "1")

    def let_follow(self, replica: Store) -> None:
        """One of the servers becomes a replica of the other one, and has all that this one has."""
        primary, port = self.second, self.ports[1]
        if replica is self.second:
            primary, port = self.first, self.ports[0]
        replica.execute_command("REPLICAOF", "127.0.0.1", str(port))
        until(lambda: _is_in_step(replica, primary), what="a replica in step")

    @staticmethod
    def promote(replica: Store) -> None:
        """A replica becomes a primary, whatever the one before has written meanwhile."""
        replica.execute_command("REPLICAOF", "NO", "ONE")


def _is_in_step(replica: Store, primary: Store) -> bool:
    follows, leads = replica.info("replication"), primary.info("replication")
    offset = follows.get("slave_repl_offset")
    return follows.get("master_link_status") == "up" and offset == leads["master_repl_offset"]


@contextmanager
def a_pair(folder: Path) -> Iterator[Pair]:
    """Two servers, unconnected, that hold different values of the key `where`."""
    servers = []
    try:
        for name in ("first", "second"):
            (folder / name).mkdir()
            server, url = start_server(folder / name, "--repl-diskless-sync-delay", "0")
            servers.append((server, url))
            connect(url).set("where", name)
        first, second = (url for _, url in servers)
        with an_endpoint(port_of(first)) as endpoint:
            yield Pair(first, second, endpoint)
    finally:
        for server, _ in servers:
            server.terminate()
            server.wait(timeout=10)
