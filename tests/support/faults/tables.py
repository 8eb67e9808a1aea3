"""The tables of docs/reference/guard-proof.md, as a run of the guards fills them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.faults.mixed import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.support.faults.guards import Run
    from tests.support.faults.tally import Tally

DOCS: Final = Path(__file__).parents[3] / "docs/reference/guard-proof.md"
BEGIN: Final = "<!-- Written by python -m tests.support.faults.guards --write -->\n"
END: Final = "<!-- The end of what it writes -->\n"

#: What a fault is called there.
_SHOWN: Final = {
    "drop_before": "reset before the effect",
    "hang": "no answer after it",
    "5xx_after": "5xx after it",
    "drop_after": "reset after it",
    "5xx_stored": "5xx stored and replayed",
}
_COUNTS: Final = (
    "transactions",
    "faults",
    "out at a kill",
    "sent again",
    "looked up",
    "doubled",
    "lost",
    "unknown",
    "succeeded",
)


def rendered(runs: Sequence[Run], seed: int) -> str:
    """Both tables, and what they are."""
    lived = [it for it in runs if not it.deaths]
    return "\n".join(
        [
            f"Seed {seed}. *Keys*: what the provider matches them by. A transaction has two calls,",
            "and most meet a fault or two. Each failpoint had a run of its own; *out at a kill*",
            "had been sent, and not settled, when a worker died.",
            "",
            *_table(
                ["keys", "guard", *_COUNTS],
                ([_mode(run), guard, *_counts(it)] for run, guard, it in _each(runs)),
            ),
            "",
            "How many ended `unknown` of those that met this fault and no other, nobody killed:",
            "",
            *_table(
                ["keys", "guard", *(_SHOWN[it] for it in FAULTS)],
                (
                    [
                        run.mode.name,
                        guard,
                        *(f"{it.alone_unknown[kind]} of {it.alone[kind]}" for kind in FAULTS),
                    ]
                    for run, guard, it in _each(lived)
                ),
            ),
            "",
        ]
    )


def with_tables(text: str, tables: str) -> str:
    """The page with these tables in place of the ones that it has."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def tables_of(text: str) -> str:
    """What stands in the page."""
    return text.partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"


def _mode(run: Run) -> str:
    return f"{run.mode.name}; `kill -9` at {run.deaths} failpoints" if run.deaths else run.mode.name


def _each(runs: Iterable[Run]) -> Iterator[tuple[Run, str, Tally]]:
    for run in runs:
        for guard in run.mode.guards:
            yield run, guard, run.tallies[guard]


def _counts(it: Tally) -> list[int]:
    faults, states = it.met.total(), it.states
    done = (it.doubled, it.lost, states["unknown"], states["succeeded"])
    return [it.rows, faults, it.out, it.again, it.looks, *done]


def _table(columns: list[str], lines: Iterable[list[object]]) -> Iterator[str]:
    yield _line(columns)
    yield _line(["---"] * len(columns))
    yield from map(_line, lines)


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
