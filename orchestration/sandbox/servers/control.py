"""The control API under `/_sandbox/`: never limited, never in the journal.

GET   report, counts, health, config
      effects?after=N&limit=M, requests?after=N&limit=M    pages of up to M (1000) from seq N + 1
POST  reset, revoke
      expire                         every signed URL that was given out is expired from now on
      config {field: value, ...}     replaces top-level fields of the configuration
      faults [rule, ...]             replaces the list, counters at zero
      storm {"seconds": N, "share": 1, "match": "* *", "retry_after": null}
                                     429 for that share of the calls; takes the last one's place
      clock {"advance_s": N}         moves the clock ahead: of tokens, keys, signed URLs, the
                                     read lag, dialling and transcoding
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any, cast

from orchestration.sandbox.calls.call import CONTROL_PREFIX, Answer, encode
from orchestration.sandbox.config.config import ConfigError, Storm, build
from orchestration.sandbox.faults.delivery import send
from orchestration.sandbox.faults.rules import StormInForce

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado.httputil import HTTPServerRequest

    from orchestration.sandbox.servers.api import Sandbox


async def control(sandbox: Sandbox, request: HTTPServerRequest) -> None:
    """Answer one control request."""
    name = request.path.removeprefix(CONTROL_PREFIX)
    try:
        if request.method == "GET" and name in _READS:
            # In a thread: a long journal must not keep arrivals waiting.
            status, body = 200, await asyncio.to_thread(_READS[name], sandbox, request)
        elif request.method == "POST" and name in _CHANGES:
            status, body = 200, _CHANGES[name](sandbox, request) or {"ok": True}
        else:
            status, body = 404, {"error": f"no control call {request.method} {name}"}
    except ValueError as wrong:
        status, body = 400, {"error": str(wrong)}
    send(request, Answer(status=status, body=encode(body)), {})


def _health(sandbox: Sandbox, _request: HTTPServerRequest) -> object:
    return {
        "pid": os.getpid(),
        "t_us": sandbox.clock.real_us(),
        "in_flight": sandbox.in_flight,
        "max_lag_us": sandbox.max_lag_us,
        "transfer_port": sandbox.transfer_port,
    }


def _config(sandbox: Sandbox, _request: HTTPServerRequest) -> object:
    config = sandbox.config
    return {
        **dataclasses.asdict(config),
        "clients": sorted(config.clients),
        "access_keys": sorted(config.access_keys),
        "api_keys": sorted(config.api_keys.values()),
    }


def _set_config(sandbox: Sandbox, request: HTTPServerRequest) -> None:
    raw = _object(request)
    config = sandbox.config.merged(raw)
    sandbox.apply(config)
    if "faults" in raw:
        sandbox.set_faults(config)


def _set_faults(sandbox: Sandbox, request: HTTPServerRequest) -> None:
    sandbox.set_faults(sandbox.config.merged({"faults": json.loads(request.body)}))


def _storm(sandbox: Sandbox, request: HTTPServerRequest) -> None:
    storm = build(Storm, _object(request), "storm")
    sandbox.storm = StormInForce(storm, sandbox.clock.real_us())


def _advance(sandbox: Sandbox, request: HTTPServerRequest) -> object:
    sandbox.clock.advance(_number(_object(request), "advance_s"))
    return {"t_us": sandbox.clock.lifetime_us()}


_READS: dict[str, Callable[[Sandbox, HTTPServerRequest], object]] = {
    "report": lambda sandbox, _: sandbox.journal.report(sandbox.limiter.others()),
    "counts": lambda sandbox, _: sandbox.journal.counts(),
    "requests": lambda sandbox, request: sandbox.journal.requests(*_page(request)),
    "effects": lambda sandbox, request: sandbox.journal.effects(*_page(request)),
    "health": _health,
    "config": _config,
}

_CHANGES: dict[str, Callable[[Sandbox, HTTPServerRequest], object]] = {
    "config": _set_config,
    "faults": _set_faults,
    "storm": _storm,
    "clock": _advance,
    "revoke": lambda sandbox, _: {"revoked": sandbox.oauth.revoke_all()},
    "expire": lambda sandbox, _: sandbox.genesys.presigned.expire_all(),
    "reset": lambda sandbox, _: sandbox.reset(),
}


def _object(request: HTTPServerRequest) -> dict[str, Any]:
    body = json.loads(request.body)
    if not isinstance(body, dict):
        raise ConfigError("the body must be a JSON object")
    return cast("dict[str, Any]", body)


def _number(body: dict[str, Any], name: str) -> float:
    value = body.get(name)
    if not isinstance(value, int | float):
        raise ConfigError(f"{name} must be a number, got {value!r}")
    return value


def _page(request: HTTPServerRequest) -> tuple[int, int]:
    given = {name: int(values[-1]) for name, values in request.query_arguments.items()}
    after, limit = given.get("after", 0), given.get("limit", 1000)
    if after < 0 or limit < 1:
        raise ConfigError("after must be >= 0 and limit >= 1")
    return after, limit
