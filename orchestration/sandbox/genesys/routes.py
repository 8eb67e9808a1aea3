"""The paths of this API: where each kind of entity is, and what two calls have in common."""

from __future__ import annotations

import re
from urllib.parse import unquote

LISTS = "/api/v2/outbound/contactlists"
CAMPAIGNS = "/api/v2/outbound/campaigns"
PROMPTS = "/api/v2/architect/prompts"
ASSETS = "/api/v2/responsemanagement/responseassets"

_API = "/api/v2/"
#: Words that stand where an id would, and name an operation.
_VERBS = "(?!(?:bulk|progress|search|uploads)$)"
_TEMPLATES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (rf"^({LISTS}/[^/]+/contacts)/{_VERBS}[^/]+$", r"\1/{contactId}"),
        (rf"^(/api/v2/outbound/[^/]+)/{_VERBS}[^/]+", r"\1/{id}"),
        (rf"^({PROMPTS}/[^/]+/resources)/[^/]+", r"\1/{languageCode}"),
        (rf"^({PROMPTS})/[^/]+", r"\1/{id}"),
        (rf"^({ASSETS}/status)/[^/]+$", r"\1/{id}"),
        (rf"^({ASSETS})/{_VERBS}[^/]+$", r"\1/{id}"),
    )
]


def template(path: str) -> str:
    """Return the path with names in place of the ids; other paths as they are.

    Example:
        >>> template("/api/v2/outbound/contactlists/l-1/contacts/c-1")
        '/api/v2/outbound/contactlists/{id}/contacts/{contactId}'
    """
    if not path.startswith(_API):
        return path
    for pattern, name in _TEMPLATES:
        path = pattern.sub(name, path)
    return path


def parts_below(path: str, whole: str) -> list[str] | None:
    """Return the parts of `whole` below `path`, none for `path` itself; None: elsewhere."""
    if whole == path:
        return []
    if not whole.startswith(f"{path}/"):
        return None
    return [unquote(part) for part in whole.removeprefix(f"{path}/").split("/")]
