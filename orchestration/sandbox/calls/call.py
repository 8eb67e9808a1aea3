"""One call and its answer, as every part of the sandbox passes them on."""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado.httputil import HTTPServerRequest

    from orchestration.sandbox.config.config import Config
    from orchestration.sandbox.quota.meters import Places

#: Paths below it steer the sandbox itself.
CONTROL_PREFIX = "/_sandbox/"

_UNREAD = object()
_ENCODER = json.JSONEncoder(separators=(",", ":"))  # made once: costs more than a small text


class ApiError(Exception):
    """The API understood the request and refuses it; becomes an error body of the platform."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message


class Call:
    """One request to the API, from its arrival on."""

    def __init__(self, request: HTTPServerRequest, config: Config, t_us: int, route: str) -> None:
        self.request = request
        self.config = config  #: as it was at the arrival
        self.t_us = t_us  #: arrival, wall clock
        self.method = request.method or ""
        self.path = sys.intern(request.path)  # the journal keeps it
        self.host = ""  #: "transfers": it came to the host of the signed URLs; "": to the API
        self.body = request.body
        self.route = route  #: path template
        self.key = request.headers.get(config.idempotency_header, "")
        self.client = ""  #: OAuth client id, once the token is known
        self.fault = ""  #: kind of the fault that hits it, or "storm"
        self.context_id = str(uuid.uuid4())
        self.rate_headers: dict[str, str] = {}
        self.refused_by = ""  #: name of the limit that refuses it
        self.ahead_us = 0  #: how far the clock of lifetimes was ahead at the arrival
        self.places: list[Places] = []  #: that it holds while it is in work
        self._parsed: object = _UNREAD

    def json(self) -> object:
        """Parse the body, once.

        Raises:
            ApiError: 400, the body is not JSON.
        """
        if self._parsed is _UNREAD:
            try:
                self._parsed = json.loads(self.body)
            except ValueError:
                raise ApiError(400, "bad.request", "The request body is not valid JSON.") from None
        return self._parsed

    def json_object(self) -> dict[str, Any]:
        """Parse a body that must be a JSON object; as `json` otherwise."""
        body = self.json()
        if not isinstance(body, dict):
            raise ApiError(400, "bad.request", "The request body must be a JSON object.")
        return body

    def text_field(self, name: str) -> str | None:
        """Return one field of a JSON object as text; None: no such field, or another body."""
        if self.body[:1] != b"{":
            return None
        try:
            value = self.json_object().get(name)
        except ApiError:
            return None
        return None if value is None else str(value)

    def named_business_id(self) -> str | None:
        """Return the business id that the caller named, in the body's field or in the header."""
        return self.text_field("business_id") or self.request.headers.get("X-Business-Id")

    def own_name(self) -> str:
        """Return what tells this call from others where no business id is named.

        Two sends under one idempotency key are one call; without a key each send is a call.
        """
        return self.key or self.context_id

    def query(self) -> dict[str, str]:
        """Return the query's parameters, the last value of each."""
        return {name: values[-1] for name, values in parse_qs(self.request.query).items()}

    def asks(self, name: str) -> bool:
        """Tell whether a parameter is given as true."""
        return self.query().get(name, "").lower() == "true"

    def query_number(self, name: str, default: int) -> int:
        """Return a parameter that must be a whole number from 1; ApiError 400 otherwise."""
        text = self.query().get(name, str(default))
        if not (text.isascii() and text.isdigit() and int(text) >= 1):
            raise ApiError(400, "bad.request", f"{name} must be a whole number from 1.")
        return int(text)


@dataclass(slots=True, kw_only=True)
class Answer:
    """What goes back, and what the call did; status 0: the connection is closed without answer."""

    status: int
    body: bytes = b""
    #: effect, repeat, replay, refused, unauthorised, fault, read, url, error, token or leak
    kind: str = "error"
    headers: dict[str, str] = field(default_factory=dict)
    created: tuple[str, ...] = ()  #: business ids of effects
    updated: tuple[str, ...] = ()  #: business ids whose data changed
    repeated: tuple[str, ...] = ()  #: business ids that were there already, with the same data
    queued: tuple[str, ...] = ()  #: contacts that were put into the queue to be dialled
    md5: str = ""  #: of a file that arrived, hexadecimal
    size: int = 0  #: bytes of a file


@dataclass(frozen=True, slots=True)
class Operation:
    """What a call asks for; its business ids are known before it runs, for the faults."""

    run: Callable[[int], Answer]  #: takes the lifetimes' clock at the moment of the effect
    business_ids: Callable[[], tuple[str, ...]]
    reads: bool = False  #: no effect, so no key is needed


def encode(value: object) -> bytes:
    """Return compact JSON."""
    return _ENCODER.encode(value).encode()


def error(call: Call, status: int, code: str, message: str, kind: str = "error") -> Answer:
    """Return an answer with the platform's error body."""
    body = {
        "message": message,
        "code": code,
        "status": status,
        "contextId": call.context_id,
        "details": [],
        "errors": [],
    }
    return Answer(status=status, body=encode(body), kind=kind)


def too_many_requests(call: Call, retry_after: str | None) -> Answer:
    """Return the platform's 429; `retry_after` goes into the header as it is, None: no header."""
    message = "Rate limit exceeded the maximum."
    if retry_after is not None:
        message += f" Retry the request in [{retry_after}] seconds"
    answer = error(call, 429, "too.many.requests.retry.after", message, kind="refused")
    if retry_after is not None:
        answer.headers["Retry-After"] = retry_after
    return answer


def reason_of(status: int) -> str:
    """Return the standard phrase of a status, or a neutral word."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
