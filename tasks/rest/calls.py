"""Steps of kind `calls`: any REST request, or a chain of them, as a row.

A row's steps are `{"name", "method", "path", "headers", "body", "guard"}`, and where need be
`"lookup"` and `"after_unknown"`, `"poll"` or `"parts"`. A later step may use an earlier answer:
`{create.id}` stands for the value `id` in the answer of step `create`. In a path it is quoted as
one segment; a body string that is nothing but a reference becomes the value itself. A step with
`"parts"`, a list of objects, is sent once for each of them, one after the other: `{part.id}` is the
value `id` of the part. A look-up is a request of this form with `"found"`, and maybe `"absent"`;
how its answer is read stands in `tasks.rest.looking`, and that to a poll in `tasks.rest.polling`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tasks.kind import CannotSay, Kept, Planned, Polled, StepKind
from tasks.rest import looking, polling
from workers.answer.guards import Guard, Sight
from workers.http.connection import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workers.answer.outcome import Answer
    from workers.governor.governor import Go
    from workers.ledger.ledger import Row
    from workers.settings.client import ClientSettings

#: `{step.name.in.answer}`; only steps of the row that come earlier are references.
REFERENCE = re.compile(r"\{([A-Za-z0-9_-]+)((?:\.[A-Za-z0-9_-]+)+)\}")
#: Longest value that is kept of an answer, characters of JSON.
MAX_VALUE = 4096
#: More digits than the place in any list has.
MAX_DIGITS = 7
#: The name by which a step refers to its part.
PART: Final = "part"
#: Methods without an effect at the provider.
READS = frozenset({"GET", "HEAD"})
#: How a look-up's answer is read.
_READ = ("found", "absent")

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


def references(step: Mapping[str, Any], earlier: Sequence[str]) -> Iterator[str]:
    """Every reference of a step, and its look-up, to one of the earlier steps: "create.id".

    A step with parts refers to them by the name `PART`.
    """
    lookup = step.get("lookup", {})
    texts = [step["path"], lookup.get("path", "")]
    texts += [json.dumps([it.get("headers"), it.get("body")]) for it in (step, lookup)]
    texts += [json.dumps([lookup.get("found"), lookup.get("absent"), step.get("poll")])]
    for text in texts:
        for name, path in REFERENCE.findall(text):
            if name in earlier:
                yield name + path


class CallSteps(StepKind):
    """Rows that say themselves what is sent."""

    task = "calls.call"

    def plan(self, row: Row, about: Mapping[str, Any], client: ClientSettings) -> Sequence[Planned]:
        """One call a step."""
        del about
        return [
            Planned(
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

    def request(self, row: Row, about: Mapping[str, Any], grant: Go) -> Request:
        """The step's request, or its look-up's, references filled from the answers so far."""
        del about
        step = row["steps"][grant.step - 1]
        step = step["lookup"] if grant.looking else step
        headers, body, path = dict(step.get("headers", {})), step.get("body"), step["path"]
        if grant.step > 1 or "parts" in row["steps"][grant.step - 1]:
            fill = _Filler.of(row, grant)
            path, body = fill.text(path, _segment), fill.value(body)
            headers = {name: fill.text(value, _header) for name, value in headers.items()}
        data = None
        if body is not None:
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
            headers.setdefault("Content-Type", "application/json")
        return Request(step["method"], path, headers, data)

    def sight(self, row: Row, grant: Go, answer: Answer) -> Sight:
        """What the step's look-up saw."""
        lookup = row["steps"][grant.step - 1]["lookup"]
        try:
            read = {it: _Filler.of(row, grant).value(lookup[it]) for it in _READ if it in lookup}
        except CannotSay:  # a value that it asks for was not kept
            return Sight.UNSURE
        return looking.sight(answer, read)

    def polled(self, row: Row, grant: Go, answer: Answer) -> Polled:
        """What the step's poll says."""
        poll = row["steps"][grant.step - 1]["poll"]
        return polling.polled(answer, _Filler.of(row, grant).value(poll))

    def keep(self, row: Row, grant: Go, answer: Answer) -> Kept:
        """The provider's id, and the values that later steps refer to."""
        steps = row["steps"]
        body = answer.json()
        if grant.looking:
            body = looking.made(answer, steps[grant.step - 1]["lookup"]["found"])
        name = steps[grant.step - 1].get("name", "")
        wanted = {  # null stands for a value that is too long to keep
            reference: value if len(json.dumps(value)) <= MAX_VALUE else None
            for step in steps[grant.step :]
            for reference in references(step, [name])
            if (value := _look_up(body, reference.split(".")[1:])) is not None
        }
        return Kept(id_in(body), json.dumps(wanted) if wanted else "")


