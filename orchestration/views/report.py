"""The report of a job: one line a row, in the order of the file."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final, Literal

from orchestration.text import escape_controls
from orchestration.views.pages import page_of, rows_told
from orchestration.views.steps import state_of, steps_of, told
from workers.errors import HeadgateError
from workers.ledger.ledger import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestration.views.steps import Done
    from workers.clients import Client
    from workers.ledger.ledger import Row

Format = Literal["csv", "jsonl"]

#: What a cell must not begin with: a spreadsheet would run it.
_FORMULA = tuple("=+-@\t\r\n\0＝＋－＠")  # noqa: RUF001 -- full-width signs are formulas too


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one row; None where there is nothing to say."""

    line: int  #: of the file
    id: str | None
    state: str  #: a final state, `waiting` or `in_flight`
    key: str | None  #: idempotency key; None: no call belongs to the row
    attempts: int  #: of the newest step: times it went out and failed
    status: int | None  #: newest HTTP status
    provider_id: str | None
    correlation_id: str | None
    #: of several steps those that are finished, as CSV "create 123, load 456"; None: a single step
    done: Sequence[Done] | None
    error: str | None  #: of several steps with where they stopped, and what is done


COLUMNS: Final = tuple(it.name for it in fields(Line))


def report(client: Client, job: str) -> Iterator[Line]:
    """All rows of the job, page by page; one round trip to the store for each page's states.

    Where batches were split, one more for each time that one was.

    Raises:
        HeadgateError: a page of rows is missing or damaged.
    """
    for page in range(int(client.ledger.job(job).get("pages", 0))):
        entries = page_of(client, job, page)
        if entries is None:
            raise HeadgateError(
                f"job {job}: page {page} of its rows is missing or damaged, so that the report "
                f"ends here; see what else `headgate doctor` finds, and restore the store's data"
            )
        lines = [_rejected(entry) for entry in entries if "error" in entry]
        lines += [line_of(client, *told) for told in rows_told(client, job, entries)]
        yield from sorted(lines, key=lambda it: it.line)


def _rejected(row: Row) -> Line:
    return Line(
        row["line"], row.get("id"), "rejected", None, 0, None, None, None, None, row["error"]
    )  # fmt: skip


def line_of(client: Client, row: Row, key: str, found: dict[str, str]) -> Line:
    """A row whose transaction is its own or that of the row which it joins.

    Args:
        client: Whose it is.
        row: Its line and id.
        key: The transaction's.
        found: The transaction's hash; empty while its page is not opened.
    """
    state, error = state_of(found), found.get("e")
    several = int(found.get("n", 1)) > 1 or "pt" in found
    steps = steps_of(client, found) if several else None
    if state == "succeeded":
        error = None  # what an earlier attempt met is of no interest any more
    elif steps and state in FINAL:
        error = steps.stopped(state, error or "")
    status = found.get("st")
    return Line(
        line=row["line"],
        id=row["id"],
        state=state,
        key=key,
        attempts=int(found.get("at", 0)),
        status=int(status) if status else None,
        provider_id=found.get("id"),
        correlation_id=found.get("co"),
        done=steps.done if steps else None,
        error=error,
    )


def as_csv(lines: Iterable[Line]) -> Iterator[str]:
    """CSV with a header line, cells safe to open in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for line in lines:
        writer.writerow([_cell(getattr(line, name)) for name in COLUMNS])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def as_jsonl(lines: Iterable[Line]) -> Iterator[str]:
    """One JSON object a line."""
    for line in lines:
        yield json.dumps(asdict(line)) + "\n"


def _cell(value: str | int | Sequence[Done] | None) -> str | int | None:
    """A cell that no spreadsheet runs and no terminal obeys; our own numbers stay numbers."""
    if value is None or isinstance(value, int):
        return value
    value = value if isinstance(value, str) else told(value)
    shown = escape_controls(value)
    return f"'{shown}" if value.startswith(_FORMULA) else shown
