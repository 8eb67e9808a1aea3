"""The control API under `/_sandbox/`: it is never limited and never in the journal.

GET   report, counts, health, config
      effects?after=N&limit=M, requests?after=N&limit=M    pages of up to M (1000) from seq N + 1
POST  reset, revoke
      expire                         lets every signed URL that was issued expire now
      config {field: value, ...}     replaces top-level fields of the configuration
      faults [fault, ...]            replaces the list, with its counters at zero
      storm {"seconds": N, "share": 1, "match": "* *", "retry_after": null}
                                     answers that share of the calls with 429; replaces a storm
      refuse {"seconds": N}          closes the port of the API, and of these calls, for N seconds
      clock {"advance_s": N}         moves the clock ahead for tokens, keys, signed URLs, the
                                     read lag, dialling and transcoding
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import CONTROL_PREFIX, Reply, encode_json
from orchestration.sandbox.config import (
    InvalidConfig,
    JsonObject,
    Storm,
    build_from_json,
    parse_json,
)
from orchestration.sandbox.journal import build_report
from orchestration.sandbox.servers.delivery import send

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado.httputil import HTTPServerRequest

    from orchestration.sandbox.provider import Provider

    _Answer = Callable[[Provider, HTTPServerRequest], object]


async def answer_control(provider: Provider, request: HTTPServerRequest) -> None:
    """Answer one control request."""
    name = request.path.removeprefix(CONTROL_PREFIX)
    try:
        if request.method == "GET" and name in READS_BY_NAME:
            # In a thread, since a long journal must not make arrivals wait.
            status, body = 200, await asyncio.to_thread(READS_BY_NAME[name], provider, request)
        elif request.method == "POST" and name in ORDERS_BY_NAME:
            status, body = 200, ORDERS_BY_NAME[name](provider, request) or {"ok": True}
        else:
            status, body = 404, {"error": f"no control call {request.method} {name}"}
    except ValueError as error:
        status, body = 400, {"error": str(error)}
    send(request, Reply(status=status, body=encode_json(body)), {})


def _read_report(provider: Provider, _request: HTTPServerRequest) -> JsonObject:
    others_us = provider.quota.others_us()
    # A copy, since this runs in a thread beside the one that adds entries.
    return build_report(provider.journal.entries[:], provider.config.limits, others_us)


def _read_health(provider: Provider, _request: HTTPServerRequest) -> JsonObject:
    return {
        "pid": os.getpid(),
        "t_us": provider.clock.real_us(),
        "in_flight": provider.in_flight,
        "max_lag_us": provider.max_lag_us,
        "transfer_port": provider.transfer_port,
    }


def _read_config(provider: Provider, _request: HTTPServerRequest) -> JsonObject:
    config = provider.config
    return {
        **dataclasses.asdict(config),
        "clients": sorted(config.clients),
        "access_keys": sorted(config.access_keys),
        "api_keys": sorted(config.api_keys.values()),
    }


def _set_config(provider: Provider, request: HTTPServerRequest) -> None:
    raw = _parse_object(request)
    config = provider.config.merged(raw)
    provider.apply(config)
    if "faults" in raw:
        provider.set_faults(config)


def _set_faults(provider: Provider, request: HTTPServerRequest) -> None:
    provider.set_faults(provider.config.merged({"faults": parse_json(request.body)}))


def _start_storm(provider: Provider, request: HTTPServerRequest) -> None:
    provider.start_storm(build_from_json(Storm, _parse_object(request), "storm"))


def _refuse_connections(provider: Provider, request: HTTPServerRequest) -> None:
    seconds = _parse_number(_parse_object(request), "seconds")
    if provider.close_port is not None:
        provider.close_port(seconds)


def _advance_clock(provider: Provider, request: HTTPServerRequest) -> JsonObject:
    provider.clock.advance(_parse_number(_parse_object(request), "advance_s"))
    return {"t_us": provider.clock.lifetime_us()}


#: What `GET /_sandbox/<name>` answers.
READS_BY_NAME: dict[str, _Answer] = {
    "report": _read_report,
    "counts": lambda provider, _: provider.journal.counts(),
    "requests": lambda provider, request: provider.journal.requests(*_parse_page(request)),
    "effects": lambda provider, request: provider.journal.effects(*_parse_page(request)),
    "health": _read_health,
    "config": _read_config,
}

#: What `POST /_sandbox/<name>` does; where it returns nothing, the answer is `{"ok": true}`.
ORDERS_BY_NAME: dict[str, _Answer] = {
    "config": _set_config,
    "faults": _set_faults,
    "storm": _start_storm,
    "refuse": _refuse_connections,
    "clock": _advance_clock,
    "revoke": lambda provider, _: {"revoked": provider.oauth.revoke_all()},
    "expire": lambda provider, _: provider.platforms.genesys.presigned.expire_all(),
    "reset": lambda provider, _: provider.reset(),
}


def _parse_object(request: HTTPServerRequest) -> JsonObject:
    body = parse_json(request.body)
    if not isinstance(body, dict):
        raise InvalidConfig("the body must be a JSON object")
    return body


def _parse_number(body: JsonObject, name: str) -> float:
    value = body.get(name)
    if not isinstance(value, int | float):
        raise InvalidConfig(f"{name} must be a number, got {value!r}")
    return value


def _parse_page(request: HTTPServerRequest) -> tuple[int, int]:
    numbers = {name: int(values[-1]) for name, values in request.query_arguments.items()}
    after, limit = numbers.get("after", 0), numbers.get("limit", 1000)
    if after < 0 or limit < 1:
        raise InvalidConfig("after must be >= 0 and limit >= 1")
    return after, limit
