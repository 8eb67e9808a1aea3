"""Prompts of Architect: a prompt, its resource in a language, the audio of that resource."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestration.sandbox.calls.call import Answer, Operation, encode
from orchestration.sandbox.genesys.entities import (
    Entities,
    created_id,
    name_taken,
    not_found,
    page,
    require,
    visible_us,
)
from orchestration.sandbox.genesys.routes import PROMPTS

if TYPE_CHECKING:
    from orchestration.sandbox.calls.call import Call
    from orchestration.sandbox.genesys.entities import Entity
    from orchestration.sandbox.genesys.presigned import Presigned, Slot


@dataclass(slots=True)
class _Resource:
    about: dict[str, Any]
    visible_us: int
    slot: Slot

    def shown(self, now_us: int) -> dict[str, Any]:
        return {**self.about, "uploadStatus": self.slot.stage(now_us)}


class Prompts:
    """The prompts, and the calls for them."""

    def __init__(self, presigned: Presigned) -> None:
        self._presigned = presigned
        self._prompts = Entities(PROMPTS)
        self._resources: dict[str, dict[str, _Resource]] = {}  # prompt -> language

    def operation(  # noqa: PLR0911 - one case a route
        self, call: Call, parts: list[str]
    ) -> Operation | None:
        """Return what a call for the path's `parts` asks for; None: nothing of this kind."""
        match call.method, parts:
            case "POST", []:
                return Operation(partial(self._create, call), lambda: (created_id(call),))
            case "GET", []:
                return Operation(partial(self._search, call), lambda: ("prompts",), reads=True)
            case "GET", [prompt]:
                return Operation(partial(self._get, prompt), lambda: (prompt,), reads=True)
            case "POST", [prompt, "resources"]:
                run = partial(self._add_resource, call, prompt)
                return Operation(run, lambda: (self._resource_id(call, prompt),))
            case "GET", [prompt, "resources", language]:
                run = partial(self._get_resource, prompt, language)
                return Operation(run, lambda: (f"{prompt}/{language}",), reads=True)
            case "POST", [prompt, "resources", language, "uploads"]:
                # Nothing is made, and an answer out of a key's memory could be an expired URL.
                run = partial(self._give_url, call, prompt, language)
                return Operation(run, lambda: (f"{prompt}/{language}",), reads=True)
        return None

    def _create(self, call: Call, now_us: int) -> Answer:
        body = call.json_object()
        require(body, "name")
        made = self._prompts.make(call, body, now_us)
        self._resources[made.shown["id"]] = {}
        shown = encode({**made.shown, "resources": []})
        return Answer(status=200, body=shown, kind="effect", created=(created_id(call),))

    def _search(self, call: Call, now_us: int) -> Answer:
        names = {it.decode() for it in call.request.query_arguments.get("name", ())}
        found = [
            self._shown(prompt, now_us)
            for prompt in self._prompts.all_seen(now_us)
            if not names or prompt.shown["name"] in names
        ]
        return page(call, found)

    def _get(self, prompt_id: str, now_us: int) -> Answer:
        shown = self._shown(self._prompts.seen(prompt_id, now_us), now_us)
        return Answer(status=200, body=encode(shown), kind="read")

    def _shown(self, prompt: Entity, now_us: int) -> dict[str, Any]:
        resources = self._resources[prompt.shown["id"]].values()
        seen = [it.shown(now_us) for it in resources if it.visible_us <= now_us]
        return {**prompt.shown, "resources": seen}

    def _resource_id(self, call: Call, prompt_id: str) -> str:
        """Return the business id of a resource to be made: its prompt's name and its language."""
        if named := call.named_business_id():
            return named
        known = prompt_id in self._prompts
        name = self._prompts.known(prompt_id).shown["name"] if known else prompt_id
        return f"{name}/{call.text_field('language')}"

    def _add_resource(self, call: Call, prompt_id: str, now_us: int) -> Answer:
        prompt, body = self._prompts.known(prompt_id), call.json_object()
        require(body, "language")
        language, resources = str(body["language"]), self._resources[prompt_id]
        if language in resources:
            raise name_taken(language)
        uri = f"{PROMPTS}/{prompt_id}/resources/{language}"
        about = {**body, "id": language, "promptId": prompt_id, "selfUri": uri}
        name = f"{prompt.shown['name']}/{language}"
        slot = self._presigned.slot(f"prompts/{prompt_id}/{language}", name)
        made = _Resource(about, visible_us(call, now_us), slot)
        resources[language] = made
        return Answer(
            status=200,
            body=encode(made.shown(now_us)),
            kind="effect",
            created=(self._resource_id(call, prompt_id),),
        )

    def _get_resource(self, prompt_id: str, language: str, now_us: int) -> Answer:
        found = self._known(prompt_id, language)
        if found.visible_us > now_us:
            raise not_found(language)
        return Answer(status=200, body=encode(found.shown(now_us)), kind="read")

    def _give_url(self, call: Call, prompt_id: str, language: str, now_us: int) -> Answer:
        slot = self._known(prompt_id, language).slot
        given = self._presigned.url(call, slot, now_us)
        return Answer(status=200, body=encode(given), kind="url")

    def _known(self, prompt_id: str, language: str) -> _Resource:
        found = self._resources.get(prompt_id, {}).get(language)
        if found is None:
            raise not_found(f"{prompt_id}/{language}")
        return found
