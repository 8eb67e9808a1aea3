"""Flows: the transactions that share client, lane, tenant and limits, and so wait in one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from workers.errors import InputError
from workers.limits import cell, matching
from workers.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.keys import ClientKeys
    from workers.settings import ClientSettings
    from workers.store import Store

#: Who goes first when the quota is scarce, first to last.
LANES: Final = ("urgent", "normal", "bulk")
#: Every call of a client passes this cell: it holds nothing back but a pause.
CLIENT_CELL: Final = ("client", 0, 0, 0, 10**9)
#: A tenant of weight w advances its pass by STRIDE / w for each call.
STRIDE: Final = 1_000_000
#: The tenant of rows that name none.
NO_TENANT: Final = "-"


def lane_of(text: str) -> int:
    """The lane of a word or a priority: urgent or 0-2, normal or 3-6, bulk or 7-9.

    Raises:
        InputError: it is neither.
    """
    if text in LANES:
        return LANES.index(text)
    if text.isascii() and text.isdigit() and len(text) == 1:
        return (int(text) > 2) + (int(text) > 6)  # noqa: PLR2004 -- the ranges above
    raise InputError(f"lane {text!r} is unknown; use urgent, normal, bulk or a number from 0 to 9")


def flow_name(client: ClientSettings, lane: int, tenant: str, route: str) -> str:
    """The flow of a call: its lane, its tenant, and the names of the limits it is charged to."""
    return f"{lane}:{tenant}:{'+'.join(limit.name for limit in matching(client.limits, route))}"


def definition(client: ClientSettings, flow: str) -> str:
    """A flow as the scripts read it (JSON): lane, tenant, stride and cells.

    Its name was made when its transactions were released, maybe under another configuration. A
    limit that is gone may live on under another name, so such a flow is charged to all limits; one
    for every call that came later counts as well.
    """
    lane, tenant, joined = flow.split(":")
    names = joined.split("+") if joined else []
    gone = set(names) - {limit.name for limit in client.limits}
    charged = [it for it in client.limits if gone or it.name in names or it.match == "* *"]
    weight = client.tenants[tenant].weight if tenant in client.tenants else 1
    return json.dumps(
        {
            "lane": int(lane),
            "tenant": tenant,
            "stride": STRIDE // weight,
            "limits": [CLIENT_CELL, *(cell(limit).row() for limit in charged)],
        },
        separators=(",", ":"),
    )


def refresh(store: Store, keys: ClientKeys, client: ClientSettings) -> None:
    """Write the configuration's limits into every flow that the store knows already."""
    known: Iterable[str] = store.hkeys(keys.flows)  # type: ignore[assignment]
    args = [it for flow in known for it in (flow, definition(client, flow))]
    Scripts(store, keys, None)("refresh", *args)
