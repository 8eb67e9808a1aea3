"""One request of a row as it is given: method, path, headers, body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestration.intake.readers.rows import Bad, shown
from workers.http.request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.settings.client import ClientSettings


def read_request(
    given: dict[str, Any], client: ClientSettings, place: str, methods: Sequence[str]
) -> dict[str, Any]:
    """The request, checked, with one of these methods; raises `Bad`."""
    method, path = given.get("method"), given.get("path")
    if not isinstance(method, str) or method.upper() not in methods:
        raise Bad(f"{place}method: must be one of {' '.join(methods)}")
    if not isinstance(path, str):
        raise Bad(f"{place}path: must be text")
    step: dict[str, Any] = {"method": method.upper(), "path": path}
    if (headers := given.get("headers")) is not None:
        step["headers"] = _headers(headers, client, place)
    if (body := given.get("body")) is not None:
        step["body"] = body
    try:
        Request(step["method"], path, step.get("headers", {}))
    except ValueError as error:
        raise Bad(f"{place}{error}") from None
    return step


def _headers(given: Any, client: ClientSettings, place: str) -> dict[str, str]:  # noqa: ANN401
    if not isinstance(given, dict):
        raise Bad(f"{place}headers: must be a JSON object")
    key = client.api_key_header or "Authorization"
    ours = {"authorization", client.idempotency_header.lower(), key.lower()}
    headers = {}
    for name, value in given.items():
        if name.lower() in ours:
            raise Bad(f"{place}headers: {shown(name)} is set by Headgate; leave it out")
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            raise Bad(f"{place}headers: the value of {shown(name)} must be printable ASCII text")
        # The one header that a step completes itself, by this very name.
        headers["Content-Type" if name.lower() == "content-type" else name] = value
    if len(headers) < len(given):
        raise Bad(f"{place}headers: Content-Type is given twice")
    return headers
