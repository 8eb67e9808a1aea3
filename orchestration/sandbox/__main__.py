"""Start the sandbox: `python -m orchestration.sandbox --port 8080`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from orchestration.sandbox.calls.call import CONTROL_PREFIX
from orchestration.sandbox.config.config import Config, ConfigError
from orchestration.sandbox.journal.journal import Journal
from orchestration.sandbox.servers.api import Sandbox
from orchestration.sandbox.servers.control import control
from orchestration.sandbox.servers.transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornado.httputil import HTTPServerRequest

_LAG_S = 0.05
_PARENT_S = 1.0
_MAX_REQUEST_BYTES = 256 << 20
_MAX_FILE_BYTES = 1 << 40
_CHUNK_BYTES = 1 << 18  # of a file: what is held at once


def serve(argv: Sequence[str] | None = None) -> int:
    """Run the sandbox until SIGTERM, SIGINT or the end of its parent.

    Prints `sandbox listening on http://HOST:PORT` when it is ready.

    Returns:
        The exit status: 0, or 2 for a wrong option, configuration or address.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        config = Config.from_json(_config_json(options.config))
        asyncio.run(_run(config, options))
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"sandbox: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandbox", description="A provider that obeys tests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0: any free port")
    parser.add_argument("--transfer-port", type=int, default=0, help="for files; 0: any free port")
    parser.add_argument("--config", default="{}", help="a JSON object, or a file that holds one")
    parser.add_argument("--journal", type=Path, help="file of the journal; none: memory only")
    parser.add_argument("--parent", type=int, metavar="PID", help="end when this process is gone")
    return parser


def _config_json(given: str) -> dict[str, object]:
    text = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--config is not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError("--config must hold a JSON object")
    return raw


async def _run(config: Config, options: argparse.Namespace) -> None:
    sockets = bind_sockets(options.port, options.host)
    transfer_sockets = bind_sockets(options.transfer_port, options.host)
    transfer_port = transfer_sockets[0].getsockname()[1]
    sandbox = Sandbox(config, Journal(options.journal, config.limits), transfer_port)
    server = HTTPServer(partial(_answer, sandbox), max_buffer_size=_MAX_REQUEST_BYTES)
    server.add_sockets(sockets)
    transfers = HTTPServer(
        Transfers(sandbox), max_buffer_size=_CHUNK_BYTES, max_body_size=_MAX_FILE_BYTES
    )
    transfers.add_sockets(transfer_sockets)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    chores = [asyncio.create_task(_measure_lag(sandbox))]
    if options.parent:
        chores.append(asyncio.create_task(_outlive_nobody(options.parent, stop)))
    _stay_prompt()
    port = sockets[0].getsockname()[1]
    sys.stdout.write(f"sandbox listening on http://{options.host}:{port}\n")
    sys.stdout.flush()
    await stop.wait()
    server.stop()
    transfers.stop()
    for chore in chores:
        chore.cancel()
    sandbox.journal.close()


def _answer(sandbox: Sandbox, request: HTTPServerRequest) -> None:
    if request.path.startswith(CONTROL_PREFIX):
        sandbox.spawn(control(sandbox, request), request)
    else:
        sandbox.handle(request)


async def _measure_lag(sandbox: Sandbox) -> None:
    """A turn that comes late tells how long arrivals waited."""
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + _LAG_S
        await asyncio.sleep(_LAG_S)
        sandbox.max_lag_us = max(sandbox.max_lag_us, round((clock() - due) * 1e6))


async def _outlive_nobody(pid: int, stop: asyncio.Event) -> None:
    was_child = os.getppid() == pid
    while True:
        if was_child and os.getppid() != pid:
            break
        with suppress(PermissionError):  # it lives, under another user
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
        await asyncio.sleep(_PARENT_S)
    stop.set()


def _stay_prompt() -> None:
    """Keep the journal's size from delaying arrivals.

    A full garbage collection would stop them for long. It is never needed: requests leave only
    young cycles, and what survives two collections is data that stays. A report's thread hands
    over often, so that arrivals are not queued behind it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2000, 10, 1_000_000)
    sys.setswitchinterval(0.0002)


if __name__ == "__main__":
    sys.exit(serve())
