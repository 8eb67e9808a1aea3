"""Start the sandbox: `python -m orchestration.sandbox --port 8080`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from orchestration.sandbox.calls import CONTROL_PREFIX
from orchestration.sandbox.config import Config, InvalidConfig, JsonObject, parse_json
from orchestration.sandbox.journal import Journal
from orchestration.sandbox.provider import Provider
from orchestration.sandbox.servers import (
    ApiServer,
    Listener,
    RequestTasks,
    TransferServer,
    answer_control,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from socket import socket

    from tornado.httputil import HTTPServerRequest

_LAG_PERIOD_S = 0.05
_PARENT_PERIOD_S = 1.0
_MAX_REQUEST_BYTES = 256 << 20
_MAX_FILE_BYTES = 1 << 40
_CHUNK_BYTES = 1 << 18  # the part of a file that is in memory at once


def serve(argv: Sequence[str] | None = None) -> int:
    """Run the sandbox until SIGTERM, SIGINT or the end of its parent.

    Prints `sandbox listening on http://HOST:PORT` when it is ready.

    Returns:
        The exit status: 0, or 2 for a wrong option, configuration or address.
    """
    options = _build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        config = Config.from_json(_read_config(options.config))
        asyncio.run(_run(config, options))
    except (InvalidConfig, OSError, UnicodeError) as error:  # the last: no resolver takes the host
        sys.stderr.write(f"sandbox: {error}\n")
        return 2
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandbox", description="A provider that obeys tests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, required=True, help="0: any free port")
    parser.add_argument(
        "--transfer-port", type=_port, default=0, help="for files; 0: any free port"
    )
    parser.add_argument("--config", default="{}", help="a JSON object, or a file that holds one")
    parser.add_argument("--journal", type=Path, help="file of the journal; none: memory only")
    parser.add_argument("--parent", type=_pid, metavar="PID", help="end when this process is gone")
    return parser


def _port(text: str) -> int:
    """A port, or 0; a number beyond would be taken for another port."""
    return _number(text, 0, 65_535)


def _pid(text: str) -> int:
    return _number(text, 1, 2**31 - 1)


def _number(text: str, least: int, most: int) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"use a number from {least} to {most:,}")
    return int(text)


def _read_config(option: str) -> JsonObject:
    """Return the object that `--config` holds or names."""
    try:
        is_text = option.lstrip().startswith("{")
        raw = parse_json(option if is_text else Path(option).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidConfig(f"--config is not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidConfig("--config must hold a JSON object")
    return raw


async def _run(config: Config, options: argparse.Namespace) -> None:
    sockets = bind_sockets(options.port, options.host)
    transfer_sockets = bind_sockets(options.transfer_port, options.host)
    transfer_port = transfer_sockets[0].getsockname()[1]
    provider, tasks = Provider(config, Journal(options.journal), transfer_port), RequestTasks()
    servers = _start_servers(provider, tasks, sockets, transfer_sockets)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    watchers = [asyncio.create_task(_measure_lag(provider))]
    if options.parent:
        watchers.append(asyncio.create_task(_stop_with_parent(options.parent, stop)))
    _tune_interpreter()
    port = sockets[0].getsockname()[1]
    sys.stdout.write(f"sandbox listening on http://{options.host}:{port}\n")
    sys.stdout.flush()
    await stop.wait()
    for server in servers:
        server.stop()
    for watcher in watchers:
        watcher.cancel()
    provider.journal.close()


def _start_servers(
    provider: Provider, tasks: RequestTasks, sockets: list[socket], transfer_sockets: list[socket]
) -> tuple[HTTPServer, HTTPServer]:
    api = ApiServer(provider, tasks)

    def answer(request: HTTPServerRequest) -> None:
        if request.path.startswith(CONTROL_PREFIX):
            tasks.spawn(answer_control(provider, request), request)
        else:
            api.handle(request)

    calls = HTTPServer(answer, max_buffer_size=_MAX_REQUEST_BYTES)
    provider.close_port = Listener(calls, sockets).close_for
    transfers = HTTPServer(
        TransferServer(provider, tasks), max_buffer_size=_CHUNK_BYTES, max_body_size=_MAX_FILE_BYTES
    )
    transfers.add_sockets(transfer_sockets)
    return calls, transfers


async def _measure_lag(provider: Provider) -> None:
    """Record how late this task wakes up: arrivals waited as long."""
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + _LAG_PERIOD_S
        await asyncio.sleep(_LAG_PERIOD_S)
        provider.max_lag_us = max(provider.max_lag_us, round((clock() - due) * 1e6))


async def _stop_with_parent(pid: int, stop: asyncio.Event) -> None:
    was_child = os.getppid() == pid
    while True:
        if was_child and os.getppid() != pid:
            break
        with suppress(PermissionError):  # the process lives, under another user
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
        await asyncio.sleep(_PARENT_PERIOD_S)
    stop.set()


def _tune_interpreter() -> None:
    """Let the size of the journal not delay arrivals.

    A full garbage collection would stop arrivals for long, and none is needed: requests leave only
    young cycles, and what survives two collections is data that stays. Threads switch often, so
    that arrivals do not wait for the thread of a report.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2000, 10, 1_000_000)
    sys.setswitchinterval(0.0002)


if __name__ == "__main__":
    sys.exit(serve())