def _route(call: Mapping[str, Any]) -> str:
    return f"{call['method']} {call['path']}"


def id_in(body: Any) -> str:  # noqa: ANN401 -- any JSON value
    """What the provider calls the result: `id` of an object, or of the first of a list.

    At most 128 characters, all of which UTF-8 can say.
    """
    if isinstance(body, list) and body:
        body = body[0]
    value = body.get("id") if isinstance(body, dict) else None
    text = str(value)[:128] if isinstance(value, str | int) else ""
    return text.encode(errors="replace").decode()


def check_part(step: Mapping[str, Any], part: Any) -> None:  # noqa: ANN401 -- any JSON value
    """See to it that a part fills the path and the headers of its step.

    Raises:
        CannotSay: it does not; the text says what cannot stand where.
        ValueError: the path that comes of it leads elsewhere.
    """
    fill = _Filler({it: of_part(part, it) for it in references(step, [PART])}, [PART])
    for it in filter(None, (step, step.get("lookup"))):
        headers = {name: fill.text(value, _header) for name, value in it.get("headers", {}).items()}
        Request(it["method"], fill.text(it["path"], _segment), headers)


def of_part(part: Any, reference: str) -> Any:  # noqa: ANN401 -- any JSON value
    """The value of a part that a reference names; None when it has none."""
    return _look_up(part, reference.split(".")[1:])


def _look_up(value: Any, path: Sequence[str]) -> Any:  # noqa: ANN401 -- any JSON value
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and len(part) < MAX_DIGITS and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def _segment(value: Any) -> str:  # noqa: ANN401 -- any JSON value
    text = _plain(value)
    if text in {"", ".", ".."}:  # the path would lead to something else
        raise CannotSay("a value is empty or dots, which no path can hold")
    return quote(text, safe="")


def _header(value: Any) -> str:  # noqa: ANN401 -- any JSON value
    text = _plain(value)
    if not text.isprintable() or not text.isascii():
        raise CannotSay("a value cannot stand in a header, which is printable ASCII")
    return text


def _plain(value: Any) -> str:  # noqa: ANN401 -- any JSON value
    return value if isinstance(value, str) else json.dumps(value)


class _Filler:
    """Puts the values of earlier answers where a step refers to them."""

    def __init__(self, values: Mapping[str, Any], earlier: Sequence[str]) -> None:
        self._values = values
        self._earlier = earlier

    @classmethod
    def of(cls, row: Row, grant: Go) -> _Filler:
        """With the answers to the steps before this one, and its part if it has some."""
        values = {name: value for answer in grant.answers for name, value in answer.items()}
        *earlier, step = row["steps"][: grant.step]
        names = [it["name"] for it in earlier]
        if "parts" in step:
            names.append(PART)
            for it in references(step, [PART]):
                values[it] = of_part(step["parts"][grant.part], it)
        return cls(values, names)

    def _of(self, found: re.Match[str]) -> Any:  # noqa: ANN401 -- any JSON value
        reference = found[0][1:-1]
        if reference not in self._values:
            raise CannotSay(f"the answer of step {found[1]} holds no {reference}")
        value = self._values[reference]
        if value is None:
            raise CannotSay(f"{reference} is longer than {MAX_VALUE} characters and was not kept")
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise CannotSay(f"{reference} holds half of a surrogate pair") from None
        return value

    def text(self, text: str, as_text: Callable[[Any], str] = _plain) -> str:
        """A text with its references replaced."""
        return REFERENCE.sub(
            lambda found: as_text(self._of(found)) if found[1] in self._earlier else found[0], text
        )

    def value(self, value: Any) -> Any:  # noqa: ANN401 -- any JSON value
        """A JSON value with the references in its strings replaced."""
        if isinstance(value, dict):
            return {self.text(name): self.value(it) for name, it in value.items()}
        if isinstance(value, list):
            return [self.value(it) for it in value]
        if isinstance(value, str):
            whole = REFERENCE.fullmatch(value)
            return self._of(whole) if whole and whole[1] in self._earlier else self.text(value)
        return value
