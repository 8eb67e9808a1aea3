"""Rows that the provider never does, beside good ones; and what good ones lose by them.

All figures but the states of the rows are of the sandbox's journal.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.support.faults.outage import rows_of
from workers.governor import refusals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.fleet import Fleet

#: How the business id of a row begins that the provider never does.
BAD: Final = "bad"
GOOD: Final = "good"


def never(kind: str, **more: Any) -> dict[str, Any]:
    """The fault that hits each call of a bad row, and no other."""
    return {"kind": kind, "when": {"id_match": f"{BAD}-*"}, **more}


def mixed_rows(good: int, bad: int, seed: int = 0) -> list[dict[str, Any]]:
    """So many rows of both under guard `key`, in an order that the seed decides."""
    rows = [*rows_of("key", good, GOOD), *rows_of("key", bad, BAD)]
    random.Random(seed).shuffle(rows)
    return [{**row, "line": n} for n, row in enumerate(rows, 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the rows of one job cost; seconds count from the first send of all."""

    good: int  #: rows
    bad: int
    good_states: dict[str, int]
    bad_states: dict[str, int]
    bad_errors: set[str]
    doubled: int
    good_s: float  #: until the last good row was done
    bad_sends_before: int  #: sends of bad rows until then
    sends_before: int  #: sends of all rows until then
    bad_sends: int
    most_bad_sends: int  #: of one row
    bad_lived_s: float  #: longest time from the first to the last send of a bad row
    good_per_s: float  #: good rows a second, without the first and the last tenth of them

    @property
    def sent_per_s(self) -> float:
        """Sends of all rows a second until the last good row was done."""
        return self.sends_before / self.good_s


def spent(fleet: Fleet, job: str = "job") -> Spent:
    """Count what the ledger and the journal say of a job of `mixed_rows`."""
    name_of = {key: row for row, key in fleet.keys(job).items()}
    sends = [
        (entry["t_us"], name_of[entry["key"]], entry)
        for entry in fleet.requests()
        if entry.get("key") in name_of
    ]
    begun_us = min(t_us for t_us, _, _ in sends)
    done_us = {name: t_us for t_us, name, entry in sends if entry.get("created")}
    effects = Counter(name for _, name, entry in sends if entry.get("created"))
    good_us = sorted(t_us for name, t_us in done_us.items() if not _is_bad(name))
    last_us = good_us[-1] if good_us else max(t_us for t_us, _, _ in sends)
    bad = [(t_us, name) for t_us, name, _ in sends if _is_bad(name)]
    known = {row: tx for row, tx in fleet.transactions(job).items() if tx}
    states = {row: tx.state.public_name for row, tx in known.items()}
    tenth = len(good_us) // 10
    inner = good_us[tenth : len(good_us) - tenth]
    return Spent(
        good=sum(not _is_bad(row) for row in name_of.values()),
        bad=sum(_is_bad(row) for row in name_of.values()),
        good_states=dict(Counter(state for row, state in states.items() if not _is_bad(row))),
        bad_states=dict(Counter(state for row, state in states.items() if _is_bad(row))),
        bad_errors={str(tx.error) for row, tx in known.items() if _is_bad(row)},
        doubled=effects.total() - len(effects),
        good_s=(last_us - begun_us) / 1e6,
        bad_sends_before=sum(t_us <= last_us for t_us, _ in bad),
        sends_before=sum(t_us <= last_us for t_us, _, _ in sends),
        bad_sends=len(bad),
        most_bad_sends=max(Counter(name for _, name in bad).values(), default=0),
        bad_lived_s=_longest_life_s(bad),
        good_per_s=(len(inner) - 1) / ((inner[-1] - inner[0]) / 1e6) if len(inner) > 1 else 0.0,
    )


def pauses(fleet: Fleet) -> int:
    """How many answers of 429 held what they refused, by the record of the client's refusals."""
    seen = refusals.read(fleet.client.store, fleet.client.keys, 0)
    return sum(refusal.pause_s > 0 for refusal in seen)


def _is_bad(row: str) -> bool:
    return row.startswith(BAD)


def _longest_life_s(sends: Iterable[tuple[int, str]]) -> float:
    first: dict[str, int] = {}
    longest = 0
    for t_us, name in sorted(sends):
        longest = max(longest, t_us - first.setdefault(name, t_us))
    return longest / 1e6


def table(named: Iterable[tuple[str, Spent]]) -> str:
    """The figures, one line a run, in the form of the docs."""
    columns = (
        "run", "good", "bad", "good rows end", "bad rows end", "good done after s",
        "bad sends until then", "sends a second until then", "good a second", "bad sends",
        "most of a row", "longest life s", "doubled",
    )  # fmt: skip
    text = [columns, ("---",) * len(columns)]
    for name, run in named:
        cells = (
            name, run.good, run.bad, _shown(run.good_states), _shown(run.bad_states),
            f"{run.good_s:.1f}", run.bad_sends_before, f"{run.sent_per_s:.0f}",
            f"{run.good_per_s:.1f}", run.bad_sends, run.most_bad_sends,
            f"{run.bad_lived_s:.1f}", run.doubled,
        )  # fmt: skip
        text.append(tuple(map(str, cells)))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in text)


def _shown(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "-"
