"""Signed URLs: where one file may go, until when, and with which headers.

A URL carries its terms and their signature, so that no URL is stored. A caller that needs a new URL
for the same file asks for it as for the first one; each is good until it has expired.
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlencode

from orchestration.sandbox.calls import TRANSFER_PREFIX, ApiError, Reply
from orchestration.sandbox.config import compile_glob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestration.sandbox.calls import Call
    from orchestration.sandbox.config import Config

#: What the API takes as proof of who calls; it must never go to another host.
_CREDENTIALS = ("Authorization", "X-Api-Key")

FileStatus = Literal["created", "uploaded", "transcoded", "transcodeFailed"]


@dataclass(slots=True, kw_only=True)
class FileSlot:
    """The place of one file, and what arrived there last."""

    id: str
    name: str  #: business id
    path: str  #: at the other host
    md5: str = ""  #: hexadecimal
    size: int = 0  #: bytes
    failed: bool = False
    ready_us: int = 0  #: when its transcoding ends
    visible_us: int = 0  #: when reads find it

    def status(self, now_us: int) -> FileStatus:
        """Return how far the file has come."""
        if not self.md5:
            return "created"
        if now_us < self.ready_us:
            return "uploaded"
        return "transcodeFailed" if self.failed else "transcoded"

    def store(self, config: Config, md5: str, size: int, now_us: int) -> Reply:
        """Take what arrived; the reply says whether it is new, changed, or the same as before."""
        before, self.md5, self.size = self.md5, md5, size
        self.failed = compile_glob(config.bad_files).match(self.name) is not None
        self.ready_us = now_us + round(config.transcode_s * 1e6)
        self.visible_us = self.ready_us + round(config.read_lag_s * 1e6)
        names = (self.name,)
        return Reply(
            status=200,
            kind="repeat" if before == md5 else "effect",
            headers={"ETag": f'"{md5}"'},
            created=() if before else names,
            updated=names if before and before != md5 else (),
            repeated=names if before == md5 else (),
            md5=md5,
            size=size,
        )


class PresignedUrls:
    """The slots, and the URLs that lead to them."""

    def __init__(self, port: int) -> None:
        self._port = port  #: of the other host, which has the name under which the API is called
        self._secret = secrets.token_bytes(32)
        self._slots: dict[str, FileSlot] = {}
        self._issue = 0  #: URLs of an earlier issue are expired

    def create_slot(self, path: str, name: str) -> FileSlot:
        """Make room for a file; `path` is below `TRANSFER_PREFIX`, `name` its business id."""
        slot = FileSlot(id=str(uuid.uuid4()), name=name, path=TRANSFER_PREFIX + quote(path))
        self._slots[slot.id] = slot
        return slot

    def issue(
        self, call: Call, slot: FileSlot, now_us: int, headers: Mapping[str, str] | None = None
    ) -> dict[str, object]:
        """Return `{url, headers}`: the file must come with exactly these headers."""
        nonce = {"x-amz-meta-upload": secrets.token_hex(8)}
        required = {"Content-Type": "application/octet-stream", **nonce, **(headers or {})}
        terms = {
            "slot": slot.id,
            "issue": str(self._issue),
            "expires": str(now_us + round(call.config.url_lifetime_s * 1e6)),
            "signed": ";".join(sorted(required)),
        }
        query = urlencode({**terms, "signature": self._sign(slot.path, terms, required)})
        origin = f"{call.request.protocol}://{call.request.host_name}:{self._port}"
        return {"url": f"{origin}{slot.path}?{query}", "headers": required}

    def expire_all(self) -> None:
        """Let every URL that was issued be expired."""
        self._issue += 1

    def admit(self, call: Call, now_us: int) -> FileSlot:
        """Return where the file of this request goes.

        Raises:
            ApiError: 400 with the code `InvalidArgument`: it brings credentials of the API; 403:
                the URL is expired, or it or the headers are not as they were issued; 405; 411.
        """
        received, query = call.request.headers, call.query()
        if any(name in received for name in _CREDENTIALS):
            raise ApiError(400, "InvalidArgument", "Only one auth mechanism allowed.")
        if call.method != "PUT":
            raise ApiError(405, "MethodNotAllowed", "Put the file here.")
        slot = self._slots.get(query.get("slot", ""))
        terms = {name: query.get(name, "") for name in ("slot", "issue", "expires", "signed")}
        headers = {name: received.get(name, "") for name in terms["signed"].split(";")}
        expected = self._sign(call.path, terms, headers)
        signed = hmac.compare_digest(expected, query.get("signature", ""))
        if slot is None or not signed or call.path != slot.path:
            raise ApiError(403, "SignatureDoesNotMatch", "URL and headers are not those given out.")
        if int(terms["issue"]) < self._issue or now_us >= int(terms["expires"]):
            raise ApiError(403, "AccessDenied", "Request has expired.")
        if "Content-Length" not in received:
            raise ApiError(411, "MissingContentLength", "Tell the size of the file.")
        return slot

    def _sign(self, path: str, terms: Mapping[str, str], headers: Mapping[str, str]) -> str:
        signed = [f"{name}:{value}" for name, value in sorted({**terms, **headers}.items())]
        return hmac.new(self._secret, "\n".join([path, *signed]).encode(), "sha256").hexdigest()
