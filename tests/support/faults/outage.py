"""A provider that fails as a whole for a while: its shapes, the rows of each guard, the figures.

All figures but the states of the rows are of the sandbox's journal. The bounds are what the outage
rules allow: how much may be sent into an outage, and how soon after its end the last row is done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.support.fleet import looked_up
from workers.governor.flows import route_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.support.fleet import Fleet
    from tests.support.journal import Record

#: What rows declare; a re-send is harmless under the first three.
GUARDS: Final = ("key", "upsert", "lookup", "none")
#: What the provider does to each call; none of these calls has an effect.
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "503": {"kind": "5xx_before"},
    "503 and when": {"kind": "5xx_before", "retry_after": 2},
    "500": {"kind": "5xx_before", "status": 500},
    "resets": {"kind": "reset"},
    "hangs": {"kind": "hang_before", "hang_s": 3600},
    "proxy page": {"kind": "page"},
    "half": {"kind": "5xx_before", "when": {"probability": 0.5}},
    "three quarters": {"kind": "5xx_before", "when": {"probability": 0.75}},
}
#: First sends in a row that must be bad before a scope opens.
IN_A_ROW: Final = 16
#: Seconds from the opening to the first probe, and most seconds from one probe to the next.
FIRST_PROBE_S: Final = 2.0
LAST_GAP_S: Final = 30.0
#: The last row is done so many seconds after the end, beside its share of the rate.
RECOVERY_S: Final = 60.0


def fault(shape: str, seconds: float, *clients: str) -> dict[str, Any]:
    """The shape as a fault of the sandbox; it begins with its order and ends by itself.

    Args:
        shape: One of `SHAPES`.
        seconds: How long it lasts.
        clients: Whose calls it hits; none named: everybody's.
    """
    order = SHAPES[shape]
    when = {"until_s": seconds, **({"clients": clients} if clients else {})}
    return {**order, "when": {**order.get("when", {}), **when}}


def is_total(shape: str) -> bool:
    """Whether no call at all is answered well."""
    return "when" not in SHAPES[shape]


def rows_of(guard: str, count: int, prefix: str = "") -> list[dict[str, Any]]:
    """Rows of one write each, all by one route; guard `lookup` reads by another one."""
    return [
        {"line": n + 1, "id": name, "steps": [_step(guard, name)]}
        for n in range(count)
        for name in [f"{prefix or guard}-{n}"]
    ]


def _step(guard: str, name: str) -> dict[str, Any]:
    if guard == "upsert":
        return {
            "name": "s",
            "guard": guard,
            "method": "POST",
            "path": "/api/v2/outbound/contactlists/list-1/contacts",
            "body": [{"id": name, "contactListId": "list-1", "data": {"note": "Köln"}}],
        }
    ask = looked_up(1, name) if guard == "lookup" else {}
    body = {"business_id": name}
    return {
        "name": "s", "guard": guard, "method": "POST", "path": "/things/1", "body": body, **ask
    }  # fmt: skip


def most_probes(seconds: float) -> int:
    """How many probes may begin while a scope is open for so long."""
    count, at, gap = 0, FIRST_PROBE_S, FIRST_PROBE_S
    while at <= seconds:
        count += 1
        gap = min(2 * gap, LAST_GAP_S)
        at += gap
    return count


def most_sends(threads: int, seconds: float) -> int:
    """How many calls of one scope may go into a total outage."""
    return 2 * threads + IN_A_ROW + most_probes(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One client and the outage that it met; moments are of the journal's clock."""

    shape: str
    guard: str
    seconds: float
    ended_us: int  #: the latest moment at which the outage can have ended
    threads: int  #: of all workers
    rate: float  #: calls a second that the client's limit lets through


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What became of the rows of one client."""

    outage: Outage
    rows: int
    states: dict[str, int]
    sends: int  #: calls that met the outage
    most_of_a_scope: int  #: the same of the scope that had most
    doubled: int  #: effects on a row beyond its first
    lost: int  #: `succeeded` without an effect
    hit_once: int  #: rows that met the outage and were sent once
    waiting: int  #: rows without an effect when the outage ended
    last_s: float  #: from its end to the last effect; below 0: all came before

    def violations(self) -> list[str]:
        """What breaks the outage rules; a sentence each."""
        outage, who = self.outage, f"{self.outage.shape}, guard {self.outage.guard}"
        broken = []
        if self.doubled or self.lost:
            broken.append(f"{who}: {self.doubled} effects doubled, {self.lost} lost")
        most = most_sends(outage.threads, outage.seconds)
        if is_total(outage.shape) and self.most_of_a_scope > most:
            broken.append(f"{who}: {self.most_of_a_scope} sends of a scope, {most} are allowed")
        unknown = self.states.get("unknown", 0)
        if outage.guard != "none":
            if self.states != {"succeeded": self.rows}:
                broken.append(f"{who}: of {self.rows} rows {self.states}")
        else:
            if unknown != self.hit_once or unknown + self.states.get("succeeded", 0) != self.rows:
                broken.append(f"{who}: {self.states}, but {self.hit_once} met the outage once")
            if is_total(outage.shape) and unknown > most:
                broken.append(f"{who}: {unknown} rows are unknown, {most} are allowed")
        bound_s = RECOVERY_S + self.waiting / outage.rate
        if self.last_s > bound_s:
            broken.append(f"{who}: the last row came {self.last_s:.0f} s late, not {bound_s:.0f}")
        return broken


def figures(fleet: Fleet, outage: Outage, requests: Iterable[Record]) -> Figures:
    """Count what the ledger and the journal say of the one job of a client.

    Args:
        fleet: As `Fleet.of` gives it for the client.
        outage: What the client met.
        requests: The whole journal.
    """
    mine = [
        entry for entry in requests
        if entry.get("client") == fleet.client.name and entry["kind"] != "token"
    ]  # fmt: skip
    bad = [entry for entry in mine if entry.get("fault")]
    scopes = Counter(route_class(f"{entry['method']} {entry['path']}") for entry in bad)
    effects: Counter[str] = Counter()
    first_us: dict[str, int] = {}
    for entry in mine:
        for name in (*entry.get("created", ()), *entry.get("updated", ())):
            effects[name] += 1
            first_us.setdefault(name, entry["t_us"])
    transactions = fleet.transactions()
    states = {row: transaction.state for row, transaction in transactions.items() if transaction}
    sends, hit = _sends_by_key(mine)
    keys = fleet.keys()
    last_us = max(first_us.values(), default=outage.ended_us)
    return Figures(
        outage=outage,
        rows=len(transactions),
        states=dict(Counter(state.public_name for state in states.values())),
        sends=len(bad),
        most_of_a_scope=max(scopes.values(), default=0),
        doubled=effects.total() - len(effects),
        lost=sum(state == "succeeded" and row not in effects for row, state in states.items()),
        hit_once=sum(keys[row] in hit and sends[keys[row]] == 1 for row in keys),
        waiting=sum(first_us.get(row, last_us) > outage.ended_us for row in keys),
        last_s=(last_us - outage.ended_us) / 1e6,
    )


def _sends_by_key(entries: Iterable[Record]) -> tuple[Mapping[str, int], set[str]]:
    """Key → its sends, and the keys that the outage met."""
    sends: defaultdict[str, int] = defaultdict(int)
    hit = set()
    for entry in entries:
        if key := entry.get("key"):
            sends[key] += 1
            if entry.get("fault"):
                hit.add(key)
    return sends, hit


def table(lines: Iterable[Figures]) -> str:
    """The figures, one line a client, in the form of the docs."""
    columns = (
        "shape", "outage s", "guard", "rows", "succeeded", "unknown", "other",
        "sends into it", "of a scope", "allowed", "doubled", "lost", "last row after s",
    )  # fmt: skip
    text = [columns, ("---",) * len(columns)]
    for line in lines:
        outage, states = line.outage, line.states
        good, unknown = states.get("succeeded", 0), states.get("unknown", 0)
        most = most_sends(outage.threads, outage.seconds) if is_total(outage.shape) else "-"
        cells = (
            outage.shape, f"{outage.seconds:g}", outage.guard, line.rows, good, unknown,
            line.rows - good - unknown, line.sends, line.most_of_a_scope, most,
            line.doubled, line.lost, f"{line.last_s:.1f}",
        )  # fmt: skip
        text.append(tuple(map(str, cells)))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in text)
