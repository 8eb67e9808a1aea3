"""Contact lists: made, found by name, updated by version, deleted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from orchestration.sandbox.calls.call import Answer, ApiError, Operation, encode
from orchestration.sandbox.genesys.entities import created_id, require, search

if TYPE_CHECKING:
    from orchestration.sandbox.calls.call import Call
    from orchestration.sandbox.genesys.contacts import Contacts
    from orchestration.sandbox.genesys.entities import Entities


class Lists:
    """The calls for lists."""

    def __init__(self, lists: Entities, contacts: Contacts) -> None:
        self._lists = lists
        self._contacts = contacts

    def operation(self, call: Call, parts: list[str]) -> Operation | None:
        """Return what a call for the path's `parts` asks for; None: nothing of this kind."""
        match call.method, parts:
            case "POST", []:
                return Operation(partial(self._create, call), lambda: (created_id(call),))
            case "GET", []:
                return Operation(partial(self._search, call), lambda: ("contactlists",), reads=True)
            case "GET", [list_id]:
                run = partial(self._get, call, list_id)
                return Operation(run, lambda: (list_id,), reads=True)
            case "PUT", [list_id]:
                return Operation(partial(self._update, call, list_id), lambda: (list_id,))
            case "DELETE", [list_id]:
                return Operation(partial(self._delete, list_id), lambda: (list_id,))
        return None

    def _create(self, call: Call, now_us: int) -> Answer:
        body = call.json_object()
        if call.config.strict_fields:
            _check(body)
        made = self._lists.make(call, body, now_us)
        return Answer(
            status=200, body=encode(made.shown), kind="effect", created=(created_id(call),)
        )

    def _search(self, call: Call, now_us: int) -> Answer:
        return search(call, self._lists.all_seen(now_us))

    def _get(self, call: Call, list_id: str, now_us: int) -> Answer:
        shown = self._lists.seen(list_id, now_us).shown
        if call.asks("includeSize"):
            shown = {**shown, "size": self._contacts.count(list_id, now_us)}
        return Answer(status=200, body=encode(shown), kind="read")

    def _update(self, call: Call, list_id: str, _now_us: int) -> Answer:
        if call.config.strict_fields:
            _check(call.json_object())
        shown = self._lists.update(call, list_id).shown
        return Answer(status=200, body=encode(shown), kind="effect", updated=(list_id,))

    def _delete(self, list_id: str, _now_us: int) -> Answer:
        self._lists.delete(list_id)
        self._contacts.forget(list_id)
        return Answer(status=204, kind="effect", updated=(list_id,))


def _check(body: dict[str, object]) -> None:
    require(body, "name", "columnNames")
    columns = body.get("phoneColumns") or []
    if not isinstance(columns, list):
        raise ApiError(400, "bad.request", "phoneColumns must be an array.")
    for column in columns:
        require(column if isinstance(column, dict) else {}, "columnName", "type")
