"""The report of a job: one line a row, in the order of the file."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final, Literal

from orchestration.invariants import page_of
from workers.errors import HeadgateError
from workers.ledger import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from workers.clients import Client
    from workers.ledger import Row

Format = Literal["csv", "jsonl"]

#: What a cell must not begin with: a spreadsheet would run it.
_FORMULA = tuple("=+-@\t\r\n\0＝＋－＠")  # noqa: RUF001 -- full-width signs are formulas too
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


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
    error: str | None


COLUMNS: Final = tuple(it.name for it in fields(Line))


def report(client: Client, job: str) -> Iterator[Line]:
    """All rows of the job, page by page; one round trip to the store for each page's states.

    Raises:
        HeadgateError: a page of rows is missing or damaged.
    """
    for page in range(int(client.ledger.job(job).get("pages", 0))):
        rows = page_of(client, job, page)
        if rows is None:
            raise HeadgateError(
                f"job {job}: page {page} of its rows is missing or damaged, so that the report "
                f"ends here; see what else `headgate doctor` finds, and restore the store's data"
            )
        keys = [client.key(job, row["id"]) for row in rows if "error" not in row]
        states = zip(keys, client.ledger.transactions(keys), strict=True)
        for row in rows:
            yield _rejected(row) if "error" in row else _line(row, *next(states))


def _rejected(row: Row) -> Line:
    return Line(
        row["line"], row.get("id"), "rejected", None, 0, None, None, None, row["error"]
    )  # fmt: skip


def _line(row: Row, key: str, found: dict[str, str]) -> Line:
    """A row whose transaction is its own or that of the row which it joins."""
    letter = found.get("s", "w")
    state = letter if letter in FINAL else "in_flight" if letter == "s" else "waiting"
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
        # What an earlier attempt met is of no interest once the row has succeeded.
        error=None if state == "succeeded" else found.get("e"),
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


def _cell(value: str | int | None) -> str | int | None:
    """A cell that no spreadsheet runs and no terminal obeys; our own numbers stay numbers."""
    if not isinstance(value, str):
        return value
    shown = _CONTROL.sub(lambda it: f"\\x{ord(it[0]):02x}", value)
    return f"'{shown}" if value.startswith(_FORMULA) else shown
