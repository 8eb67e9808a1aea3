"""Response assets: announced, then sent as a file; only what has arrived is an asset.

The URL of an announcement is not renewed. A caller that needs another URL announces again, and gets
a new id.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import ApiOperation, Reply, bad_request, encode_json
from orchestration.sandbox.genesys.entities import (
    name_taken,
    new_business_id,
    not_found,
    require,
    visible_us,
    wrap_page,
)
from orchestration.sandbox.genesys.routes import ASSETS_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestration.sandbox.calls import Call
    from orchestration.sandbox.config import JsonObject
    from orchestration.sandbox.genesys.presigned import FileSlot, PresignedUrls

_WRONG_NAME = re.compile(r"^\.|/$|[\s\\{^}%`\]\">\[~<#|]")
_STATUSES = {
    "created": "InProgress",
    "uploaded": "InProgress",
    "transcoded": "Uploaded",
    "transcodeFailed": "Failed",
}


@dataclass(slots=True)
class _Asset:
    """One announcement; it is an asset once its file has arrived and is ready."""

    fields: JsonObject
    visible_us: int  # of its status
    slot: FileSlot

    def is_visible(self, now_us: int) -> bool:
        return self.slot.status(now_us) == "transcoded" and self.slot.visible_us <= now_us

    def shown(self) -> JsonObject:
        return {**self.fields, "contentLength": self.slot.size}


class AssetsApi:
    """The assets, and the calls for them."""

    def __init__(self, presigned: PresignedUrls) -> None:
        self._presigned = presigned
        self._assets: dict[str, _Asset] = {}

    def operation(self, call: Call, parts: list[str]) -> ApiOperation | None:
        """Return what a call for the path's `parts` asks for; None: nothing of this kind."""
        match call.method, parts:
            case "POST", ["uploads"]:
                # As for a prompt's URL: it creates nothing yet, and no key remembers the answer.
                run = partial(self._announce, call)
                return ApiOperation(run, lambda: (new_business_id(call),), reads=True)
            case "POST", ["search"]:
                run = partial(self._search, call)
                return ApiOperation(run, lambda: ("responseassets",), reads=True)
            case "GET", ["status", asset]:
                return ApiOperation(partial(self._status, asset), lambda: (asset,), reads=True)
            case "GET", [asset]:
                return ApiOperation(partial(self._get, asset), lambda: (asset,), reads=True)
        return None

    def _announce(self, call: Call, now_us: int) -> Reply:
        body = call.json_object()
        require(body, "name")
        name, md5 = str(body["name"]), body.get("contentMd5")
        if _WRONG_NAME.search(name):
            raise bad_request("The name has a character that is not allowed.")
        taken = any(
            asset.fields["name"] == name and asset.slot.md5 for asset in self._assets.values()
        )
        if taken and call.config.duplicate_names == "refused":
            raise name_taken(name)
        asset_id = str(uuid.uuid4())
        # All assets have one path, so that two files under one name show as duplicates.
        slot = self._presigned.create_slot("responseassets", new_business_id(call))
        fields = {"id": asset_id, "name": name, "selfUri": f"{ASSETS_PATH}/{asset_id}"}
        self._assets[asset_id] = _Asset(fields, visible_us(call, now_us), slot)
        headers = {"Content-MD5": str(md5)} if md5 else {}
        issued = {"id": asset_id, **self._presigned.issue(call, slot, now_us, headers)}
        return Reply(status=200, body=encode_json(issued), kind="url")

    def _status(self, asset_id: str, now_us: int) -> Reply:
        asset = self._assets.get(asset_id)
        if asset is None or asset.visible_us > now_us:
            raise not_found(asset_id)
        body = {"id": asset_id, "status": _STATUSES[asset.slot.status(now_us)]}
        if body["status"] == "Failed":
            body |= {"errorCode": "FILE_UNREADABLE", "errorMessage": "The file cannot be read."}
        return Reply(status=200, body=encode_json(body), kind="read")

    def _get(self, asset_id: str, now_us: int) -> Reply:
        asset = self._assets.get(asset_id)
        if asset is None or not asset.is_visible(now_us):
            raise not_found(asset_id)
        return Reply(status=200, body=encode_json(asset.shown()), kind="read")

    def _search(self, call: Call, now_us: int) -> Reply:
        body = call.json_object()
        size, number = body.get("pageSize", 25), body.get("pageNumber", 1)
        if not (isinstance(size, int) and isinstance(number, int) and size > 0 < number):
            raise bad_request("pageSize and pageNumber are numbers from 1.")
        names = set(_searched_names(body))
        results = [
            asset.shown()
            for asset in self._assets.values()
            if asset.is_visible(now_us) and (not names or asset.fields["name"] in names)
        ]
        page = encode_json(wrap_page("results", results, size, number))
        return Reply(status=200, body=page, kind="read")


def _searched_names(body: JsonObject) -> Iterator[str]:
    """Yield the names that a search asks for; ApiError 400 for another kind of search."""
    for term in body.get("query") or []:
        by_term = isinstance(term, dict) and term.get("type") in {"TERM", "EXACT"}
        if not by_term or term.get("fields") != ["name"]:
            raise bad_request("Search by TERM in the field name.")
        yield from map(str, term.get("values") or [term.get("value")])
