"""Every operation of Genesys Cloud that Headgate knows: its call, its guard, how sure both are.

| mark         | how sure                                                                        |
| ------------ | ------------------------------------------------------------------------------- |
| `verified`   | read in the vendor's own SDK: its code, or the texts of its parameters          |
| `documented` | in the vendor's documentation or its own Terraform provider                     |
| `assumed`    | it follows from what has another mark, or somebody says so: try it before you   |
|              | rely on it                                                                      |

No call was made to a live organisation for any of it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from tasks.kind import Operation
from workers.answer.guards import Guard

if TYPE_CHECKING:
    from collections.abc import Mapping

_LISTS: Final = "/api/v2/outbound/contactlists"
_CAMPAIGNS: Final = "/api/v2/outbound/campaigns"
_PROMPTS: Final = "/api/v2/architect/prompts"
_RESOURCES: Final = f"{_PROMPTS}/{{prompt.id}}/resources"
_ASSETS: Final = "/api/v2/responsemanagement/responseassets"


#: By name; those of campaigns, contacts and media.
OPERATIONS: Final = {
    "create_list": Operation(
        "POST", _LISTS, Guard.LOOKUP, "SDK 269", "verified", "assumed", "outbound:contactList:add"
    ),
    "find_list": Operation(
        "GET", _LISTS, Guard.READ, "SDK 269", "verified", "verified", "outbound:contactList:view"
    ),
    "add_contacts": Operation(
        "POST", f"{_LISTS}/{{list.id}}/contacts", Guard.UPSERT,
        "SDK 269; a loader of others relies on the id", "verified", "assumed",
        "outbound:contact:add",
        "there is no such contact list; see that --list and the client's region are right, and "
        "submit the file again",
    ),
    "create_campaign": Operation(
        "POST", _CAMPAIGNS, Guard.LOOKUP, "SDK 269", "verified", "assumed", "outbound:campaign:add"
    ),
    "find_campaign": Operation(
        "GET", _CAMPAIGNS, Guard.READ, "SDK 269", "verified", "verified", "outbound:campaign:view"
    ),
    "read_campaign": Operation(
        "GET", f"{_CAMPAIGNS}/{{campaign.id}}", Guard.READ, "SDK 269", "verified", "verified",
        "outbound:campaign:view",
    ),
    "start_campaign": Operation(
        "POST", f"{_CAMPAIGNS}/{{campaign.id}}/start", Guard.LOOKUP,
        "SDK 269, states from the Terraform provider", "verified", "documented",
        "outbound:campaign:start",
    ),
    "stop_campaign": Operation(
        "POST", f"{_CAMPAIGNS}/{{campaign.id}}/stop", Guard.LOOKUP,
        "SDK 269, states from the Terraform provider", "verified", "documented",
        "outbound:campaign:stop",
    ),
    "progress_of_campaigns": Operation(
        "POST", f"{_CAMPAIGNS}/progress", Guard.READ, "SDK 269", "verified", "verified",
        "outbound:campaign:view",
    ),
    "progress_of_campaign": Operation(
        "GET", f"{_CAMPAIGNS}/{{campaign.id}}/progress", Guard.READ, "SDK 269",
        "verified", "verified", "outbound:campaign:view",
    ),
    "create_prompt": Operation(
        "POST", _PROMPTS, Guard.LOOKUP, "SDK 269", "verified", "assumed",
        "architect:userPrompt:add",
    ),
    "find_prompt": Operation(
        "GET", _PROMPTS, Guard.READ, "SDK 269", "verified", "verified",
        "architect:userPrompt:view",
    ),
    "read_prompt": Operation(
        "GET", f"{_PROMPTS}/{{prompt.id}}", Guard.READ, "SDK 269", "verified", "verified",
        "architect:userPrompt:view",
    ),
    "create_prompt_resource": Operation(
        "POST", _RESOURCES, Guard.LOOKUP, "SDK 269", "verified", "assumed",
        "architect:userPrompt:edit",
    ),
    "read_prompt_resource": Operation(
        "GET", f"{_RESOURCES}/{{language}}", Guard.READ, "SDK 269, states from its models",
        "verified", "verified", "architect:userPrompt:view",
    ),
    "give_prompt_url": Operation(
        "POST", f"{_RESOURCES}/{{language}}/uploads", Guard.READ,
        "SDK 269, where it is a preview; it makes nothing", "verified", "assumed",
        "architect:userPrompt:edit",
    ),
    "find_asset": Operation(
        "POST", f"{_ASSETS}/search", Guard.READ, "SDK 269", "verified", "verified",
        "responseAssets:asset:view",
    ),
    "give_asset_url": Operation(
        "POST", f"{_ASSETS}/uploads", Guard.READ, "SDK 269; without its file it makes nothing",
        "verified", "assumed", "responseAssets:asset:add",
    ),
    "read_asset_status": Operation(
        "GET", f"{_ASSETS}/status/{{asset.id}}", Guard.READ,
        "SDK 269; that its id is that of the asset is a guess", "assumed", "verified",
        "responseAssets:asset:view",
    ),
}  # fmt: skip


def pick(*names: str) -> Mapping[str, Operation]:
    """The operations of these names, for the kind that uses them."""
    return {name: OPERATIONS[name] for name in names}


def advice(route: str, status: int | None) -> str:
    """What to do about an answer to a call of this route, "" = nothing is known."""
    method, _, path = route.partition(" ")
    name = operation_of(method, path) if status == HTTPStatus.NOT_FOUND else ""
    return OPERATIONS[name].missing if name else ""


def operation_of(method: str, path: str) -> str:
    """The name of the operation that a request calls; "" = none of them.

    Args:
        method: Such as "GET".
        path: Without the query.
    """
    called = (name for name, known in OPERATIONS.items() if known.is_call(method, path))
    return next(called, "")
