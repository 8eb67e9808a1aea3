"""Response assets: announced, then sent as a file; only what has arrived is an asset.

The URL of an announcement is not renewed: who needs another one announces anew, with a new id.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestration.sandbox.calls.call import Answer, ApiError, Operation, encode
from orchestration.sandbox.genesys.entities import (
    created_id,
    envelope,
    name_taken,
    not_found,
    require,
    visible_us,
)
from orchestration.sandbox.genesys.routes import ASSETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestration.sandbox.calls.call import Call
    from orchestration.sandbox.genesys.presigned import Presigned, Slot

_WRONG_NAME = re.compile(r"^\.|/$|[\s\\{^}%`\]\">\[~<#|]")
_STATUSES = {
    "created": "InProgress",
    "uploaded": "InProgress",
    "transcoded": "Uploaded",
    "transcodeFailed": "Failed",
}


@dataclass(slots=True)
class _Asset:
    about: dict[str, Any]
    visible_us: int  # of its status
    slot: Slot

    def is_there(self, now_us: int) -> bool:
        return self.slot.stage(now_us) == "transcoded" and self.slot.visible_us <= now_us

    def shown(self) -> dict[str, Any]:
        return {**self.about, "contentLength": self.slot.size}


class Assets:
    """The assets, and the calls for them."""

    def __init__(self, presigned: Presigned) -> None:
        self._presigned = presigned
        self._assets: dict[str, _Asset] = {}

    def operation(self, call: Call, parts: list[str]) -> Operation | None:
        """Return what a call for the path's `parts` asks for; None: nothing of this kind."""
        match call.method, parts:
            case "POST", ["uploads"]:
                # As with a prompt's URL: nothing is made as yet, and nothing is remembered.
                run = partial(self._announce, call)
                return Operation(run, lambda: (created_id(call),), reads=True)
            case "POST", ["search"]:
                return Operation(
                    partial(self._search, call), lambda: ("responseassets",), reads=True
                )
            case "GET", ["status", asset]:
                return Operation(partial(self._status, asset), lambda: (asset,), reads=True)
            case "GET", [asset]:
                return Operation(partial(self._get, asset), lambda: (asset,), reads=True)
        return None

    def _announce(self, call: Call, now_us: int) -> Answer:
        body = call.json_object()
        require(body, "name")
        name, md5 = str(body["name"]), body.get("contentMd5")
        if _WRONG_NAME.search(name):
            raise ApiError(400, "bad.request", "The name has a character that is not allowed.")
        taken = any(it.about["name"] == name and it.slot.md5 for it in self._assets.values())
        if taken and call.config.duplicate_names == "refused":
            raise name_taken(name)
        asset_id = str(uuid.uuid4())
        # One path for all: two files under one name are a double.
        slot = self._presigned.slot("responseassets", created_id(call))
        about = {"id": asset_id, "name": name, "selfUri": f"{ASSETS}/{asset_id}"}
        self._assets[asset_id] = _Asset(about, visible_us(call, now_us), slot)
        headers = {"Content-MD5": str(md5)} if md5 else {}
        given = {"id": asset_id, **self._presigned.url(call, slot, now_us, headers)}
        return Answer(status=200, body=encode(given), kind="url")

    def _status(self, asset_id: str, now_us: int) -> Answer:
        found = self._assets.get(asset_id)
        if found is None or found.visible_us > now_us:
            raise not_found(asset_id)
        told = {"id": asset_id, "status": _STATUSES[found.slot.stage(now_us)]}
        if told["status"] == "Failed":
            told |= {"errorCode": "FILE_UNREADABLE", "errorMessage": "The file cannot be read."}
        return Answer(status=200, body=encode(told), kind="read")

    def _get(self, asset_id: str, now_us: int) -> Answer:
        found = self._assets.get(asset_id)
        if found is None or not found.is_there(now_us):
            raise not_found(asset_id)
        return Answer(status=200, body=encode(found.shown()), kind="read")

    def _search(self, call: Call, now_us: int) -> Answer:
        body = call.json_object()
        size, number = body.get("pageSize", 25), body.get("pageNumber", 1)
        if not (isinstance(size, int) and isinstance(number, int) and size > 0 < number):
            raise ApiError(400, "bad.request", "pageSize and pageNumber are numbers from 1.")
        values = set(_names(body))
        there = (it for it in self._assets.values() if it.is_there(now_us))
        found = [it.shown() for it in there if not values or it.about["name"] in values]
        return Answer(
            status=200, body=encode(envelope("results", found, size, number)), kind="read"
        )


def _names(body: dict[str, Any]) -> Iterator[str]:
    """Yield the names that a search asks for; ApiError 400 for another kind of search."""
    for term in body.get("query") or []:
        known = isinstance(term, dict) and term.get("type") in {"TERM", "EXACT"}
        if not known or term.get("fields") != ["name"]:
            raise ApiError(400, "bad.request", "Search by TERM in the field name.")
        yield from map(str, term.get("values") or [term.get("value")])
