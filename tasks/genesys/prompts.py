"""Steps of kind `prompts`: audio of Architect prompts, one file for each prompt and language.

A prompt is found by its name, or made; then its resource in the language; then the file is sent to
a signed URL, in place of what may be there, and transcoded. Of several rows with one prompt the
first makes it (`"made_by"` names it), and the others wait for that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from tasks.genesys.media import JSON, MediaSteps, body, call, one_of, read_object, ready, transfer
from tasks.genesys.operations import OPERATIONS, pick
from tasks.kind import LocalResult, Polled, StepPlan, StepResult
from workers.answer.guards import Guard, LookupResult
from workers.answer.verdict import Awaited
from workers.http.connection import Request
from workers.ledger.transaction import FINAL, merge_answers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.answer.outcome import Answer
    from workers.clients import Client
    from workers.governor.grants import Grant
    from workers.ledger.job import JobParams
    from workers.ledger.ledger import Row
    from workers.settings.client import ClientSettings

#: A row that waits for the prompt of another one is woken when that one has done this step, or has
#: ended; should its name be lost, it looks again after so long, seconds.
MADE: Final = 2
LOOK_S: Final = 3600.0
_FOUND: Final = range(200, 300)
_ABSENT: Final = 404


class PromptSteps(MediaSteps):
    """Rows are files of audio, each for a prompt in a language."""

    task = "genesys.make_prompt"
    local_task = "genesys.transfer_prompt"
    operations = pick(
        "find_prompt",
        "create_prompt",
        "read_prompt",
        "create_prompt_resource",
        "read_prompt_resource",
        "give_prompt_url",
    )

    def plan(self, row: Row, params: JobParams, client: ClientSettings) -> Sequence[StepPlan]:
        """Find or make the prompt, make its resource, get a URL, send the file, wait for it."""
        del params, client
        if "made_by" in row:
            first = [StepPlan("", Guard.READ, name="prompt", local=True)]
        else:
            first = [
                call("find_prompt", "find"),
                call("create_prompt", "prompt", "find_prompt"),
            ]
        return [
            *first,
            call("create_prompt_resource", "resource", "read_prompt_resource"),
            call("give_prompt_url", "url"),
            transfer(),
            ready("read_prompt_resource"),
        ]

    def request(self, row: Row, params: JobParams, grant: Grant) -> Request:
        """What the step sends; what is there already is read instead of made."""
        del params
        step = _step(row, grant)
        if step == "find" or (step == "prompt" and grant.looking):
            query = urlencode({"name": row["name"], "pageSize": 100}, quote_via=quote)
            return Request("GET", f"{_at('find_prompt')}?{query}")
        if step == "prompt":
            if known := grant.values.get("prompt"):
                return Request("GET", _at("read_prompt", known))
            return Request("POST", _at("create_prompt"), JSON, body({"name": row["name"]}))
        prompt, language = one_of(grant, "prompt"), row["language"]
        if step == "url":
            return Request("POST", _at("give_prompt_url", prompt, language))
        if step == "ready" or grant.looking or language in grant.values.get("languages", ()):
            return Request("GET", _at("read_prompt_resource", prompt, language))
        resource = body({"language": language})
        return Request("POST", _at("create_prompt_resource", prompt), JSON, resource)

    def read_lookup(self, row: Row, grant: Grant, answer: Answer) -> LookupResult:
        """Whether the prompt, or its resource, is there."""
        if answer.error or answer.status not in {*_FOUND, _ABSENT}:
            return LookupResult.UNSURE
        if _step(row, grant) == "resource":
            return LookupResult.FOUND if answer.status in _FOUND else LookupResult.ABSENT
        return LookupResult.FOUND if _named(row, answer) else LookupResult.ABSENT

    def read_poll(self, row: Row, grant: Grant, answer: Answer) -> Polled:
        """How far the transcoding is."""
        del row, grant
        if answer.status not in {*_FOUND, _ABSENT}:
            return Polled.UNSAID
        match read_object(answer).get("uploadStatus"):
            case "transcoded":
                return Polled.READY
            case "transcodeFailed":
                return Polled.FAILED
        return Polled.NOT_YET

    def explain_failure(self, row: Row, answer: Answer) -> str:
        """Name the file that could not be transcoded."""
        del answer
        return f"{row['path']} could not be transcoded; correct this file and submit it again"

    def keep(self, row: Row, grant: Grant, answer: Answer) -> StepResult:
        """The prompt's id and languages, or the signed URL."""
        step, content = _step(row, grant), read_object(answer)
        if step == "find" or (step == "prompt" and grant.looking):
            content = _named(row, answer)
        if step in {"find", "prompt"}:
            prompt = content.get("id")
            text = prompt if isinstance(prompt, str) else ""
            there = {"languages": _languages(content)} if step == "find" else {}
            return StepResult(
                text if step == "prompt" else "", json.dumps({"prompt": text, **there})
            )
        if step == "url":
            return StepResult(
                "", json.dumps({name: content.get(name) for name in ("url", "headers")})
            )
        return StepResult(f"{one_of(grant, 'prompt')}/{row['language']}", "{}")

    def run_local(self, row: Row, params: JobParams, grant: Grant, client: Client) -> LocalResult:
        """Send the file; or wait for the prompt that another row makes."""
        if grant.step > 1 or "made_by" not in row:
            return super().run_local(row, params, grant, client)
        key = client.key(grant.job, row["made_by"])
        maker = client.ledger.transaction(key)
        known = merge_answers(maker.answers) if maker else {}
        if prompt := known.get("prompt"):
            values = {name: known.get(name, []) for name in ("prompt", "languages")}
            return LocalResult("done", kept=StepResult(prompt, json.dumps(values)))
        if maker and maker.state in FINAL:
            return LocalResult(
                "failed",
                f"row {row['made_by']}, which makes this prompt, {maker.state}; replay it first",
            )
        return LocalResult(
            "not yet",
            f"row {row['made_by']} makes this prompt",
            after_s=LOOK_S,
            waits_for=Awaited(key, MADE),
        )


def _step(row: Row, grant: Grant) -> str:
    names = ("prompt", "resource", "url", "transfer", "ready")
    return (names if "made_by" in row else ("find", *names))[grant.step - 1]


def _at(operation: str, *ids: str) -> str:
    return OPERATIONS[operation].at(*ids)


def _named(row: Row, answer: Answer) -> dict[str, Any]:
    """The prompt of exactly this name in the answer to a search; empty: there is none."""
    entities = read_object(answer).get("entities")
    prompts = entities if isinstance(entities, list) else []
    named = (prompt for prompt in prompts if isinstance(prompt, dict))
    return next((prompt for prompt in named if prompt.get("name") == row["name"]), {})


def _languages(prompt: Mapping[str, Any]) -> list[str]:
    resources = prompt.get("resources")
    languages = (
        resource.get("language") or resource.get("id")
        for resource in (resources if isinstance(resources, list) else [])
        if isinstance(resource, dict)
    )
    return [language for language in languages if isinstance(language, str)]
