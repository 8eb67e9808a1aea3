"""How a call from outside of jobs travels: with a permit, over the client's own connections."""

from __future__ import annotations

import random
import uuid
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from workers.answer.outcome import Answer, Next, read
from workers.answer.quota_headers import read_shortage
from workers.clock import now_ns, wait
from workers.errors import STORE_FAILS, GrantStale
from workers.http.connection import Caller, ConnectFailed
from workers.http.request import Request
from workers.session.limiter import Limiter, Permit
from workers.settings.values import RESERVED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.auth.credentials import Token
    from workers.clients import Client

#: Methods that change something, whose calls carry a key.
WRITES: Final = frozenset(("DELETE", "PATCH", "POST", "PUT"))
#: Connections that are kept for later calls.
POOL_SIZE: Final = 32
#: Sends that came to nothing before the first byte; after so many the caller gets an error.
MAX_UNSENT: Final = 3


class GovernedAdapter(BaseAdapter):
    """From a prepared request of a governed session to its response.

    A call is sent once, and again only where nothing was done: after a 429, one 401, or a
    connection that was closed before the send.
    """

    def __init__(self, client: Client, lane: int, tenant: str, wait_s: float) -> None:
        super().__init__()
        self._client, self._wait_s = client, wait_s
        self._limiter = Limiter(client, lane, tenant)
        self._caller = Caller(client.configured, POOL_SIZE)
        self._rng = random.Random()  # noqa: S311 -- jitter, not a secret

    def close(self) -> None:
        """Close the connections."""
        self._caller.close()

    def send(  # type: ignore[override]
        self,
        request: requests.PreparedRequest,
        **_: Any,  # noqa: ANN401 -- timeouts and certificates are the client's own to say
    ) -> requests.Response:
        """Acquire, send, release; again where nothing was done and there is time."""
        ends_ns = now_ns() + round(self._wait_s * 1e9)
        plain, route = _plain(request, self._client)
        fingerprint = _fingerprint(plain)
        refused = unsent = 0
        renewed = False
        while True:
            if not self._caller.has_idle():  # what a new one takes is no time to fail fast in
                self._limiter.require_closed(route)
            token = self._client.tokens().get(max(0.0, (ends_ns - now_ns()) / 1e9))
            carries = {**plain.headers, **(token.headers if token else {})}
            sent = replace(plain, headers=carries)
            answer, permit = self._once(sent, (route, fingerprint), ends_ns)
            reading = read(answer)
            if reading.next is Next.THROTTLED:
                refused += 1
                self._refused(permit, answer, refused)
            elif not answer.sent:
                self._limiter.release(permit, "unsent")
                unsent += 1
                if unsent == MAX_UNSENT:
                    raise requests.ConnectionError(f"nothing was sent: {answer.error}")
            else:
                quota = read_shortage(answer.headers)
                self._limiter.release(
                    permit,
                    answer.health,
                    why=reading.reason,
                    quota=quota,
                    pause_s=answer.ordered_wait_s,
                )
                if reading.next is not Next.TOKEN or token is None:
                    if renewed and token and answer.status is not None:
                        with suppress(*STORE_FAILS):  # the answer is there
                            self._client.tokens().worked(token)
                    return _response(request, answer)
                if not self._is_renewed(token, again=renewed) or renewed:
                    return _response(request, answer)
                renewed = True

    def _is_renewed(self, token: Token, *, again: bool) -> bool:
        """Whether a new token is asked for in place of one that was refused."""
        with suppress(*STORE_FAILS):  # the answer is there
            return self._client.tokens().refused(token, again=again)
        return False

    def _once(self, request: Request, call: tuple[str, str], ends_ns: int) -> tuple[Answer, Permit]:
        """One send, as soon as there is a permit; `call` is its route and fingerprint."""
        route, fingerprint = call
        while True:
            try:
                with self._caller.connection() as connection:
                    permit = self._limiter.acquire(route, (ends_ns - now_ns()) / 1e9, fingerprint)
                    if isinstance(permit, Permit):
                        wait(permit.start_in_s)
                        try:
                            return connection.send(request, permit.stale_at_ns), permit
                        except GrantStale:
                            self._limiter.release(permit, "unsent")
                            continue
                        except BaseException:
                            self._limiter.release(permit, "neutral")
                            raise
            except ConnectFailed as error:
                self._limiter.report_unreachable(route, str(error))
                raise requests.ConnectionError(str(error)) from None
            wait(permit)  # seconds after which to ask again

    def _refused(self, permit: Permit, answer: Answer, times: int) -> None:
        """A 429: all obey it, or where others go through this call alone."""
        pause = self._client.retry_policy.after_429(answer, times - 1, self._rng)
        why = "the provider answered 429 to a call from outside of jobs"
        self._limiter.release(permit, "refused", pause_s=pause.duration_s, why=why)


def _plain(request: requests.PreparedRequest, client: Client) -> tuple[Request, str]:
    """The request as Headgate sends it, and its route."""
    settings = client.configured
    base = urlsplit(str(settings.base_url)).path.rstrip("/")
    path = request.path_url[len(base) :]
    method = str(request.method).upper()
    headers = _headers(request.headers, settings.api_key_header)
    if method in WRITES and settings.idempotency_header.lower() not in map(str.lower, headers):
        headers[settings.idempotency_header] = str(uuid.uuid4())
    return Request(method, path, headers, read_body(request)), f"{method} {path.partition('?')[0]}"


def _fingerprint(request: Request) -> str:
    """By which an equal request is known again, whatever its key is."""
    head = f"{request.method} {request.path}\n".encode()
    return sha256(head + (request.body or b"")).hexdigest()[:16]


def read_body(request: requests.PreparedRequest) -> bytes | None:
    """The body of a request, which from now on has it as bytes.

    Raises:
        requests.exceptions.InvalidSchema: it is made in pieces.
    """
    body: Any = request.body
    if hasattr(body, "read"):
        body = body.read()
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes | None):
        raise requests.exceptions.InvalidSchema("a body in pieces cannot be sent; give bytes")
    request.body = body
    return body


def _headers(given: Mapping[str, str | bytes], api_key: str | None) -> dict[str, str]:
    ours = RESERVED | {"authorization", (api_key or "authorization").lower()}
    return {
        name: value.decode("latin-1") if isinstance(value, bytes) else value
        for name, value in given.items()
        if name.lower() not in ours
    }


def _response(request: requests.PreparedRequest, answer: Answer) -> requests.Response:
    """The answer as `requests` has it.

    Raises:
        requests.ConnectionError: there is none; the call may have been executed.
    """
    if answer.status is None:
        raise requests.ConnectionError(
            f"sent, and no answer came back ({answer.error}): it may have been executed",
            request=request,
        )
    if answer.error:
        raise requests.exceptions.ChunkedEncodingError(
            f"answered {answer.status}, but the body was lost ({answer.error})", request=request
        )
    response = requests.Response()
    response.status_code = answer.status
    response.headers = CaseInsensitiveDict(answer.headers)
    response.encoding = requests.utils.get_encoding_from_headers(response.headers)
    response.raw = BytesIO(answer.body)
    response.url, response.request = str(request.url), request
    return response
