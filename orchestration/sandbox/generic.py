"""Any path that no platform knows: a write has one effect on one business id, a read has none."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import ApiError, ApiOperation, Reply, encode_json
from orchestration.sandbox.config import compile_glob

if TYPE_CHECKING:
    from orchestration.sandbox.calls import Call
    from orchestration.sandbox.config import JsonObject

_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class GenericApi:
    """What was written under any path, so that a look-up by business id finds it."""

    def __init__(self) -> None:
        # path -> business id -> (id, visible_us) of each write
        self._written: dict[str, dict[str, tuple[tuple[str, int], ...]]] = {}

    def operation(self, call: Call) -> ApiOperation:
        """Return what the call asks for."""
        named = call.named_business_id()
        if call.method in _READ_METHODS:
            ids = (named or f"{call.method} {call.path}",)
            return ApiOperation(partial(self._read, call), lambda: ids, reads=True)
        business_id = named or call.unnamed_business_id()
        return ApiOperation(partial(self._write, call, business_id), lambda: (business_id,))

    def _write(self, call: Call, business_id: str, now_us: int) -> Reply:
        written = self._written.setdefault(call.path, {})
        earlier = written.get(business_id, ())
        must_be_new = compile_glob(call.config.unique).match(f"{call.method} {call.path}")
        if earlier and must_be_new:
            refusal = call.error_reply(ApiError(409, "already.exists", "It was written before."))
            body = {**json.loads(refusal.body), "id": earlier[0][0]}
            return replace(refusal, body=encode_json(body))
        new_id = str(uuid.uuid4())
        visible_us = now_us + round(call.config.read_lag_s * 1e6)
        written[business_id] = (*earlier, (new_id, visible_us))
        echo = {"method": call.method, "path": call.path, "bytes": len(call.body)}
        return Reply(
            status=201 if call.method == "POST" else 200,
            body=encode_json({"id": new_id, "business_id": business_id, "echo": echo}),
            kind="effect",
            created=(business_id,),
        )

    def _read(self, call: Call, now_us: int) -> Reply:
        body: JsonObject = {"path": call.path}
        if business_id := call.query().get("business_id"):
            written = self._written.get(call.path, {}).get(business_id, ())
            body["entities"] = [
                {"id": written_id, "business_id": business_id}
                for written_id, visible_us in written
                if visible_us <= now_us
            ]
            body["total"] = len(body["entities"])
        return Reply(status=200, body=encode_json(body), kind="read")
