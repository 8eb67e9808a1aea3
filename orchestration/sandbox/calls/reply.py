"""What goes back to the caller, and what the call did: for the connection and for the journal."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

#: What a call was for the provider. `url`: a signed URL was issued; `leak`: credentials of the API
#: came to the host of the signed URLs; the others say what they mean.
ReplyKind = Literal[
    "effect",
    "repeat",
    "replay",
    "refused",
    "unauthorised",
    "fault",
    "read",
    "url",
    "error",
    "token",
    "leak",
]

# One encoder for all: to build one costs more than to encode a small text.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class ApiError(Exception):
    """The API understood the request and refuses it; becomes an error body of the platform."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message


def bad_request(message: str) -> ApiError:
    """Return the refusal of a request that is malformed: 400."""
    return ApiError(400, "bad.request", message)


@dataclass(slots=True, kw_only=True)
class Reply:
    """What goes back, and what the call did; status 0: the connection is closed without answer."""

    status: int
    body: bytes = b""
    kind: ReplyKind = "error"
    headers: dict[str, str] = field(default_factory=dict)
    created: tuple[str, ...] = ()  #: business ids of what was created
    updated: tuple[str, ...] = ()  #: business ids whose data changed
    repeated: tuple[str, ...] = ()  #: business ids that existed already with the same data
    queued: tuple[str, ...] = ()  #: contacts that were put into the queue to be dialled
    md5: str = ""  #: of a file that arrived, hexadecimal
    size: int = 0  #: bytes of a file


def encode_json(value: object) -> bytes:
    """Return compact JSON."""
    return _ENCODER.encode(value).encode()
