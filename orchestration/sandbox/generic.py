"""Any other path: a write has one effect on one business id, a read has none."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestration.sandbox.calls import call as calls
from orchestration.sandbox.calls.call import Answer, Operation, encode
from orchestration.sandbox.quota.limits import matcher

if TYPE_CHECKING:
    from orchestration.sandbox.calls.call import Call

READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Generic:
    """What was written under any path, so that a look-up by business id finds it."""

    def __init__(self) -> None:
        # path -> business id -> (id, visible_us) of each write
        self._written: dict[str, dict[str, tuple[tuple[str, int], ...]]] = {}

    def operation(self, call: Call) -> Operation:
        """Return what the call asks for."""
        reads = call.method in READS
        name = call.named_business_id() or (
            f"{call.method} {call.path}" if reads else call.own_name()
        )

        def write(now_us: int) -> Answer:
            made = str(uuid.uuid4())
            visible_us = now_us + round(call.config.read_lag_s * 1e6)
            writes = self._written.setdefault(call.path, {})
            if name in writes and matcher(call.config.unique).match(f"{call.method} {call.path}"):
                refusal = calls.error(call, 409, "already.exists", "It was written before.")
                named = {**json.loads(refusal.body), "id": writes[name][0][0]}
                return replace(refusal, body=encode(named))
            writes[name] = (*writes.get(name, ()), (made, visible_us))
            echo = {"method": call.method, "path": call.path, "bytes": len(call.body)}
            return Answer(
                status=201 if call.method == "POST" else 200,
                body=encode({"id": made, "business_id": name, "echo": echo}),
                kind="effect",
                created=(name,),
            )

        def read(now_us: int) -> Answer:
            body: dict[str, Any] = {"path": call.path}
            if wanted := call.query().get("business_id"):
                written = self._written.get(call.path, {}).get(wanted, ())
                body["entities"] = [
                    {"id": made, "business_id": wanted}
                    for made, visible_us in written
                    if visible_us <= now_us
                ]
                body["total"] = len(body["entities"])
            return Answer(status=200, body=encode(body), kind="read")

        if reads:
            return Operation(read, lambda: (name,), reads=True)
        return Operation(write, lambda: (name,))
