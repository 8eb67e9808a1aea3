"""Steps of kind `assets`: files of the response management, each an asset of its own name.

An asset is announced, which makes nothing yet; then its file is sent to a signed URL, and there it
is. A name that is taken is refused: another file under it would be a second asset.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

from tasks.genesys.media import JSON, MediaSteps, body, call, one_of, read_object, ready, transfer
from tasks.genesys.operations import OPERATIONS, pick
from tasks.kind import LocalResult, Polled, StepPlan, StepResult
from workers.http.connection import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.answer.outcome import Answer
    from workers.governor.grants import Grant
    from workers.http.transfer import Sent
    from workers.ledger.job import JobParams
    from workers.ledger.ledger import Row
    from workers.settings.client import ClientSettings

_STEPS: Final = ("free", "url", "transfer", "ready")
_FOUND: Final = range(200, 300)
_ABSENT: Final = 404


class AssetSteps(MediaSteps):
    """Rows are files, each an asset."""

    task = "genesys.make_asset"
    local_task = "genesys.transfer_asset"
    operations = pick("find_asset", "give_asset_url", "read_asset_status")

    def plan(self, row: Row, params: JobParams, client: ClientSettings) -> Sequence[StepPlan]:
        """See that the name is free, announce the file, send it, wait for it."""
        del row, params, client
        return [
            call("find_asset", "free", polls=1),
            call("give_asset_url", "url"),
            transfer(),
            ready("read_asset_status"),
        ]

    def request(self, row: Row, params: JobParams, grant: Grant) -> Request:
        """What the step sends."""
        del params
        match _STEPS[grant.step - 1]:
            case "free":
                term = {"type": "TERM", "fields": ["name"], "value": row["name"]}
                search = {"pageSize": 25, "pageNumber": 1, "query": [term]}
                return Request("POST", OPERATIONS["find_asset"].at(), JSON, body(search))
            case "url":
                md5 = base64.b64encode(bytes.fromhex(row["md5"])).decode()
                announced = {"name": row["name"], "contentMd5": md5}
                return Request("POST", OPERATIONS["give_asset_url"].at(), JSON, body(announced))
        return Request("GET", OPERATIONS["read_asset_status"].at(one_of(grant, "id")))

    def read_poll(self, row: Row, grant: Grant, answer: Answer) -> Polled:
        """Whether the name is free; or how far the file is."""
        if _STEPS[grant.step - 1] == "free" and answer.status in _FOUND:
            return Polled.FAILED if _taken(row, answer) else Polled.READY
        if answer.error or answer.status not in {*_FOUND, _ABSENT}:
            return Polled.UNSAID
        match read_object(answer).get("status"):
            case "Uploaded":
                return Polled.READY
            case "Failed":
                return Polled.FAILED
        return Polled.NOT_YET

    def explain_failure(self, row: Row, answer: Answer) -> str:
        """Name the file, and what the provider has against it."""
        if _taken(row, answer):
            return (
                f"an asset named {row['name']} is there already; delete it there, or submit "
                f"{row['path']} under another name"
            )
        code = read_object(answer).get("errorCode")
        why = f" ({code})" if isinstance(code, str) and code.replace("_", "").isalnum() else ""
        return f"{row['path']} was not taken{why}; correct this file and submit it again"

    def keep(self, row: Row, grant: Grant, answer: Answer) -> StepResult:
        """The asset's id, and the signed URL."""
        del row
        content = read_object(answer)
        if _STEPS[grant.step - 1] != "url":
            return StepResult(one_of(grant, "id") if grant.step > 1 else "", "{}")
        values = {name: content.get(name) for name in ("id", "url", "headers")}
        return StepResult(str(content.get("id") or "")[:128], json.dumps(values))

    def after(self, sent: Sent, row: Row, grant: Grant) -> LocalResult:
        """A file that may have arrived is not announced anew: that would make a second asset."""
        result = super().after(sent, row, grant)
        return LocalResult("done") if result.how == "back" and grant.unknown else result


def _taken(row: Row, answer: Answer) -> bool:
    results = read_object(answer).get("results")
    return isinstance(results, list) and any(
        isinstance(asset, dict) and asset.get("name") == row["name"] for asset in results
    )
