"""Jobs: the opening of the next page into the line."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from orchestration.kinds.registry import all_kinds
from workers.governor.flows import NO_TENANT, Flow, coarse, define, flow, of_pool
from workers.ledger.batch import rows_of
from workers.ledger.ledger import Opened

if TYPE_CHECKING:
    from workers.clients import Client


def open_next_page(client: Client, job: str) -> int | None:
    """Let the next page of the job into its lines; returns how many transactions it holds.

    None when there is no page left, when somebody else did, or when limits were changed live
    meanwhile: the next turn does.
    """
    it = client.ledger.job(job)
    page = int(it["opened"])
    if page >= int(it["pages"]):
        return None
    about = client.ledger.about(job)
    steps = all_kinds()[about["kind"]].steps
    version, settings = client.look()
    flows: dict[str, Flow] = {}

    @cache  # rows of one page mostly share their route
    def flow_of(lane: int, tenant: str, route: str) -> tuple[str, Flow]:
        found = coarse(flow(settings, lane, tenant, route), client.routes())
        return found.id, found

    opened: list[Opened] = []
    joined: list[tuple[str, int]] = []
    for index, row in enumerate(client.ledger.page(job, page)):
        if "error" in row:
            continue
        if "joins" in row:
            # A page of an earlier release names no batch: the id alone is that of the first row.
            joined.append((client.key(job, row.get("of") or row["id"]), row.get("at", 0)))
            continue
        key = client.key(job, row["id"])
        planned = steps.plan(row, about, settings)
        lane, tenant = row.get("lane", about["lane"]), row.get("tenant", about["tenant"])
        names = []
        for call in planned:
            if not call.governed:
                its = of_pool(lane, tenant or NO_TENANT, call.pool)
                flows[its.id] = its
                names.append(its.id)
                continue
            # A look-up waits in the line of its own route, and is charged to the limits of that.
            routes = [call.route, call.lookup] if call.lookup else [call.route]
            both = [flow_of(lane, tenant or NO_TENANT, it) for it in routes]
            flows |= dict(both)
            names.append(">".join(name for name, _ in both))
        guards = _short([it.guard for it in planned])
        rows = len(rows_of(row))
        opened.append(Opened(key, _flows(names), guards, len(planned), index, rows))
    definitions = {name: one.definition(settings) for name, one in flows.items()}
    if not define(client.store, client.keys, version, definitions):
        return None
    return len(opened) if client.ledger.open(job, page, definitions, opened, joined) else None


def _flows(names: list[str]) -> str:
    """The flows of the steps; those with two flows change over one by one."""
    return ",".join(names) if ">" in names[0] else _short(names, ",")


def _short(values: list[Any], between: str = "") -> str:
    """One value when all are the same, else all of them."""
    return str(values[0]) if len(set(values)) == 1 else between.join(values)
