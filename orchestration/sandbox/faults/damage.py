"""What a fault makes of the reply of the call that it hits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import ApiError, Reply

if TYPE_CHECKING:
    from orchestration.sandbox.calls import Call
    from orchestration.sandbox.config import Config, Fault, FaultKind

#: Kinds whose call has its effect; all others are decided before anything is done.
KINDS_WITH_EFFECT: frozenset[FaultKind] = frozenset(
    {
        "5xx_after",
        "5xx_stored",
        "drop_after",
        "hang",
        "slow_body",
        "bad_json",
        "huge_body",
        "truncated",
    }
)
#: Kinds whose answer is remembered under the key where `Config.store_5xx` is set.
_REMEMBERED_IF_SET = frozenset({"5xx_before", "5xx_after"})

#: What a proxy answers whose application is down: the same to the byte, whoever asks.
_PAGE = (
    b"<html><head><title>502 Bad Gateway</title></head>"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr></body></html>"
)

#: Code and message of the error body of a plain status; the 403 is worded as the platform words it.
_REFUSALS = {
    "400": ("bad.request", "Refused on command."),
    "401": ("bad.credentials", "Refused on command."),
    "403": (
        "missing.permissions",
        "Unable to perform it: missing permission(s): [outbound:contact:add]",
    ),
    "404": ("not.found", "Refused on command."),
    "409": ("conflict", "Refused on command."),
}


def is_remembered(fault: Fault, config: Config) -> bool:
    """Tell whether the fault's answer is stored under the call's key, and replayed."""
    return fault.kind == "5xx_stored" or (config.store_5xx and fault.kind in _REMEMBERED_IF_SET)


def damage_reply(call: Call, fault: Fault, done: Reply | None) -> Reply:
    """Return what the fault makes of a reply; `done` is None when nothing was executed.

    What the call did stays in the reply, for the journal.
    """
    if done is None:
        done = Reply(status=0, kind="fault")
    match fault.kind:
        case "429":
            return call.too_many_requests(_header_of(fault))
        case "400" | "401" | "403" | "404" | "409":
            return _refused(call, fault)
        case "5xx_before" | "5xx_after" | "5xx_stored":
            return _failed(call, fault, done)
        case "page":
            html = {"Content-Type": "text/html"}
            return Reply(status=fault.status or 502, kind="fault", body=_PAGE, headers=html)
        case "redirect":
            location = {"Location": fault.location}
            return Reply(status=fault.status or 302, kind="fault", headers=location)
        case "bad_json":
            done = replace(done, body=b'{"id": "')
        case "drop_before" | "drop_after" | "hang_before" | "hang" | "reset":
            done = replace(done, status=0)
        case "slow_body" | "truncated" | "huge_body":
            pass  # the reply is whole; only its delivery is not
    return done


def _refused(call: Call, fault: Fault) -> Reply:
    """Return a plain refusal; a 403 that says when to come again is a limit in disguise."""
    code, message = _REFUSALS[fault.kind]
    headers = {}
    if fault.kind == "403" and (retry_after := _header_of(fault)) is not None:
        code, message = "rate.limit.exceeded", "Too many requests."
        headers = {"Retry-After": retry_after}
    reply = call.error_reply(ApiError(int(fault.kind), code, message), kind="fault")
    return replace(reply, headers=headers)


def _failed(call: Call, fault: Fault, done: Reply) -> Reply:
    status = fault.status or (503 if fault.kind == "5xx_before" else 500)
    error = call.error_reply(ApiError(status, "internal.server.error", "Failed on command."))
    retry_after = _header_of(fault)
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return replace(done, status=status, body=error.body, headers=headers)


def _header_of(fault: Fault) -> str | None:
    return None if fault.retry_after is None else str(fault.retry_after)
