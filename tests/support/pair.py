"""Two servers behind one address, for tests of a failover."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.conftest import start_server
from tests.support.endpoint import Endpoint, an_endpoint
from tests.support.fleet import port_of
from workers.store.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


@contextmanager
def a_pair(folder: Path) -> Iterator[Pair]:
    """Two servers, unconnected, that hold different values of the key `where`."""
    servers = []
    try:
        for name in ("first", "second"):
            (folder / name).mkdir()
            server, url = start_server(folder / name)
            servers.append((server, url))
            connect(url).set("where", name)
        first, second = (url for _, url in servers)
        with an_endpoint(port_of(first)) as endpoint:
            yield Pair(first, second, endpoint)
    finally:
        for server, _ in servers:
            server.terminate()
            server.wait(timeout=10)
