"""The port of the API, which can be closed for a while: callers are refused at the connect."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tornado.netutil import bind_sockets

if TYPE_CHECKING:
    from socket import socket

    from tornado.httpserver import HTTPServer

_BACKLOG = 128


class Listener:
    """The sockets at which the API and its control calls arrive."""

    def __init__(self, server: HTTPServer, sockets: list[socket]) -> None:
        """Let the server listen at the sockets, which are bound to one port."""
        self._server = server
        self._host, self._port = sockets[0].getsockname()[:2]
        self._closed: asyncio.Task[None] | None = None
        server.add_sockets(sockets)

    def close_for(self, seconds: float) -> None:
        """Close the port and every connection to it; listen again after so many seconds.

        What comes meanwhile, control calls too, is refused at the connect. Nothing else changes.

        Raises:
            ValueError: `seconds` is not above 0, or the port is closed already.
        """
        if seconds <= 0:
            raise ValueError(f"seconds must be > 0, got {seconds}")
        if self._closed is not None and not self._closed.done():
            raise ValueError("the port is closed already")
        self._closed = asyncio.get_running_loop().create_task(self._refuse(seconds))

    async def _refuse(self, seconds: float) -> None:
        self._server.stop()
        await self._server.close_all_connections()
        await asyncio.sleep(seconds)
        self._server.add_sockets(bind_sockets(self._port, self._host, backlog=_BACKLOG))
