"""Contact lists: created, searched by name, updated by version, deleted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import ApiOperation, Reply, bad_request, encode_json
from orchestration.sandbox.genesys.entities import new_business_id, require, search_by_name

if TYPE_CHECKING:
    from orchestration.sandbox.calls import Call
    from orchestration.sandbox.config import JsonObject
    from orchestration.sandbox.genesys.contacts import ContactsApi
    from orchestration.sandbox.genesys.entities import Entities


class ListsApi:
    """The calls for lists."""

    def __init__(self, lists: Entities, contacts: ContactsApi) -> None:
        self._lists = lists
        self._contacts = contacts

    def operation(self, call: Call, parts: list[str]) -> ApiOperation | None:
        """Return what a call for the path's `parts` asks for; None: nothing of this kind."""
        match call.method, parts:
            case "POST", []:
                return ApiOperation(partial(self._create, call), lambda: (new_business_id(call),))
            case "GET", []:
                return ApiOperation(
                    partial(self._search, call), lambda: ("contactlists",), reads=True
                )
            case "GET", [list_id]:
                run = partial(self._get, call, list_id)
                return ApiOperation(run, lambda: (list_id,), reads=True)
            case "PUT", [list_id]:
                return ApiOperation(partial(self._update, call, list_id), lambda: (list_id,))
            case "DELETE", [list_id]:
                return ApiOperation(partial(self._delete, list_id), lambda: (list_id,))
        return None

    def _create(self, call: Call, now_us: int) -> Reply:
        body = call.json_object()
        if call.config.strict_fields:
            _check(body)
        created = self._lists.create(call, body, now_us)
        return Reply(
            status=200,
            body=encode_json(created.shown),
            kind="effect",
            created=(new_business_id(call),),
        )

    def _search(self, call: Call, now_us: int) -> Reply:
        return search_by_name(call, self._lists.read_all(now_us))

    def _get(self, call: Call, list_id: str, now_us: int) -> Reply:
        shown = self._lists.read(list_id, now_us).shown
        if call.query_flag("includeSize"):
            shown = {**shown, "size": self._contacts.count(list_id, now_us)}
        return Reply(status=200, body=encode_json(shown), kind="read")

    def _update(self, call: Call, list_id: str, _now_us: int) -> Reply:
        if call.config.strict_fields:
            _check(call.json_object())
        shown = self._lists.update(call, list_id).shown
        return Reply(status=200, body=encode_json(shown), kind="effect", updated=(list_id,))

    def _delete(self, list_id: str, _now_us: int) -> Reply:
        self._lists.delete(list_id)
        self._contacts.forget(list_id)
        return Reply(status=204, kind="effect", updated=(list_id,))


def _check(body: JsonObject) -> None:
    require(body, "name", "columnNames")
    columns = body.get("phoneColumns") or []
    if not isinstance(columns, list):
        raise bad_request("phoneColumns must be an array.")
    for column in columns:
        require(column if isinstance(column, dict) else {}, "columnName", "type")
