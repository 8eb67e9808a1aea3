"""The paths of this API: where each kind of entity is, and which route a path belongs to."""

from __future__ import annotations

import re
from urllib.parse import unquote

LISTS_PATH = "/api/v2/outbound/contactlists"
CAMPAIGNS_PATH = "/api/v2/outbound/campaigns"
PROMPTS_PATH = "/api/v2/architect/prompts"
ASSETS_PATH = "/api/v2/responsemanagement/responseassets"

_API = "/api/v2/"
#: Words that stand where an id would, and name an operation.
_VERBS = "(?!(?:bulk|progress|search|uploads)$)"
_ROUTES = [
    (re.compile(pattern), route)
    for pattern, route in (
        (rf"^({LISTS_PATH}/[^/]+/contacts)/{_VERBS}[^/]+$", r"\1/{contactId}"),
        (rf"^(/api/v2/outbound/[^/]+)/{_VERBS}[^/]+", r"\1/{id}"),
        (rf"^({PROMPTS_PATH}/[^/]+/resources)/[^/]+", r"\1/{languageCode}"),
        (rf"^({PROMPTS_PATH})/[^/]+", r"\1/{id}"),
        (rf"^({ASSETS_PATH}/status)/[^/]+$", r"\1/{id}"),
        (rf"^({ASSETS_PATH})/{_VERBS}[^/]+$", r"\1/{id}"),
    )
]


def mask_ids(path: str) -> str:
    """Return the path with names in place of the ids; other paths as they are.

    Example:
        >>> mask_ids("/api/v2/outbound/contactlists/l-1/contacts/c-1")
        '/api/v2/outbound/contactlists/{id}/contacts/{contactId}'
    """
    if not path.startswith(_API):
        return path
    for pattern, route in _ROUTES:
        path = pattern.sub(route, path)
    return path


def parts_below(root: str, path: str) -> list[str] | None:
    """Return the parts of `path` below `root`, none for `root` itself; None: elsewhere."""
    if path == root:
        return []
    if not path.startswith(f"{root}/"):
        return None
    return [unquote(part) for part in path.removeprefix(f"{root}/").split("/")]
