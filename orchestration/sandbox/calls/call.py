"""One request to the provider, with what the provider learns of it on its way."""

from __future__ import annotations

import sys
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from orchestration.sandbox.calls.reply import ApiError, Reply, bad_request, encode_json
from orchestration.sandbox.config import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado.httputil import HTTPServerRequest

    from orchestration.sandbox.calls.reply import ReplyKind
    from orchestration.sandbox.config import Config, JsonObject
    from orchestration.sandbox.quota import Semaphore

#: Paths below it steer the sandbox itself.
CONTROL_PREFIX = "/_sandbox/"
#: Paths of the host that takes files begin with it.
TRANSFER_PREFIX = "/transfers/"

_NOT_PARSED = object()


class Call:
    """One request to the API, from its arrival on."""

    def __init__(self, request: HTTPServerRequest, config: Config, t_us: int, route: str) -> None:
        self.request = request
        self.config = config  #: as it was at the arrival
        self.t_us = t_us  #: arrival, wall clock, microseconds since the Unix epoch
        self.method = request.method or ""
        self.path = sys.intern(request.path)  # the journal holds it as often as it is called
        self.host = ""  #: "transfers": the host of the signed URLs; "": the API
        self.body = request.body
        self.route = route  #: path with names in place of the ids
        self.key = request.headers.get(config.idempotency_header, "")
        self.client = ""  #: OAuth client id, once the token is known
        self.fault = ""  #: kind of the fault that hits it, or "storm"
        self.context_id = str(uuid.uuid4())
        self.rate_headers: dict[str, str] = {}
        self.refused_by = ""  #: name of the limit that refuses it
        self.ahead_us = 0  #: how far the clock of lifetimes was ahead at the arrival
        self.permits: list[Semaphore] = []  #: concurrent limits that count it while it is in work
        self._parsed: object = _NOT_PARSED

    def json(self) -> object:
        """Parse the body, once.

        Raises:
            ApiError: 400, the body is not JSON.
        """
        if self._parsed is _NOT_PARSED:
            try:
                self._parsed = parse_json(self.body)
            except ValueError:
                raise bad_request("The request body is not valid JSON.") from None
        return self._parsed

    def json_object(self) -> JsonObject:
        """Parse a body that must be a JSON object; errors as in `json`."""
        body = self.json()
        if not isinstance(body, dict):
            raise bad_request("The request body must be a JSON object.")
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

    def unnamed_business_id(self) -> str:
        """Return what stands for a business id where the caller named none.

        Two sends under one idempotency key are one call. Without a key each send is a call.
        """
        return self.key or self.context_id

    def query(self) -> dict[str, str]:
        """Return the query's parameters, the last value of each."""
        return {name: values[-1] for name, values in parse_qs(self.request.query).items()}

    def query_flag(self, name: str) -> bool:
        """Tell whether a parameter of the query is true."""
        return self.query().get(name, "").lower() == "true"

    def query_number(self, name: str, default: int) -> int:
        """Return a parameter that must be a whole number from 1; ApiError 400 otherwise."""
        text = self.query().get(name, str(default))
        if not (text.isascii() and text.isdigit() and int(text) >= 1):
            raise bad_request(f"{name} must be a whole number from 1.")
        return int(text)

    def error_reply(self, error: ApiError, kind: ReplyKind = "error") -> Reply:
        """Return a reply with the platform's error body."""
        body = {
            "message": error.message,
            "code": error.code,
            "status": error.status,
            "contextId": self.context_id,
            "details": [],
            "errors": [],
        }
        return Reply(status=error.status, body=encode_json(body), kind=kind)

    def too_many_requests(self, retry_after: str | None) -> Reply:
        """Return the platform's 429; `retry_after` becomes the header as it stands, None: none."""
        message = "Rate limit exceeded the maximum."
        if retry_after is not None:
            message += f" Retry the request in [{retry_after}] seconds"
        error = ApiError(429, "too.many.requests.retry.after", message)
        reply = self.error_reply(error, kind="refused")
        if retry_after is not None:
            reply.headers["Retry-After"] = retry_after
        return reply

    def release_permits(self) -> None:
        """Let the concurrent limits that counted this call take another one in its place."""
        while self.permits:
            self.permits.pop().release()


@dataclass(frozen=True, slots=True)
class ApiOperation:
    """What a call asks for; its business ids are known before it runs, for the faults."""

    run: Callable[[int], Reply]  #: takes the lifetimes' clock at the moment of the effect
    business_ids: Callable[[], tuple[str, ...]]
    reads: bool = False  #: has no effect, so that its key is ignored
