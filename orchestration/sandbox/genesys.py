"""Outbound contact lists, contacts and campaigns, as Genesys Cloud shapes them."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from orchestration.sandbox.calls import Answer, ApiError, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestration.sandbox.calls import Call

OUTBOUND = "/api/v2/outbound/"

_CONTACT = re.compile(r"^(/api/v2/outbound/contactlists/[^/]+/contacts)/(?!bulk$|search$)[^/]+$")
_ENTITY = re.compile(r"^(/api/v2/outbound/[^/]+)/[^/]+")


def template(path: str) -> str:
    """Return the path with names in place of the ids; other paths as they are.

    Example:
        >>> template("/api/v2/outbound/contactlists/l-1/contacts/c-1")
        '/api/v2/outbound/contactlists/{id}/contacts/{contactId}'
    """
    if not path.startswith(OUTBOUND):
        return path
    return _ENTITY.sub(r"\1/{id}", _CONTACT.sub(r"\1/{contactId}", path))


@dataclass(frozen=True, slots=True)
class Operation:
    """What a call asks for; its business ids are known before it runs, for the faults."""

    run: Callable[[int], Answer]  #: takes the lifetimes' clock at the moment of the effect
    business_ids: Callable[[], tuple[str, ...]]
    reads: bool = False  #: no effect, so no key is needed


class _Stored(NamedTuple):
    data: bytes  # canonical JSON: equal data are equal bytes, and small
    visible_us: int


class Genesys:
    """The entities of one organisation, in memory."""

    def __init__(self) -> None:
        self._entities: dict[str, dict[str, dict[str, Any]]] = {"contactlists": {}, "campaigns": {}}
        self._contacts: dict[str, dict[str, _Stored]] = {}

    def operation(self, call: Call) -> Operation | None:  # noqa: PLR0911 - one case a route
        """Return what the call asks for; None: not one of this API's calls."""
        if not call.path.startswith(OUTBOUND):
            return None
        parts = [unquote(part) for part in call.path.removeprefix(OUTBOUND).split("/")]
        match call.method, parts:
            case "POST", ["contactlists" | "campaigns" as kind]:
                return Operation(partial(self._create, call, kind), lambda: (_created_id(call),))
            case "GET", ["contactlists" | "campaigns" as kind]:
                return Operation(partial(self._search, call, kind), lambda: (kind,), reads=True)
            case "GET", ["contactlists" | "campaigns" as kind, entity]:
                return Operation(partial(self._get, kind, entity), lambda: (entity,), reads=True)
            case "POST", ["campaigns", entity, "start" | "stop" as verb]:
                return Operation(partial(self._switch, entity, verb), lambda: (entity,))
            case "POST", ["contactlists", entity, "contacts"]:
                run = partial(self._add_contacts, call, entity)
                return Operation(run, lambda: _contact_ids(call))
            case "POST", ["contactlists", entity, "contacts", "bulk"]:
                run = partial(self._read_contacts, call, entity)
                return Operation(run, lambda: _contact_ids(call), reads=True)
            case "GET", ["contactlists", entity, "contacts", contact]:
                run = partial(self._get_contact, entity, contact)
                return Operation(run, lambda: (contact,), reads=True)
        return None

    def _create(self, call: Call, kind: str, now_us: int) -> Answer:
        body = call.json_object()
        entity = str(uuid.uuid4())
        made = {**body, "id": entity, "version": 1, "selfUri": f"{OUTBOUND}{kind}/{entity}"}
        if kind == "campaigns":
            made["campaignStatus"] = "off"
        self._entities[kind][entity] = made | {"_visible_us": _visible_us(call, now_us)}
        return Answer(status=200, body=encode(made), kind="effect", created=(_created_id(call),))

    def _search(self, call: Call, kind: str, now_us: int) -> Answer:
        name, exactly = call.query().get("name", ""), call.query().get("filterType") == "Equals"

        def matches(entity: dict[str, Any]) -> bool:
            own = str(entity.get("name", ""))
            named = own == name if exactly else own.startswith(name)
            return named and entity["_visible_us"] <= now_us

        found = [_shown(entity) for entity in self._entities[kind].values() if matches(entity)]
        size, number = call.query_number("pageSize", 25), call.query_number("pageNumber", 1)
        page = {
            "entities": found[(number - 1) * size : number * size],
            "pageSize": size,
            "pageNumber": number,
            "total": len(found),
            "pageCount": -(-len(found) // size),
        }
        return Answer(status=200, body=encode(page), kind="read")

    def _get(self, kind: str, entity: str, now_us: int) -> Answer:
        found = self._entities[kind].get(entity)
        if found is None or found["_visible_us"] > now_us:
            raise _not_found(entity)
        return Answer(status=200, body=encode(_shown(found)), kind="read")

    def _switch(self, entity: str, verb: str, _now_us: int) -> Answer:
        found = self._entities["campaigns"].get(entity)
        if found is None:
            raise _not_found(entity)
        found["campaignStatus"] = "on" if verb == "start" else "off"
        found["version"] += 1
        return Answer(status=200, body=encode(_shown(found)), kind="effect", created=(entity,))

    def _add_contacts(self, call: Call, entity: str, now_us: int) -> Answer:
        most = call.config.max_body_bytes
        if len(call.body) > most:
            raise ApiError(413, "request.too.large", f"The limit is {most} bytes.")
        contacts = _checked_contacts(call, entity, call.config.max_contacts)
        if entity not in self._entities["contactlists"]:
            if call.config.strict_lists:
                raise _not_found(entity)
            made = {"id": entity, "name": entity, "version": 1, "_visible_us": now_us}
            self._entities["contactlists"][entity] = made
        stored = self._contacts.setdefault(entity, {})
        made_ids, changed_ids, same_ids = list[str](), list[str](), list[str]()
        shown = []
        for contact in contacts:
            name = str(contact.get("id") or uuid.uuid4())
            data = encode(dict(sorted(contact["data"].items())))
            known = stored.get(name)
            ids = made_ids if known is None else same_ids if known.data == data else changed_ids
            ids.append(name)
            visible_us = known.visible_us if known else _visible_us(call, now_us)
            stored[name] = _Stored(data, visible_us)
            shown.append({**contact, "id": name, "callable": True})
        return Answer(
            status=200,
            body=encode(shown),
            kind="effect" if made_ids or changed_ids else "repeat",
            created=tuple(made_ids),
            updated=tuple(changed_ids),
            repeated=tuple(same_ids),
        )

    def _read_contacts(self, call: Call, entity: str, now_us: int) -> Answer:
        found = (self._contact(entity, name, now_us) for name in _contact_ids(call))
        return Answer(status=200, body=b"[%b]" % b",".join(filter(None, found)), kind="read")

    def _get_contact(self, entity: str, name: str, now_us: int) -> Answer:
        found = self._contact(entity, name, now_us)
        if found is None:
            raise _not_found(name)
        return Answer(status=200, body=found, kind="read")

    def _contact(self, entity: str, name: str, now_us: int) -> bytes | None:
        found = self._contacts.get(entity, {}).get(name)
        if found is None or found.visible_us > now_us:
            return None
        head = encode({"id": name, "contactListId": entity, "callable": True})
        return b'%b,"data":%b}' % (head[:-1], found.data)


def _visible_us(call: Call, now_us: int) -> int:
    return now_us + round(call.config.read_lag_s * 1e6)


def _shown(entity: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entity.items() if name != "_visible_us"}


def _not_found(name: str) -> ApiError:
    return ApiError(404, "not.found", f"Nothing here has the id {name}.")


def _created_id(call: Call) -> str:
    """Return the business id of an entity to be made: named by the caller, else its name."""
    return call.named_business_id() or call.text_field("name") or call.own_name()


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


def _checked_contacts(call: Call, entity: str, most: int) -> list[dict[str, Any]]:
    contacts = call.json()
    if not isinstance(contacts, list) or len(contacts) > most:
        raise ApiError(400, "bad.request", f"Send an array of at most {most} contacts.")
    for index, contact in enumerate(contacts):
        if not isinstance(contact, dict) or not isinstance(contact.get("data"), dict):
            raise ApiError(400, "bad.request", f"Contact {index} has no data object.")
        if contact.get("contactListId") != entity:
            raise ApiError(400, "bad.request", f"Contact {index} names another contactListId.")
    return contacts
