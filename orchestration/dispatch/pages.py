"""Opens the next page of a job: its transactions are written, and begin to wait in the backlog."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from orchestration.kinds.registry import all_kinds
from workers.governor.flows import NO_TENANT, Flow, define, is_whole, of_pool
from workers.ledger.batch import rows_of
from workers.ledger.ledger import NewTransaction
from workers.ledger.transaction import join_flows, join_guards

if TYPE_CHECKING:
    from tasks.kind import StepPlan
    from workers.clients import Client
    from workers.ledger.batch import Row
    from workers.ledger.job import JobParams
    from workers.settings.client import ClientSettings


def open_next_page(client: Client, job: str) -> int | None:
    """Open the next page of the job; returns how many transactions it holds.

    None when there is no page left, when another worker opened it, or when limits were changed live
    meanwhile: the next turn opens it then.
    """
    stored = client.ledger.job(job)
    if stored is None or stored.next_page >= stored.pages:
        return None
    number, params = stored.next_page, stored.step_params
    client.routes()  # the first call of a process may change which limits hold
    version, settings = client.look()
    page = _Page(client, settings, job, params)
    for index, row in enumerate(client.ledger.page(job, number)):
        if "error" in row:
            continue
        if "joins" in row:
            page.join(row)
        else:
            page.add(index, row)
    # Defined under the limits of `version`; `open` defines them again where that was lost since.
    definitions = {name: waiting.definition(settings) for name, waiting in page.flows.items()}
    if not define(client.store, client.keys, version, definitions):
        return None
    is_open = client.ledger.open(job, number, definitions, page.transactions, page.joined)
    return len(page.transactions) if is_open else None


def define_again(client: Client) -> list[str]:
    """Define flows anew in which something waits and whose definition is missing or damaged.

    What a flow is follows from a row that waits in it.

    Returns:
        Those that were defined.
    """
    store, keys = client.store, client.keys
    names: list[str] = sorted(store.smembers(keys.active))  # type: ignore[arg-type]
    stored: list[str | None] = store.hmget(keys.flows, names) if names else []  # type: ignore[assignment]
    known = zip(names, stored, strict=True)
    lost = [name for name, text in known if not (text and is_whole(text))]
    defined = []
    for name in lost:
        version, settings = client.look()
        flow = _find_flow_of(client, settings, name)
        if flow and define(store, keys, version, {name: flow.definition(settings)}):
            defined.append(name)
    return defined


def _find_flow_of(client: Client, settings: ClientSettings, name: str) -> Flow | None:
    """What the flow of this name is, by the first row that waits in it; None: nobody can say."""
    backlog = client.keys.backlog(name)
    due: list[str] = client.store.zrange(f"{backlog}:due", 0, 0)  # type: ignore[assignment]
    waiting: list[str] = due or client.store.lrange(backlog, 0, 0)  # type: ignore[assignment]
    transaction = client.ledger.transaction(waiting[0]) if waiting else None
    if transaction is None:
        return None
    params = client.ledger.job_params(transaction.job)
    page = _Page(client, settings, transaction.job, params)
    page.add(transaction.place.index, client.ledger.row(transaction.job, transaction.place))
    by_step = page.transactions[0].flows.split(",")
    own = by_step[min(transaction.step, len(by_step)) - 1].partition(">")[0]
    return page.flows.get(name) or page.flows[own]


class _Page:
    """What the rows of one page become: transactions, joined rows, and the flows of all."""

    def __init__(
        self, client: Client, settings: ClientSettings, job: str, params: JobParams
    ) -> None:
        self._client = client
        self._settings = settings
        self._job = job
        self._params = params
        self._steps = all_kinds()[params.kind].steps
        # Rows of one page mostly share their route.
        self._flow_of = cache(self._find_flow)
        self.flows: dict[str, Flow] = {}  #: by id
        self.transactions: list[NewTransaction] = []
        self.joined: list[tuple[str, int]] = []  #: key of the first row, and place in its batch

    def join(self, row: Row) -> None:
        """Note a row that repeats an earlier one."""
        # A row that names no batch joins one that stands alone, under the same id.
        first = self._client.key(self._job, row.get("of") or row["id"])
        self.joined.append((first, row.get("at", 0)))

    def add(self, index: int, row: Row) -> None:
        """Make a transaction of a good row; `index` is its place in the page."""
        plan = self._steps.plan(row, self._params, self._settings)
        lane = row.get("lane", self._params.lane)
        tenant = row.get("tenant", self._params.tenant) or NO_TENANT
        by_step = [self._flows_of(step, lane, tenant) for step in plan]
        for flows in by_step:
            self.flows.update(flows)
        self.transactions.append(
            NewTransaction(
                key=self._client.key(self._job, row["id"]),
                flows=join_flows([[flow_id for flow_id, _ in flows] for flows in by_step]),
                guards=join_guards([step.guard for step in plan]),
                steps=len(plan),
                index=index,
                rows=len(rows_of(row)),
            )
        )

    def _flows_of(self, step: StepPlan, lane: int, tenant: str) -> list[tuple[str, Flow]]:
        """The flow of a step, then that of its look-up, which is charged to its own limits."""
        if step.local:
            local = of_pool(lane, tenant, step.pool)
            return [(local.id, local)]
        routes = [step.route, step.lookup] if step.lookup else [step.route]
        return [self._flow_of(lane, tenant, route) for route in routes]

    def _find_flow(self, lane: int, tenant: str, route: str) -> tuple[str, Flow]:
        flow = self._client.flow(lane, tenant, route, self._settings)
        return flow.id, flow
