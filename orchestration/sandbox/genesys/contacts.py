"""Contacts of a list: added or changed by their id, put into the queue to be dialled, read.

A new contact is queued. A contact that exists already is queued again and will be dialled twice,
unless the call says `doNotQueue=true`.
"""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from orchestration.sandbox.calls import ApiError, ApiOperation, Reply, bad_request, encode_json
from orchestration.sandbox.genesys.entities import not_found, visible_us

if TYPE_CHECKING:
    from orchestration.sandbox.calls import Call
    from orchestration.sandbox.config import JsonObject
    from orchestration.sandbox.genesys.entities import Entities


class _StoredContact(NamedTuple):
    data: bytes  # canonical JSON: equal data are equal bytes, and small
    visible_us: int


class ContactsApi:
    """The contacts of every list, and the calls for them."""

    def __init__(self, lists: Entities) -> None:
        self._lists = lists
        self._by_list: dict[str, dict[str, _StoredContact]] = {}

    def operation(self, call: Call, parts: list[str]) -> ApiOperation | None:
        """Return what a call for the path's `parts` asks for; None: nothing of this kind."""
        match call.method, parts:
            case "POST", [list_id, "contacts"]:
                return ApiOperation(partial(self._add, call, list_id), lambda: _contact_ids(call))
            case "POST", [list_id, "contacts", "bulk"]:
                return ApiOperation(
                    partial(self._read, call, list_id), lambda: _contact_ids(call), reads=True
                )
            case "GET", [list_id, "contacts", name]:
                return ApiOperation(partial(self._get, list_id, name), lambda: (name,), reads=True)
        return None

    def total(self, list_id: str) -> int:
        """Return how many contacts a list has."""
        return len(self._by_list.get(list_id, ()))

    def count(self, list_id: str, now_us: int) -> int:
        """Return how many contacts of a list reads find."""
        contacts = self._by_list.get(list_id, {}).values()
        return sum(contact.visible_us <= now_us for contact in contacts)

    def forget(self, list_id: str) -> None:
        """Remove the contacts of a list that is deleted."""
        self._by_list.pop(list_id, None)

    def _add(self, call: Call, list_id: str, now_us: int) -> Reply:
        most = call.config.max_body_bytes
        if len(call.body) > most:
            raise ApiError(413, "request.too.large", f"The limit is {most} bytes.")
        contacts = _check_contacts(call, list_id)
        if list_id not in self._lists:
            if call.config.strict_lists:
                raise not_found(list_id)
            new_list = self._lists.create(call, {"name": list_id}, now_us, list_id)
            new_list.visible_us = now_us  # no caller created it, so no caller waits for it
        stored = self._by_list.setdefault(list_id, {})
        created: list[str] = []
        updated: list[str] = []
        repeated: list[str] = []
        shown = []
        for contact in contacts:
            name = str(contact.get("id") or uuid.uuid4())
            data = encode_json(dict(sorted(contact["data"].items())))
            before = stored.get(name)
            if before is None:
                created.append(name)
            elif before.data == data:
                repeated.append(name)
            else:
                updated.append(name)
            seen_us = before.visible_us if before else visible_us(call, now_us)
            stored[name] = _StoredContact(data, seen_us)
            shown.append({**contact, "id": name, "callable": True})
        requeued = [] if call.query_flag("doNotQueue") else updated + repeated
        return Reply(
            status=200,
            body=encode_json(shown),
            kind="effect" if created or updated else "repeat",
            created=tuple(created),
            updated=tuple(updated),
            repeated=tuple(repeated),
            queued=tuple(created + requeued),
        )

    def _read(self, call: Call, list_id: str, now_us: int) -> Reply:
        if call.config.strict_lists:
            self._lists.get(list_id)
        contacts = (self._encode(list_id, name, now_us) for name in _contact_ids(call))
        return Reply(status=200, body=b"[%b]" % b",".join(filter(None, contacts)), kind="read")

    def _get(self, list_id: str, name: str, now_us: int) -> Reply:
        contact = self._encode(list_id, name, now_us)
        if contact is None:
            raise not_found(name)
        return Reply(status=200, body=contact, kind="read")

    def _encode(self, list_id: str, name: str, now_us: int) -> bytes | None:
        """Return a contact as JSON; None where reads do not find it."""
        contact = self._by_list.get(list_id, {}).get(name)
        if contact is None or contact.visible_us > now_us:
            return None
        head = encode_json({"id": name, "contactListId": list_id, "callable": True})
        return b'%b,"data":%b}' % (head[:-1], contact.data)


def _contact_ids(call: Call) -> tuple[str, ...]:
    """Return the ids in an array of contacts or of ids."""
    try:
        items = call.json()
    except ApiError:
        return ()
    if not isinstance(items, list):
        return ()
    names = (item.get("id") if isinstance(item, dict) else item for item in items)
    return tuple(str(name) for name in names if name is not None)


def _check_contacts(call: Call, list_id: str) -> list[JsonObject]:
    """Return the contacts of the body; ApiError 400 where one of them is malformed."""
    contacts, most = call.json(), call.config.max_contacts
    if not isinstance(contacts, list) or len(contacts) > most:
        raise bad_request(f"Send an array of at most {most} contacts.")
    for index, contact in enumerate(contacts):
        if not isinstance(contact, dict) or not isinstance(contact.get("data"), dict):
            raise bad_request(f"Contact {index} has no data object.")
        if contact.get("contactListId") != list_id:
            raise bad_request(f"Contact {index} names another contactListId.")
    return contacts
