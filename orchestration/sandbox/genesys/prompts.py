"""Prompts of Architect: a prompt, its resource in a language, the audio of that resource."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from orchestration.sandbox.calls import ApiOperation, Reply, encode_json
from orchestration.sandbox.genesys.entities import (
    Entities,
    name_taken,
    new_business_id,
    not_found,
    page_reply,
    require,
    visible_us,
)
from orchestration.sandbox.genesys.routes import PROMPTS_PATH

if TYPE_CHECKING:
    from orchestration.sandbox.calls import Call
    from orchestration.sandbox.config import JsonObject
    from orchestration.sandbox.genesys.entities import Entity
    from orchestration.sandbox.genesys.presigned import FileSlot, PresignedUrls


@dataclass(slots=True)
class _Resource:
    """The audio of one prompt in one language."""

    fields: JsonObject
    visible_us: int
    slot: FileSlot

    def shown(self, now_us: int) -> JsonObject:
        return {**self.fields, "uploadStatus": self.slot.status(now_us)}


class PromptsApi:
    """The prompts, and the calls for them."""

    def __init__(self, presigned: PresignedUrls) -> None:
        self._presigned = presigned
        self._prompts = Entities(PROMPTS_PATH)
        self._resources: dict[str, dict[str, _Resource]] = {}  # prompt -> language

    def operation(self, call: Call, parts: list[str]) -> ApiOperation | None:
        """Return what a call for the path's `parts` asks for; None: nothing of this kind."""
        match call.method, parts:
            case "POST", []:
                return ApiOperation(partial(self._create, call), lambda: (new_business_id(call),))
            case "GET", []:
                return ApiOperation(partial(self._search, call), lambda: ("prompts",), reads=True)
            case "GET", [prompt]:
                return ApiOperation(partial(self._get, prompt), lambda: (prompt,), reads=True)
            case _, [prompt, "resources", *below]:
                return self._operation_on_resource(call, prompt, below)
        return None

    def _operation_on_resource(
        self, call: Call, prompt: str, below: list[str]
    ) -> ApiOperation | None:
        match call.method, below:
            case "POST", []:
                run = partial(self._add_resource, call, prompt)
                return ApiOperation(run, lambda: (self._resource_id(call, prompt),))
            case "GET", [language]:
                run = partial(self._get_resource, prompt, language)
                return ApiOperation(run, lambda: (f"{prompt}/{language}",), reads=True)
            case "POST", [language, "uploads"]:
                # It counts as a read, since it creates nothing and an answer that is replayed under
                # a key could hold an expired URL.
                run = partial(self._issue_url, call, prompt, language)
                return ApiOperation(run, lambda: (f"{prompt}/{language}",), reads=True)
        return None

    def _create(self, call: Call, now_us: int) -> Reply:
        body = call.json_object()
        require(body, "name")
        created = self._prompts.create(call, body, now_us)
        self._resources[created.shown["id"]] = {}
        shown = encode_json({**created.shown, "resources": []})
        return Reply(status=200, body=shown, kind="effect", created=(new_business_id(call),))

    def _search(self, call: Call, now_us: int) -> Reply:
        names = {name.decode() for name in call.request.query_arguments.get("name", ())}
        prompts = [
            self._show(prompt, now_us)
            for prompt in self._prompts.read_all(now_us)
            if not names or prompt.shown["name"] in names
        ]
        return page_reply(call, prompts)

    def _get(self, prompt_id: str, now_us: int) -> Reply:
        shown = self._show(self._prompts.read(prompt_id, now_us), now_us)
        return Reply(status=200, body=encode_json(shown), kind="read")

    def _show(self, prompt: Entity, now_us: int) -> JsonObject:
        resources = self._resources[prompt.shown["id"]].values()
        shown = [resource.shown(now_us) for resource in resources if resource.visible_us <= now_us]
        return {**prompt.shown, "resources": shown}

    def _resource_id(self, call: Call, prompt_id: str) -> str:
        """Return the business id of a new resource: its prompt's name and its language."""
        if business_id := call.named_business_id():
            return business_id
        exists = prompt_id in self._prompts
        name = self._prompts.get(prompt_id).shown["name"] if exists else prompt_id
        return f"{name}/{call.text_field('language')}"

    def _add_resource(self, call: Call, prompt_id: str, now_us: int) -> Reply:
        prompt, body = self._prompts.get(prompt_id), call.json_object()
        require(body, "language")
        language, resources = str(body["language"]), self._resources[prompt_id]
        if language in resources:
            raise name_taken(language)
        uri = f"{PROMPTS_PATH}/{prompt_id}/resources/{language}"
        fields = {**body, "id": language, "promptId": prompt_id, "selfUri": uri}
        name = f"{prompt.shown['name']}/{language}"
        slot = self._presigned.create_slot(f"prompts/{prompt_id}/{language}", name)
        resource = _Resource(fields, visible_us(call, now_us), slot)
        resources[language] = resource
        return Reply(
            status=200,
            body=encode_json(resource.shown(now_us)),
            kind="effect",
            created=(self._resource_id(call, prompt_id),),
        )

    def _get_resource(self, prompt_id: str, language: str, now_us: int) -> Reply:
        resource = self._find_resource(prompt_id, language)
        if resource.visible_us > now_us:
            raise not_found(language)
        return Reply(status=200, body=encode_json(resource.shown(now_us)), kind="read")

    def _issue_url(self, call: Call, prompt_id: str, language: str, now_us: int) -> Reply:
        slot = self._find_resource(prompt_id, language).slot
        issued = self._presigned.issue(call, slot, now_us)
        return Reply(status=200, body=encode_json(issued), kind="url")

    def _find_resource(self, prompt_id: str, language: str) -> _Resource:
        resource = self._resources.get(prompt_id, {}).get(language)
        if resource is None:
            raise not_found(f"{prompt_id}/{language}")
        return resource
