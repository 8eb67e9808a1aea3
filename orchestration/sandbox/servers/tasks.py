"""Requests that take time: each runs in a task, and no connection outlives a bug."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tornado.http1connection import HTTP1Connection
    from tornado.httputil import HTTPServerRequest

_logger = logging.getLogger(__name__)


class RequestTasks:
    """The requests that are being answered."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None], request: HTTPServerRequest) -> None:
        """Run the rest of a request in a task; where it fails, its connection is closed."""
        task = asyncio.get_running_loop().create_task(_run_to_end(work, request))
        self._running.add(task)  # asyncio itself holds only a weak reference
        task.add_done_callback(self._running.discard)


async def _run_to_end(work: Coroutine[None, None, None], request: HTTPServerRequest) -> None:
    try:
        await work
    except Exception:
        _logger.exception("%s %s ended without an answer", request.method, request.path)
        cast("HTTP1Connection", request.connection).close()
