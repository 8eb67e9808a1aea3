"""Opens the next page of a job: its transactions are written, and begin to wait in the backlog."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from tasks import KINDS
from workers.governor.flows import NO_TENANT, Flow, coarse, define, flow, of_pool
from workers.ledger.batch import rows_of
from workers.ledger.ledger import Opened
from workers.settings.limits import cell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.clients import Client
    from workers.ledger.batch import Row
    from workers.settings.client import ClientSettings

#: Seconds of work at the full rate that stand open ahead of the calls.
_AHEAD_S: Final = 2.0
#: A job is asked for its next page when it has fewer open transactions than this, or than _AHEAD_S
#: of work.
_LOW_WATER: Final = 500


def low_water(client: Client) -> int:
    """How many open transactions a job may have before its next page has to wait."""
    rates = [cell(limit).rate or 0 for limit in client.settings.limits]
    return max(_LOW_WATER, round(_AHEAD_S * max(rates, default=0)))


def open_next_page(client: Client, job: str) -> int | None:
    """Open the next page of the job; returns how many transactions it holds.

    None when there is no page left, when another worker opened it, or when limits were changed live
    meanwhile: the next turn opens it then.
    """
    stored = client.ledger.job(job)
    number = int(stored["opened"])
    if number >= int(stored["pages"]):
        return None
    job_params = client.ledger.about(job)
    version, settings = client.look()
    page = _Page(client, settings, job, job_params)
    for index, row in enumerate(client.ledger.page(job, number)):
        if "error" in row:
            continue
        if "joins" in row:
            page.join(row)
        else:
            page.add(index, row)
    definitions = {name: waiting.definition(settings) for name, waiting in page.flows.items()}
    if not define(client.store, client.keys, version, definitions):
        return None
    is_open = client.ledger.open(job, number, definitions, page.transactions, page.joined)
    return len(page.transactions) if is_open else None


class _Page:
    """What the rows of one page become: transactions, joined rows, and the flows of all."""

    def __init__(
        self, client: Client, settings: ClientSettings, job: str, job_params: Mapping[str, Any]
    ) -> None:
        self._client = client
        self._settings = settings
        self._job = job
        self._job_params = job_params
        self._kind = KINDS[job_params["kind"]]
        # Rows of one page mostly share their route.
        self._flow_of = cache(self._find_flow)
        self.flows: dict[str, Flow] = {}  #: by id
        self.transactions: list[Opened] = []
        self.joined: list[tuple[str, int]] = []  #: key of the first row, and place in its batch

    def join(self, row: Row) -> None:
        """Note a row that repeats an earlier one."""
        # A page of an earlier release names no batch: the id alone is that of the first row.
        first = self._client.key(self._job, row.get("of") or row["id"])
        self.joined.append((first, row.get("at", 0)))

    def add(self, index: int, row: Row) -> None:
        """Make a transaction of a good row; `index` is its place in the page."""
        steps = self._kind.plan(row, self._job_params, self._settings)
        lane = row.get("lane", self._job_params["lane"])
        tenant = row.get("tenant", self._job_params["tenant"]) or NO_TENANT
        names = []
        for step in steps:
            if step.governed:
                # A look-up waits in the backlog of its own route, and is charged to its own limits.
                routes = [step.route, step.lookup] if step.lookup else [step.route]
                flows = [self._flow_of(lane, tenant, route) for route in routes]
            else:
                local = of_pool(lane, tenant, step.pool)
                flows = [(local.id, local)]
            self.flows |= dict(flows)
            names.append(">".join(name for name, _ in flows))
        key = self._client.key(self._job, row["id"])
        guards = _shorten([step.guard for step in steps])
        opened = Opened(key, _join_flows(names), guards, len(steps), index, len(rows_of(row)))
        self.transactions.append(opened)

    def _find_flow(self, lane: int, tenant: str, route: str) -> tuple[str, Flow]:
        waiting = coarse(flow(self._settings, lane, tenant, route), self._client.routes)
        return waiting.id, waiting


def _join_flows(names: Sequence[str]) -> str:
    """The flows of the steps; a transaction whose first step has two names each of them."""
    return ",".join(names) if ">" in names[0] else _shorten(names, ",")


def _shorten(values: Sequence[Any], between: str = "") -> str:
    """One value when all are the same, else all of them."""
    return str(values[0]) if len(set(values)) == 1 else between.join(values)
