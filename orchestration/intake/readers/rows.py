"""What rows of all kinds share: ids, tenants, lanes, and what becomes of a bad row."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from orchestration.intake.readers.source import MAX_LINE
from workers.errors import InputError
from workers.governor.flows import lane_of
from workers.settings.values import NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from orchestration.intake.readers.source import NumberedLine
    from workers.ledger.ledger import Row
    from workers.settings.client import ClientSettings

#: What a row may be called: safe in headers, store names, paths of files and terminals.
ID: Final = re.compile(r"[A-Za-z0-9._:@+-]{1,128}")
BAD_ID: Final = "must be text of 1 to 128 characters out of A-Z a-z 0-9 . _ : @ + -"
TOO_LONG: Final = f"the line is longer than {MAX_LINE} bytes"

#: Longest reason that is kept, characters.
MAX_REASON: Final = 300
#: Longest name of a field or column that an error shows as it is, characters.
MAX_SHOWN: Final = 64

#: Fields of a row that say whose it is and when it goes, and their meanings.
TURN_FIELDS: Final = {
    "tenant": "The tenant whose row it is; default: that of the submission.",
    "lane": "`urgent`, `normal`, `bulk`, or a priority from 0 to 9; default: the submission's.",
}

_TENANT = re.compile(NAME)


#: How a JSON array of rows begins.
_ARRAY: Final = re.compile(r"\s*\[\s*(\{|$)")


class BadRow(Exception):
    """One row cannot be accepted; the text names field or column and the reason, never a value."""


def json_lines(lines: Iterable[NumberedLine]) -> Iterator[NumberedLine]:
    """The lines of a file of JSON lines that are not blank.

    Raises:
        InputError: the file holds one JSON array; of its lines the last would be a whole row.
    """
    is_first = True
    for number, text in lines:
        if text is not None and not text.strip():
            continue
        if is_first and text and _ARRAY.match(text):
            raise InputError(
                f"line {number}: this is a JSON array; write one object a line, without brackets "
                f"around them and commas between them"
            )
        is_first = False
        yield number, text


def reject(line: int, reason: str, row_id: object = None) -> Row:
    """The row that stands for a bad line; it keeps its id when that one is well formed."""
    named = {"id": row_id} if is_id(row_id) else {}
    return {"line": line, **named, "error": reason[:MAX_REASON]}


def is_id(value: object) -> bool:
    """Whether this JSON value can be the id of a row."""
    return isinstance(value, str) and ID.fullmatch(value) is not None


def find_tenant_fault(client: ClientSettings, name: str) -> str:
    """Why rows of this client cannot belong to the tenant; "" when they can."""
    if own := client.client_of(name):
        return f"sends through client {own}; submit its rows apart, with --tenant {name}"
    if client.tenants:
        known = ", ".join(sorted(client.tenants))
        return "" if name in client.tenants else f"not a tenant of client {client.name} ({known})"
    return "" if _TENANT.fullmatch(name) else "must be 1 to 64 of A-Z a-z 0-9 . _ -"


def read_turn(given: Mapping[str, object], client: ClientSettings) -> Row:
    """Tenant and lane of a row that names them, checked; raises `BadRow`."""
    row: Row = {}
    if (tenant := given.get("tenant")) is not None:
        fault = find_tenant_fault(client, tenant) if isinstance(tenant, str) else "must be text"
        if fault:
            raise BadRow(f"tenant: {fault}")
        row["tenant"] = tenant
    if (lane := given.get("lane")) is not None:
        try:
            row["lane"] = lane_of(str(lane) if type(lane) in (str, int) else "")
        except InputError:
            raise BadRow("lane: must be urgent, normal, bulk or a number from 0 to 9") from None
    return row


def show_name(name: str) -> str:
    """The name of a field or column as an error may show it: short, on one line."""
    return name if ID.fullmatch(name) and len(name) <= MAX_SHOWN else json.dumps(name[:MAX_SHOWN])


def refuse_unknown(
    given: Mapping[str, object], fields: Collection[str], place: str = "", beside: str = ""
) -> None:
    """Raise `BadRow` for a field that is none of `fields`.

    Args:
        given: The JSON object.
        fields: The fields that it may have.
        place: Where the object stands, said before the field's name.
        beside: What it stands beside, said behind the sentence.
    """
    if unknown := given.keys() - set(fields):
        raise BadRow(f"{place}{show_name(min(unknown))}: unknown field{beside}")
