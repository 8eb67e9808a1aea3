"""Contacts of a list: added or changed by their id, put into the queue to be dialled, read.

A new contact is queued. One that is there already is queued again, unless the call says
`doNotQueue=true`: it will be dialled twice.
"""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestration.sandbox.calls.call import Answer, ApiError, Operation, encode
from orchestration.sandbox.genesys.entities import not_found, visible_us

if TYPE_CHECKING:
    from orchestration.sandbox.calls.call import Call
    from orchestration.sandbox.genesys.entities import Entities


class _Stored(NamedTuple):
    data: bytes  # canonical JSON: equal data are equal bytes, and small
    visible_us: int


class Contacts:
    """The contacts of every list, and the calls for them."""

    def __init__(self, lists: Entities) -> None:
        self._lists = lists
        self._by_list: dict[str, dict[str, _Stored]] = {}

    def operation(self, call: Call, parts: list[str]) -> Operation | None:
        """Return what a call for the path's `parts` asks for; None: nothing of this kind."""
        match call.method, parts:
            case "POST", [list_id, "contacts"]:
                return Operation(partial(self._add, call, list_id), lambda: _ids(call))
            case "POST", [list_id, "contacts", "bulk"]:
                return Operation(partial(self._read, call, list_id), lambda: _ids(call), reads=True)
            case "GET", [list_id, "contacts", name]:
                return Operation(partial(self._get, list_id, name), lambda: (name,), reads=True)
        return None

    def total(self, list_id: str) -> int:
        """Return how many contacts a list has."""
        return len(self._by_list.get(list_id, ()))

    def count(self, list_id: str, now_us: int) -> int:
        """Return how many contacts of a list reads find."""
        return sum(it.visible_us <= now_us for it in self._by_list.get(list_id, {}).values())

    def forget(self, list_id: str) -> None:
        """Remove the contacts of a list that is deleted."""
        self._by_list.pop(list_id, None)

    def _add(self, call: Call, list_id: str, now_us: int) -> Answer:
        most = call.config.max_body_bytes
        if len(call.body) > most:
            raise ApiError(413, "request.too.large", f"The limit is {most} bytes.")
        contacts = _checked(call, list_id)
        if list_id not in self._lists:
            if call.config.strict_lists:
                raise not_found(list_id)
            made = self._lists.make(call, {"name": list_id}, now_us, list_id)
            made.visible_us = now_us  # nobody made it, so nobody waits for it
        stored = self._by_list.setdefault(list_id, {})
        new, changed, same = list[str](), list[str](), list[str]()
        shown = []
        for contact in contacts:
            name = str(contact.get("id") or uuid.uuid4())
            data = encode(dict(sorted(contact["data"].items())))
            known = stored.get(name)
            ids = new if known is None else same if known.data == data else changed
            ids.append(name)
            seen_us = known.visible_us if known else visible_us(call, now_us)
            stored[name] = _Stored(data, seen_us)
            shown.append({**contact, "id": name, "callable": True})
        again = [] if call.asks("doNotQueue") else changed + same
        return Answer(
            status=200,
            body=encode(shown),
            kind="effect" if new or changed else "repeat",
            created=tuple(new),
            updated=tuple(changed),
            repeated=tuple(same),
            queued=tuple(new + again),
        )

    def _read(self, call: Call, list_id: str, now_us: int) -> Answer:
        if call.config.strict_lists:
            self._lists.known(list_id)
        found = (self._shown(list_id, name, now_us) for name in _ids(call))
        return Answer(status=200, body=b"[%b]" % b",".join(filter(None, found)), kind="read")

    def _get(self, list_id: str, name: str, now_us: int) -> Answer:
        found = self._shown(list_id, name, now_us)
        if found is None:
            raise not_found(name)
        return Answer(status=200, body=found, kind="read")

    def _shown(self, list_id: str, name: str, now_us: int) -> bytes | None:
        found = self._by_list.get(list_id, {}).get(name)
        if found is None or found.visible_us > now_us:
            return None
        head = encode({"id": name, "contactListId": list_id, "callable": True})
        return b'%b,"data":%b}' % (head[:-1], found.data)


def _ids(call: Call) -> tuple[str, ...]:
    """Return the ids in an array of contacts or of ids."""
    try:
        items = call.json()
    except ApiError:
        return ()
    if not isinstance(items, list):
        return ()
    names = (item.get("id") if isinstance(item, dict) else item for item in items)
    return tuple(str(name) for name in names if name is not None)


def _checked(call: Call, list_id: str) -> list[dict[str, Any]]:
    contacts, most = call.json(), call.config.max_contacts
    if not isinstance(contacts, list) or len(contacts) > most:
        raise ApiError(400, "bad.request", f"Send an array of at most {most} contacts.")
    for index, contact in enumerate(contacts):
        if not isinstance(contact, dict) or not isinstance(contact.get("data"), dict):
            raise ApiError(400, "bad.request", f"Contact {index} has no data object.")
        if contact.get("contactListId") != list_id:
            raise ApiError(400, "bad.request", f"Contact {index} names another contactListId.")
    return contacts
