"""What may be sent: nobody can build a request that could smuggle something."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from workers.settings.values import RESERVED, require_path

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A larger body is written apart from the head, since joining them copies it.
SMALL_BODY: Final = 65_536

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # Latin-1 without control characters


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a client's provider. Its repr shows no data.

    Raises:
        ValueError: the method is no token; the path does not begin with "/", is not printable
            ASCII, or has a segment `.` or `..`, quoted or not; a header is reserved or given
            twice, or its value has a line break, another control character, or one outside
            Latin-1. The text never holds a value.
    """

    method: str
    path: str = field(repr=False)  #: below base_url, quoted, with the query
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.method):
            raise ValueError("the method is not an HTTP method; use a word such as POST")
        require_path(self.path)
        seen = set()
        for name, value in self.headers.items():
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"{name!r} cannot be the name of a header; correct it")
            low = name.lower()
            if low in seen or low in RESERVED:
                raise ValueError(f"header {name} is given twice or set by Headgate; leave it out")
            if not _VALUE.fullmatch(value):
                raise ValueError(
                    f"the value of header {name} has a line break, a control character or one "
                    f"outside Latin-1; remove it"
                )
            seen.add(low)

    def pieces(self, target: str, fixed: str) -> list[bytes]:
        """The request as it goes over the wire, in one piece unless the body is large.

        Args:
            target: What stands before the path in the request line.
            fixed: Header lines that each request of the client has.
        """
        body = self.body or b""
        has_body = self.body is not None or self.method in {"POST", "PUT", "PATCH"}
        head = self.head(target, fixed, len(body) if has_body else None)
        return [head + body] if len(body) < SMALL_BODY else [head, body]

    def head(self, target: str, fixed: str, length: int | None) -> bytes:
        """The request up to its body, which has so many bytes; None = there is none."""
        lines = [f"{self.method} {target}{self.path} HTTP/1.1\r\n", fixed]
        lines += [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}\r\n")
        lines.append("\r\n")
        return "".join(lines).encode("latin-1")
