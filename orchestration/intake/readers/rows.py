"""What rows of all kinds share: their ids, their tenants, and what becomes of a bad one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.readers.source import MAX_LINE
from workers.errors import InputError
from workers.governor.flows import lane_of
from workers.settings.values import NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from workers.ledger.ledger import Row
    from workers.settings.client import ClientSettings

#: What a row may be called: safe in headers, store names, paths of files and terminals.
ID: Final = re.compile(r"[A-Za-z0-9._:@+-]{1,128}")
BAD_ID: Final = "must be text of 1 to 128 characters out of A-Z a-z 0-9 . _ : @ + -"
TOO_LONG: Final = f"the line is longer than {MAX_LINE} bytes"

#: Longest reason that is kept, characters.
MAX_REASON: Final = 300

_TENANT = re.compile(NAME)


class Bad(Exception):
    """One row cannot be accepted; the text names field or column and the reason, never a value."""


def rejected(line: int, reason: str, row_id: Any = None) -> Row:  # noqa: ANN401 -- any JSON value
    """The row that stands for a bad line; it keeps its id when that one is well formed."""
    named = {"id": row_id} if is_id(row_id) else {}
    return {"line": line, **named, "error": reason[:MAX_REASON]}


def is_id(value: Any) -> bool:  # noqa: ANN401 -- any JSON value
    """Whether a row may be called so."""
    return isinstance(value, str) and ID.fullmatch(value) is not None


def tenant_fault(client: ClientSettings, name: str) -> str:
    """Why rows of this client cannot belong to the tenant; "" when they can."""
    if own := client.client_of(name):
        return f"sends through client {own}; submit its rows apart, with --tenant {name}"
    if client.tenants:
        known = ", ".join(sorted(client.tenants))
        return "" if name in client.tenants else f"not a tenant of client {client.name} ({known})"
    return "" if _TENANT.fullmatch(name) else "must be 1 to 64 of A-Z a-z 0-9 . _ -"


def turn_of(given: Mapping[str, Any], client: ClientSettings) -> Row:
    """Tenant and lane of a row that names them, checked; raises `Bad`."""
    row: Row = {}
    if (tenant := given.get("tenant")) is not None:
        fault = tenant_fault(client, tenant) if isinstance(tenant, str) else "must be text"
        if fault:
            raise Bad(f"tenant: {fault}")
        row["tenant"] = tenant
    if (lane := given.get("lane")) is not None:
        try:
            row["lane"] = lane_of(str(lane) if type(lane) in (str, int) else "")
        except InputError:
            raise Bad("lane: must be urgent, normal, bulk or a number from 0 to 9") from None
    return row


def shown(name: str) -> str:
    """The name of a field or column as an error may show it: short, on one line."""
    return name if ID.fullmatch(name) and len(name) <= 64 else json.dumps(name[:64])  # noqa: PLR2004


def only(
    given: Mapping[str, Any], fields: Collection[str], place: str = "", beside: str = ""
) -> None:
    """Refuse fields that nobody knows; `place` and `beside` are said around the name."""
    if unknown := given.keys() - set(fields):
        raise Bad(f"{place}{shown(min(unknown))}: unknown field{beside}")
