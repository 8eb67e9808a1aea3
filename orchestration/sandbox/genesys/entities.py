"""What every kind of entity has: an id, a name, a version, and a moment from which reads see it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestration.sandbox.calls.call import Answer, ApiError, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestration.sandbox.calls.call import Call

_MAX_PAGE = 100


@dataclass(slots=True)
class Entity:
    """One thing of the organisation."""

    shown: dict[str, Any]  #: as reads show it
    visible_us: int  #: reads do not find it before


class Entities:
    """The entities of one kind; a write knows each at once, a read after the lag."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._by_id: dict[str, Entity] = {}

    def __contains__(self, entity_id: object) -> bool:
        return entity_id in self._by_id

    def make(
        self, call: Call, body: dict[str, Any], now_us: int, entity_id: str | None = None
    ) -> Entity:
        """Add an entity with the fields of `body` and an id of its own.

        Raises:
            ApiError: 409, the name is taken and `Config.duplicate_names` says "refused".
        """
        name = body.get("name")
        if call.config.duplicate_names == "refused" and any(self._named(name)):
            raise name_taken(name)
        made_id = entity_id or str(uuid.uuid4())
        made = {**body, "id": made_id, "version": 1, "selfUri": f"{self._path}/{made_id}"}
        self._by_id[made_id] = Entity(made, visible_us(call, now_us))
        return self._by_id[made_id]

    def known(self, entity_id: str) -> Entity:
        """Return what a write acts on; ApiError 404 if there is no such entity."""
        if entity_id not in self._by_id:
            raise not_found(entity_id)
        return self._by_id[entity_id]

    def seen(self, entity_id: str, now_us: int) -> Entity:
        """Return what a read finds; ApiError 404 if there is no such entity, or not yet."""
        found = self.known(entity_id)
        if found.visible_us > now_us:
            raise not_found(entity_id)
        return found

    def all_seen(self, now_us: int) -> Iterator[Entity]:
        """Yield what a read can find, in the order of creation."""
        return (it for it in self._by_id.values() if it.visible_us <= now_us)

    def update(self, call: Call, entity_id: str) -> Entity:
        """Put the body's fields in place of an entity's; the version counts one up.

        Raises:
            ApiError: 404; 400 without a version; `Config.stale_version` for an old one.
        """
        found, body = self.known(entity_id), call.json_object()
        require(body, "version")
        now, given = found.shown["version"], body["version"]
        if given != now:
            status = int(call.config.stale_version)
            code = "conflict" if status == 409 else "bad.request"  # noqa: PLR2004 - a status
            raise ApiError(status, code, f"The version is {now}, and version {given} was sent.")
        own = {name: found.shown[name] for name in ("id", "selfUri")}
        found.shown = {**body, **own, "version": now + 1}
        return found

    def delete(self, entity_id: str) -> None:
        """Remove an entity; ApiError 404 if there is none."""
        self.known(entity_id)
        del self._by_id[entity_id]

    def _named(self, name: object) -> Iterator[Entity]:
        return (it for it in self._by_id.values() if it.shown.get("name") == name)


def search(call: Call, found: Iterable[Entity]) -> Answer:
    """Return the page of those whose name begins with, or with filterType=Equals is, `name`."""
    name, exactly = call.query().get("name", ""), call.query().get("filterType") == "Equals"

    def matches(own: str) -> bool:
        return own == name if exactly else own.startswith(name)

    return page(call, [it.shown for it in found if matches(str(it.shown.get("name", "")))])


def page(call: Call, found: Sequence[dict[str, Any]]) -> Answer:
    """Return one page in the platform's envelope, by pageSize (25) and pageNumber (1)."""
    size, number = call.query_number("pageSize", 25), call.query_number("pageNumber", 1)
    return Answer(status=200, body=encode(envelope("entities", found, size, number)), kind="read")


def envelope(
    name: str, found: Sequence[dict[str, Any]], size: int, number: int
) -> dict[str, object]:
    """Return page `number` of `found` under `name`; ApiError 400 for more than 100 a page."""
    if size > _MAX_PAGE:
        raise ApiError(400, "bad.request", f"pageSize is at most {_MAX_PAGE}.")
    return {
        name: found[(number - 1) * size : number * size],
        "pageSize": size,
        "pageNumber": number,
        "total": len(found),
        "pageCount": -(-len(found) // size),
    }


def visible_us(call: Call, now_us: int) -> int:
    """Return from when on reads find what is written now."""
    return now_us + round(call.config.read_lag_s * 1e6)


def created_id(call: Call) -> str:
    """Return the business id of an entity to be made: named by the caller, else its name."""
    return call.named_business_id() or call.text_field("name") or call.own_name()


def require(body: dict[str, Any], *names: str) -> None:
    """Raise ApiError 400 for fields that are missing or empty."""
    given = {name for name, value in body.items() if value is not None and value not in ("", [])}
    if missing := [name for name in names if name not in given]:
        raise ApiError(400, "bad.request", f"Required: {', '.join(missing)}.")


def not_found(name: str) -> ApiError:
    """Return the refusal for an id that nothing has."""
    return ApiError(404, "not.found", f"Nothing here has the id {name}.")


def name_taken(name: object) -> ApiError:
    """Return the refusal for a name that something else has."""
    return ApiError(409, "already.exists", f"The name {name} is taken.")
