"""What a campaign must name, by the mode in which it dials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestration.sandbox.calls import bad_request
from orchestration.sandbox.genesys.entities import require

if TYPE_CHECKING:
    from orchestration.sandbox.config import JsonObject
    from orchestration.sandbox.genesys.entities import Entities

_ALWAYS = (
    "name",
    "contactList",
    "dialingMode",
    "phoneColumns",
    "callerName",
    "callerAddress",
)
_WITH_AGENTS = ("queue", "script")
_ANALYSED = ("callAnalysisResponseSet",)  # beside an edge group or a site
#: Mode -> what it requires beside `_ALWAYS`.
_BY_MODE = {
    "agentless": (*_ANALYSED, "outboundLineCount"),
    "preview": _WITH_AGENTS,
    "power": (*_WITH_AGENTS, *_ANALYSED, "abandonRate"),
    "predictive": (*_WITH_AGENTS, *_ANALYSED, "abandonRate"),
    "progressive": (*_WITH_AGENTS, *_ANALYSED),
    "external": (*_WITH_AGENTS, *_ANALYSED),
}


def check_campaign(body: JsonObject, lists: Entities) -> None:
    """Raise ApiError 400 for a campaign that the platform would not take."""
    require(body, *_ALWAYS)
    mode = body["dialingMode"]
    if mode not in _BY_MODE:
        raise bad_request(f"dialingMode is one of {', '.join(_BY_MODE)}.")
    require(body, *_BY_MODE[mode])
    if mode != "preview" and not (body.get("edgeGroup") or body.get("site")):
        raise bad_request(f"Required for {mode}: edgeGroup or site.")
    columns = body["phoneColumns"]
    for column in columns if isinstance(columns, list) else [None]:
        require(column if isinstance(column, dict) else {}, "columnName", "type")
    contact_list = body["contactList"]
    list_id = contact_list.get("id") if isinstance(contact_list, dict) else None
    if list_id not in lists:
        raise bad_request(f"There is no contact list {list_id}.")
