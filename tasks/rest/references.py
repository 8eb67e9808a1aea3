"""References: the values of earlier answers, put where a step refers to them.

`{create.id}` stands for the value `id` in the answer of step `create`, `{part.id}` for the value
`id` of the part that a step with parts is sent for. In a path a value is quoted as one segment; a
body string that is nothing but a reference becomes the value itself. Pure.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tasks.kind import CannotSay
from tasks.rest.conditions import walk
from workers.http.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workers.governor.grants import Grant
    from workers.ledger.ledger import Row

#: `{step.name.in.answer}`; only steps of the row that come earlier are references.
REFERENCE: Final = re.compile(r"\{([A-Za-z0-9_-]+)((?:\.[A-Za-z0-9_-]+)+)\}")
#: Longest value that is kept of an answer, and all values of one, characters of JSON.
MAX_VALUE: Final = 4096
MAX_VALUES: Final = 65_536
#: What references may put into one request, characters of JSON: one row may refer to a value often.
MAX_FILLED: Final = 1_000_000
#: The name by which a step refers to its part.
PART: Final = "part"


def references(step: Mapping[str, Any], earlier: Sequence[str]) -> Iterator[str]:
    """Every reference of a step, and its look-up, to one of the earlier steps: "create.id".

    A step with parts refers to them by the name `PART`.
    """
    lookup = step.get("lookup", {})
    texts = [step["path"], lookup.get("path", "")]
    texts += [json.dumps([call.get("headers"), call.get("body")]) for call in (step, lookup)]
    texts += [json.dumps([lookup.get("found"), lookup.get("absent"), step.get("poll")])]
    for text in texts:
        for name, path in REFERENCE.findall(text):
            if name in earlier:
                yield name + path


def values_of(body: object, steps: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """What these steps refer to in the answer of the step of this name: reference → value.

    Null stands for a value that is too long to keep; what the answer does not hold is left out.
    """
    values: dict[str, Any] = {}
    room = MAX_VALUES
    for reference in dict.fromkeys(one for step in steps for one in references(step, [name])):
        value = walk(body, reference.split(".")[1:])
        if value is None:
            continue
        size = len(json.dumps(value))
        if size <= min(MAX_VALUE, room):
            values[reference] = value
            room -= size
        else:
            values[reference] = None
    return values


def check_part(step: Mapping[str, Any], part: object) -> None:
    """See to it that a part fills the path and the headers of its step.

    Raises:
        CannotSay: it does not; the text says what cannot stand where.
        ValueError: the path that comes of it leads elsewhere.
    """
    values = {reference: of_part(part, reference) for reference in references(step, [PART])}
    filler = Filler(values, [PART])
    for call in filter(None, (step, step.get("lookup"))):
        Request(call["method"], filler.path(call["path"]), filler.headers(call.get("headers", {})))


def of_part(part: object, reference: str) -> object:
    """The value of a part that a reference names; None when it has none."""
    return walk(part, reference.split(".")[1:])


def _segment(value: object) -> str:
    text = _plain(value)
    if text in {"", ".", ".."}:  # the path would lead to something else
        raise CannotSay("a value is empty or dots, which no path can hold")
    return quote(text, safe="")


def _header(value: object) -> str:
    text = _plain(value)
    if not text.isprintable() or not text.isascii():
        raise CannotSay("a value cannot stand in a header, which is printable ASCII")
    return text


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class Filler:
    """Puts values where a step refers to them.

    Args:
        values: Reference → value.
        earlier: The names that are references; braces around others are only text.
    """

    def __init__(self, values: Mapping[str, object], earlier: Sequence[str]) -> None:
        self._values = values
        self._earlier = earlier
        self._room = MAX_FILLED

    @classmethod
    def of(cls, row: Row, grant: Grant) -> Filler:
        """With the answers to the steps before this one, and its part if it has some."""
        values = grant.values
        *earlier, step = row["steps"][: grant.step]
        names = [before["name"] for before in earlier]
        if "parts" in step:
            names.append(PART)
            part = step["parts"][grant.part]
            values |= {
                reference: of_part(part, reference) for reference in references(step, [PART])
            }
        return cls(values, names)

    def path(self, path: str) -> str:
        """A path with its references replaced, each by one quoted segment."""
        return self._text(path, _segment)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers with the references in their values replaced."""
        return {name: self._text(value, _header) for name, value in headers.items()}

    def value(self, value: Any) -> Any:  # noqa: ANN401 -- any JSON value comes out as it goes in
        """A JSON value with the references in its strings replaced."""
        if isinstance(value, dict):
            return {self._text(name): self.value(member) for name, member in value.items()}
        if isinstance(value, list):
            return [self.value(member) for member in value]
        if isinstance(value, str):
            whole = REFERENCE.fullmatch(value)
            return self._find(whole) if whole and whole[1] in self._earlier else self._text(value)
        return value

    def _text(self, text: str, as_text: Callable[[object], str] = _plain) -> str:
        """A text with its references replaced."""
        return REFERENCE.sub(
            lambda match: as_text(self._find(match)) if match[1] in self._earlier else match[0],
            text,
        )

    def _find(self, match: re.Match[str]) -> object:
        reference = match[0][1:-1]
        if reference not in self._values:
            raise CannotSay(f"the answer of step {match[1]} holds no {reference}")
        value = self._values[reference]
        if value is None:
            raise CannotSay(
                f"{reference} was not kept: it is longer than {MAX_VALUE} characters, or all that "
                f"was to be kept of its answer than {MAX_VALUES}"
            )
        try:
            self._room -= len(json.dumps(value, ensure_ascii=False).encode())
        except UnicodeEncodeError:
            raise CannotSay(f"{reference} holds half of a surrogate pair") from None
        if self._room < 0:
            raise CannotSay(f"its references come to more than {MAX_FILLED:,} characters")
        return value
