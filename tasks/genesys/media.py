"""What prompts and response assets share: a file that goes to a signed URL, and then is processed.

A row of both kinds is `{"line", "id", "name", "path", "size", "md5"}`, that of a prompt has its
`"language"` as well: see `orchestration.intake.readers.media`.
"""

from __future__ import annotations

import json
import os
import platform
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks.genesys.operations import OPERATIONS
from tasks.kind import CannotSay, LocalResult, StepKind, StepPlan
from workers.answer.guards import Guard
from workers.http.connection import ConnectFailed
from workers.http.transfer import File, NotThatFile, TakenOver, is_below

if TYPE_CHECKING:
    from workers.answer.outcome import Answer
    from workers.clients import Client
    from workers.governor.grants import Grant
    from workers.http.connection import Request
    from workers.http.transfer import Sent
    from workers.ledger.job import JobParams
    from workers.ledger.ledger import Row

#: Polls of a file that was sent, at most, and seconds between two of them.
POLLS: Final = 150
EVERY_S: Final = 2.0
#: The headers of a request with a body.
JSON: Final = {"Content-Type": "application/json"}

#: Statuses of a host of files after which the file may be sent again.
_AGAIN: Final = (408, 429, *range(500, 600))
#: Error codes beside a 400 after which it may be, too; and the one that asks for a new URL.
_DAMAGED: Final = {"BadDigest", "IncompleteBody", "RequestTimeout"}
_EXPIRED: Final = "ExpiredToken"
_SUCCESS: Final = range(200, 300)
_FORBIDDEN: Final = 403
_BAD: Final = 400


def transfer() -> StepPlan:
    """The step that sends the file."""
    return StepPlan("", Guard.READ, name="transfer", local=True, pool="media")


def ready(operation: str) -> StepPlan:
    """The step that waits until the file is processed."""
    route = OPERATIONS[operation].route
    return StepPlan(route, Guard.READ, name="ready", polls=POLLS, every_s=EVERY_S)


def call(operation: str, name: str, lookup: str = "", polls: int = 0) -> StepPlan:
    """The step of a call of this operation, after whose doubts `lookup` asks."""
    known = OPERATIONS[operation]
    lookup_route = OPERATIONS[lookup].route if lookup else ""
    return StepPlan(known.route, known.guard, lookup_route, name=name, polls=polls)


def body(value: object) -> bytes:
    """A request's body."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def one_of(grant: Grant, name: str) -> str:
    """A text that an earlier step has kept; raises `CannotSay`."""
    value = grant.values.get(name)
    if not isinstance(value, str) or not value:
        raise CannotSay(f"no earlier answer told the {name}")
    return value


def read_object(answer: Answer) -> dict[str, Any]:
    """The JSON object of a whole answer; empty: it holds none."""
    content = None if answer.error else answer.json()
    return content if isinstance(content, dict) else {}


class MediaSteps(StepKind):
    """Rows are files."""

    @abstractmethod
    def request(self, row: Row, params: JobParams, grant: Grant) -> Request:
        """What a call of this row sends."""

    def run_local(self, row: Row, params: JobParams, grant: Grant, client: Client) -> LocalResult:
        """Send the file to its signed URL."""
        del params
        url, headers = one_of(grant, "url"), grant.values.get("headers")
        if not isinstance(headers, dict) or not all(
            isinstance(value, str) for value in headers.values()
        ):
            raise CannotSay("the headers of the signed URL are not text")
        root = client.fleet.worker.media_root
        path = Path(os.path.realpath(Path(root or "", row["path"])))
        file = File(path, row["size"], row["md5"])
        if root and not is_below(path, root):
            return LocalResult(
                "failed",
                f"{row['path']} does not lie below worker.media_root of host {platform.node()}; "
                f"set the same root where it is submitted, and submit it again",
            )
        try:
            sent = client.transfers().put(
                url, headers, file, lambda: client.governor().renew(grant)
            )
        except NotThatFile as error:
            return LocalResult("failed", str(error))
        except TakenOver:
            return LocalResult("again", "another worker has taken it over", unknown=True)
        except ConnectFailed as error:
            return LocalResult("again", str(error))
        except ValueError as error:  # it tells no value
            return LocalResult("failed", f"the signed URL cannot be used: {error}")
        return self.after(sent, row, grant)

    def after(self, sent: Sent, row: Row, grant: Grant) -> LocalResult:
        """What follows from the answer of the host of files."""
        del grant
        if sent.status in _SUCCESS:
            return LocalResult("done")
        if sent.status is None:
            text = f"{row['path']} was not taken: {sent.error}"
            return LocalResult("again", text, unknown=sent.whole)
        text = f"{row['path']} was answered {sent.status} {sent.code}".rstrip()
        if sent.status == _FORBIDDEN or sent.code == _EXPIRED:
            return LocalResult(
                "back", f"{text}: the signed URL has expired, or is not for this file"
            )
        if sent.status in _AGAIN or (sent.status == _BAD and sent.code in _DAMAGED):
            return LocalResult("again", text, unknown=sent.status not in {408, 429, _BAD})
        return LocalResult("failed", f"{text}: it is not taken as it is", sent=True)
