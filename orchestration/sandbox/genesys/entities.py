"""What every kind of entity has: an id, a name, a version, and a moment from which reads see it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import ApiError, Reply, bad_request, encode_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestration.sandbox.calls import Call
    from orchestration.sandbox.config import JsonObject

_MAX_PAGE = 100


@dataclass(slots=True)
class Entity:
    """One thing of the organisation."""

    shown: JsonObject  #: as reads show it
    visible_us: int  #: reads do not find it before


class Entities:
    """The entities of one kind; a write knows each at once, a read after the lag."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._by_id: dict[str, Entity] = {}

    def __contains__(self, entity_id: object) -> bool:
        return entity_id in self._by_id

    def create(
        self, call: Call, body: JsonObject, now_us: int, entity_id: str | None = None
    ) -> Entity:
        """Add an entity with the fields of `body` and an id of its own.

        Raises:
            ApiError: 409, the name is taken and `Config.duplicate_names` says "refused".
        """
        name = body.get("name")
        if call.config.duplicate_names == "refused" and any(self._named(name)):
            raise name_taken(name)
        new_id = entity_id or str(uuid.uuid4())
        shown = {**body, "id": new_id, "version": 1, "selfUri": f"{self._path}/{new_id}"}
        self._by_id[new_id] = Entity(shown, visible_us(call, now_us))
        return self._by_id[new_id]

    def get(self, entity_id: str) -> Entity:
        """Return what a write acts on; ApiError 404 if there is no such entity."""
        if entity_id not in self._by_id:
            raise not_found(entity_id)
        return self._by_id[entity_id]

    def read(self, entity_id: str, now_us: int) -> Entity:
        """Return what a read finds; ApiError 404 if there is no such entity, or not yet."""
        entity = self.get(entity_id)
        if entity.visible_us > now_us:
            raise not_found(entity_id)
        return entity

    def read_all(self, now_us: int) -> Iterator[Entity]:
        """Yield what a read can find, in the order of creation."""
        return (entity for entity in self._by_id.values() if entity.visible_us <= now_us)

    def update(self, call: Call, entity_id: str) -> Entity:
        """Put the body's fields in place of an entity's; the version counts one up.

        Raises:
            ApiError: 404; 400 without a version; `Config.stale_version` for an old one.
        """
        entity, body = self.get(entity_id), call.json_object()
        require(body, "version")
        current, sent = entity.shown["version"], body["version"]
        if sent != current:
            status = int(call.config.stale_version)
            code = "conflict" if status == HTTPStatus.CONFLICT else "bad.request"
            message = f"The version is {current}, and version {sent} was sent."
            raise ApiError(status, code, message)
        fixed = {name: entity.shown[name] for name in ("id", "selfUri")}
        entity.shown = {**body, **fixed, "version": current + 1}
        return entity

    def delete(self, entity_id: str) -> None:
        """Remove an entity; ApiError 404 if there is none."""
        self.get(entity_id)
        del self._by_id[entity_id]

    def _named(self, name: object) -> Iterator[Entity]:
        return (entity for entity in self._by_id.values() if entity.shown.get("name") == name)


def search_by_name(call: Call, entities: Iterable[Entity]) -> Reply:
    """Return the page of those whose name begins with, or with filterType=Equals is, `name`."""
    name, exactly = call.query().get("name", ""), call.query().get("filterType") == "Equals"

    def matches(entity: Entity) -> bool:
        candidate = str(entity.shown.get("name", ""))
        return candidate == name if exactly else candidate.startswith(name)

    return page_reply(call, [entity.shown for entity in entities if matches(entity)])


def page_reply(call: Call, items: Sequence[JsonObject]) -> Reply:
    """Return one page in the platform's envelope, by pageSize (25) and pageNumber (1)."""
    size, number = call.query_number("pageSize", 25), call.query_number("pageNumber", 1)
    body = wrap_page("entities", items, size, number)
    return Reply(status=200, body=encode_json(body), kind="read")


def wrap_page(field: str, items: Sequence[JsonObject], size: int, number: int) -> JsonObject:
    """Return page `number` of `items` under `field`; ApiError 400 for more than 100 a page."""
    if size > _MAX_PAGE:
        raise bad_request(f"pageSize is at most {_MAX_PAGE}.")
    return {
        field: items[(number - 1) * size : number * size],
        "pageSize": size,
        "pageNumber": number,
        "total": len(items),
        "pageCount": -(-len(items) // size),
    }


def visible_us(call: Call, now_us: int) -> int:
    """Return the moment from which reads find what is written now."""
    return now_us + round(call.config.read_lag_s * 1e6)


def new_business_id(call: Call) -> str:
    """Return the business id of an entity to be created: named by the caller, else its name."""
    return call.named_business_id() or call.text_field("name") or call.unnamed_business_id()


def require(body: JsonObject, *names: str) -> None:
    """Raise ApiError 400 for fields that are missing or empty."""
    filled = {name for name, value in body.items() if value is not None and value not in ("", [])}
    if missing := [name for name in names if name not in filled]:
        raise bad_request(f"Required: {', '.join(missing)}.")


def not_found(name: str) -> ApiError:
    """Return the refusal for an id that nothing has."""
    return ApiError(404, "not.found", f"Nothing here has the id {name}.")


def name_taken(name: object) -> ApiError:
    """Return the refusal for a name that something else has."""
    return ApiError(409, "already.exists", f"The name {name} is taken.")
