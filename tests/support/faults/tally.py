"""What became of the rows of each guard, told from the sandbox's journal.

What may end `unknown` is derived here once more, from the journal and the deaths alone:

| guard           | ends `unknown` exactly where                                              |
| --------------- | ------------------------------------------------------------------------- |
| `key`, `upsert` | the provider honours keys, and remembers a 5xx under that of the step     |
| `lookup`        | nowhere: the provider's reads show what was done                          |
| `none`          | a request got no answer or a 5xx, or was out when its worker died         |
| reads           | nowhere                                                                   |

All else succeeds, and nothing fails.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.faults.mixed import FAULTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from tests.support.faults.mixed import Mode
    from tests.support.journal import Record

#: The guard, row and step that a path names.
_NAMED = re.compile(r"/(?P<row>(?P<guard>[a-z]+)\d+)\.(?P<step>\d)(?:/contacts)?$")


@dataclass(slots=True)
class Tally:
    """Counts of the rows of one guard."""

    rows: int = 0
    met: Counter[str] = field(default_factory=Counter)  #: faults that hit a step of theirs, by kind
    out: int = 0  #: rows that had been sent and not settled when a worker died
    again: int = 0  #: requests for a step beyond its first one
    looks: int = 0
    repeats: int = 0  #: writes of what was there already
    doubled: int = 0  #: steps whose effect was there twice
    lost: int = 0  #: rows without an end, and "succeeded" without an effect
    states: Counter[str] = field(default_factory=Counter)
    #: Of the rows that met this fault and no other: how many there are, how many ended `unknown`.
    alone: Counter[str] = field(default_factory=Counter)
    alone_unknown: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, it) + getattr(other, it) for it in self.__slots__))


def tally(
    states: Mapping[str, str], requests: Iterable[Record], mode: Mode, out: Collection[str]
) -> tuple[dict[str, Tally], list[str]]:
    """Count, and hold what the ledger says against what must be.

    Args:
        states: Row → state, of rows of two steps.
        requests: Everything that arrived at the sandbox.
        mode: What it matched keys by.
        out: Rows that had been sent and not settled when a worker died.

    Returns:
        A tally for each guard, and the violations: one sentence each.
    """
    tallies, violations = defaultdict[str, Tally](Tally), list[str]()
    sends, looks = _by_row(requests)
    for row, state in states.items():
        guard = row.rstrip("0123456789")
        it, own = tallies[guard], sends[row]
        every = [one for step in own.values() for one in step]
        made = Counter(
            name for one in every for what in ("created", "updated") for name in one.get(what, ())
        )
        kinds = Counter(one["fault"] for one in every if "fault" in one)
        it.rows += 1
        it.met += kinds
        it.out += row in out
        it.again += len(every) - len(own)
        it.looks += looks[row]
        it.repeats += sum(len(one.get("repeated", ())) for one in every)
        it.doubled += sum(count > 1 for count in made.values())
        it.states[state] += 1
        whole = len(own if guard == "read" else made) == 2
        it.lost += state not in {"succeeded", "failed", "unknown"} or (
            state == "succeeded" and not whole
        )
        if len(kinds) == 1:
            it.alone.update(kinds.keys())
            it.alone_unknown.update(kinds.keys() if state == "unknown" else ())
        must = must_end(guard, every, mode, died=row in out)
        if state != must:
            seen = [(one["status"], one.get("fault", "")) for one in every]
            violations.append(f"{row} is {state} and must be {must}: {seen}, out {row in out}")
        if guard == "none" and len(every) > len(own):
            violations.append(f"{row} was sent again without a guard")
    return dict(tallies), violations


def must_end(guard: str, requests: Iterable[Record], mode: Mode, *, died: bool) -> str:
    """The state that the table above asks for."""
    match guard:
        case "key" | "upsert":
            unknown = mode.honours and any(it.get("fault") == "5xx_stored" for it in requests)
        case "none":
            unknown = died or any(it["status"] == 0 or it["status"] >= 500 for it in requests)
        case _:
            unknown = False
    return "unknown" if unknown else "succeeded"


def rarely_met(tallies: Mapping[str, Tally], few: int) -> list[str]:
    """Faults that hit the rows of a guard less than a few times: the run proves nothing there."""
    return [
        f"guard {guard} met {fault} {it.met[fault]} times only"
        for guard, it in tallies.items()
        for fault in FAULTS
        if it.met[fault] < few
    ]


def _by_row(
    requests: Iterable[Record],
) -> tuple[dict[str, dict[str, list[Record]]], Counter[str]]:
    """Row → step → its requests in their order, and row → its look-ups."""
    sends: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    looks = Counter[str]()
    for it in requests:
        if named := _NAMED.search(it["path"]):
            if named["guard"] == "lookup" and it["method"] == "GET":
                looks[named["row"]] += 1
            else:
                sends[named["row"]][named["step"]].append(it)
    return sends, looks
