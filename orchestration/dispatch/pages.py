"""Jobs: the next page of a job is opened into the backlog."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from orchestration.kinds.registry import all_kinds
from workers.governor.flows import NO_TENANT, Flow, define, of_pool
from workers.ledger.batch import rows_of
from workers.ledger.ledger import NewTransaction
from workers.ledger.transaction import join_flows, join_guards

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.kind import Planned
    from workers.clients import Client


def open_next_page(client: Client, name: str) -> int | None:
    """Put the next page of the job into the backlog; returns how many transactions it holds.

    None when there is no page left, when somebody else did, or when limits were changed live
    meanwhile: the next turn does.
    """
    job = client.ledger.job(name)
    if job is None or job.next_page >= job.pages:
        return None
    page, params = job.next_page, job.step_params
    kind = all_kinds()[params.kind]
    version, settings = client.look()
    flows: dict[str, Flow] = {}

    @cache  # rows of one page mostly share their route
    def flow_of(lane: int, tenant: str, route: str) -> tuple[str, Flow]:
        flow = client.flow(lane, tenant, route, settings)
        return flow.id, flow

    new: list[NewTransaction] = []
    joined: list[tuple[str, int]] = []
    for index, row in enumerate(client.ledger.page(name, page)):
        if "error" in row:
            continue
        if "joins" in row:
            # A page of an earlier release names no batch: the id alone is that of the first row.
            joined.append((client.key(name, row.get("of") or row["id"]), row.get("at", 0)))
            continue
        plan = kind.steps.plan(row, params, settings)
        lane = row.get("lane", params.lane)
        tenant = row.get("tenant", params.tenant) or NO_TENANT
        steps = [_flows_of(step, lane, tenant, flow_of) for step in plan]
        for step in steps:
            flows.update(step)
        new.append(
            NewTransaction(
                key=client.key(name, row["id"]),
                flows=join_flows([[flow_id for flow_id, _ in step] for step in steps]),
                guards=join_guards([step.guard for step in plan]),
                steps=len(plan),
                index=index,
                rows=len(rows_of(row)),
            )
        )
    definitions = {flow_id: flow.definition(settings) for flow_id, flow in flows.items()}
    if not define(client.store, client.keys, version, definitions):
        return None
    return len(new) if client.ledger.open(name, page, definitions, new, joined) else None


def _flows_of(
    step: Planned, lane: int, tenant: str, flow_of: Callable[[int, str, str], tuple[str, Flow]]
) -> list[tuple[str, Flow]]:
    """The flow of a step, and after it that of its look-up, which is charged to its own limits."""
    if not step.governed:
        flow = of_pool(lane, tenant, step.pool)
        return [(flow.id, flow)]
    routes = [step.route, step.lookup] if step.lookup else [step.route]
    return [flow_of(lane, tenant, route) for route in routes]
