"""Steps of kind `calls`: any REST request, or a chain of them, as a row.

A row's steps are `{"name", "method", "path", "headers", "body", "guard"}`, and where need be
`"lookup"` and `"after_unknown"`, `"poll"` or `"parts"`. A later step may use an earlier answer, see
`tasks.rest.references`. A step with `"parts"`, a list of objects, is sent once for each of them,
one after the other. A look-up is a request of this form with `"found"`, and maybe `"absent"`; how
its answer is read stands in `tasks.rest.conditions`, and that to a poll in `tasks.rest.conditions`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tasks.kind import CannotSay, Polled, StepKind, StepPlan, StepResult
from tasks.rest import conditions
from tasks.rest.references import Filler, values_of
from workers.answer.guards import READS, Guard, LookupResult
from workers.http.connection import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.answer.outcome import Answer
    from workers.governor.grants import Grant
    from workers.ledger.job import JobParams
    from workers.ledger.ledger import Row
    from workers.settings.client import ClientSettings

#: How a look-up's answer is read.
_READ = ("found", "absent")
#: Made once, for each request is written.
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
#: Longest id that is kept of an answer, characters.
MAX_ID: Final = 128

#: The guards that a step may declare, by their names.
GUARDS: Final = {
    "key": Guard.KEY,
    "upsert": Guard.UPSERT,
    "lookup": Guard.LOOKUP,
    "none": Guard.NONE,
}


def guard_of(step: Mapping[str, Any], client: ClientSettings) -> Guard:
    """The guard of a step: its own, or what the client's provider honours."""
    if "guard" in step:
        return GUARDS[step["guard"]]
    if step["method"] in READS:
        return Guard.READ
    return Guard.KEY if client.idempotency == "key" else Guard.NONE


class CallSteps(StepKind):
    """Rows that say themselves what is sent."""

    task = "calls.call"

    def plan(self, row: Row, params: JobParams, client: ClientSettings) -> Sequence[StepPlan]:
        """One call a step."""
        del params
        return [
            StepPlan(
                _route(step),
                guard_of(step, client),
                _route(step["lookup"]) if "lookup" in step else "",
                step.get("after_unknown", {}),
                step.get("name", ""),
                parts=len(step.get("parts", [None])),
                polls=step["poll"]["times"] if "poll" in step else 0,
                every_s=step["poll"]["every_s"] if "poll" in step else 0.0,
            )
            for step in row["steps"]
        ]

    def request(self, row: Row, params: JobParams, grant: Grant) -> Request:
        """The step's request, or its look-up's, references filled from the answers so far."""
        del params
        step = row["steps"][grant.step - 1]
        call = step["lookup"] if grant.looking else step
        headers, body, path = dict(call.get("headers", {})), call.get("body"), call["path"]
        if grant.step > 1 or "parts" in step:
            filler = Filler.of(row, grant)
            path, body, headers = filler.path(path), filler.value(body), filler.headers(headers)
        data = None
        if body is not None:
            data = _encode(body).encode()
            headers.setdefault("Content-Type", "application/json")
        return Request(call["method"], path, headers, data)

    def read_lookup(self, row: Row, grant: Grant, answer: Answer) -> LookupResult:
        """What the step's look-up saw."""
        lookup = row["steps"][grant.step - 1]["lookup"]
        try:
            filler = Filler.of(row, grant)
            wanted = {name: filler.value(lookup[name]) for name in _READ if name in lookup}
        except CannotSay:  # a value that it asks for was not kept
            return LookupResult.UNSURE
        return conditions.read_lookup(answer, wanted)

    def read_poll(self, row: Row, grant: Grant, answer: Answer) -> Polled:
        """What the step's poll says."""
        poll = row["steps"][grant.step - 1]["poll"]
        return conditions.read_poll(answer, Filler.of(row, grant).value(poll))

    def keep(self, row: Row, grant: Grant, answer: Answer) -> StepResult:
        """The provider's id, and the values that later steps refer to."""
        steps = row["steps"]
        body = answer.json()
        if grant.looking:
            body = conditions.find_value(answer, steps[grant.step - 1]["lookup"]["found"])
        name = steps[grant.step - 1].get("name", "")
        values = values_of(body, steps[grant.step :], name)
        return StepResult(id_in(body), json.dumps(values) if values else "")


def _route(call: Mapping[str, Any]) -> str:
    return f"{call['method']} {call['path']}"


def id_in(body: object) -> str:
    """What the provider calls the result: `id` of an object, or of the first of a list.

    At most 128 characters, all of which UTF-8 can say.
    """
    if isinstance(body, list) and body:
        body = body[0]
    value = body.get("id") if isinstance(body, dict) else None
    text = str(value)[:MAX_ID] if isinstance(value, str | int) else ""
    return text.encode(errors="replace").decode()
