"""The report of a job: one line a row, in the order of the file."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict, dataclass, fields
from http import HTTPStatus
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal

from orchestration.text import escape_controls
from orchestration.views.pages import read_page, rows_of_page
from orchestration.views.steps import format_done, state_of, steps_of
from workers.errors import HeadgateError
from workers.ledger.transaction import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestration.views.steps import Done
    from workers.clients import Client
    from workers.ledger.ledger import Row
    from workers.ledger.transaction import Transaction

Format = Literal["csv", "jsonl"]

#: With these statuses a provider may say that of several things some were not done.
_PARTS: Final = {HTTPStatus.PARTIAL_CONTENT, HTTPStatus.MULTI_STATUS}
_PARTLY: Final = "the provider answered {}: some of what was asked for may not be done; look there"

#: What a cell must not begin with: a spreadsheet would run it.
_FORMULA = tuple("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20")  # full-width signs are formulas too
#: Where a spreadsheet that parts cells at semicolons would see such a cell begin, or a quote that
#: swallows what follows, the one that ends a quoted cell among them.
_INNER: Final = re.compile(r';(?= *(?:["=+\-@\uff1d\uff0b\uff0d\uff20]|$))')


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionStatus:
    """What became of one row; None where there is nothing to say."""

    line: int  #: of the file
    id: str | None
    state: str  #: a final state, `waiting` or `in_flight`
    key: str | None = None  #: idempotency key; None: no call belongs to the row
    attempts: int = 0  #: of the newest step: how often it was sent
    status: int | None = None  #: newest HTTP status
    provider_id: str | None = None
    correlation_id: str | None = None
    #: of several steps those that are finished, as CSV "create 123, load 456"; None: a single step
    done: Sequence[Done] | None = None
    error: str | None = None  #: of several steps with where they stopped, and what is done


COLUMNS: Final = tuple(column.name for column in fields(TransactionStatus))


def report(client: Client, job: str) -> Iterator[TransactionStatus]:
    """All rows of the job, page by page.

    Cost: one round trip to the store for each 50 entries of a page, and one more for each level of
    split batches.

    Raises:
        HeadgateError: a page of rows is missing or damaged.
    """
    stored = client.ledger.job(job)
    for page in range(stored.pages if stored else 0):
        entries = read_page(client, job, page)
        if entries is None:
            raise HeadgateError(
                f"job {job}: page {page} of its rows is missing or damaged, so that the report "
                f"ends here; see what else `headgate doctor` finds, and restore the store's data"
            )
        statuses = [_rejected(entry) for entry in entries if "error" in entry]
        statuses += [status_of(client, *row) for row in rows_of_page(client, job, entries)]
        yield from sorted(statuses, key=attrgetter("line"))


def _rejected(row: Row) -> TransactionStatus:
    return TransactionStatus(
        line=row["line"], id=row.get("id"), state="rejected", error=row["error"]
    )


def status_of(
    client: Client, row: Row, key: str, transaction: Transaction | None
) -> TransactionStatus:
    """The status of a row whose transaction is its own, or that of the row which it joins.

    Args:
        client: Whose it is.
        row: Its line and id.
        key: The transaction's.
        transaction: None while its page is not opened.
    """
    line, row_id, state = row["line"], row["id"], state_of(transaction)
    if transaction is None:
        return TransactionStatus(line=line, id=row_id, state=state, key=key)
    several = transaction.steps > 1 or transaction.done_calls is not None
    steps = steps_of(client, transaction) if several else None
    error = transaction.error
    if state == "succeeded":  # what an earlier attempt met is of no interest any more
        error = _PARTLY.format(transaction.status) if transaction.status in _PARTS else None
    elif steps and transaction.state in FINAL:
        error = steps.stopped(state, error or "")
    return TransactionStatus(
        line=line,
        id=row_id,
        state=state,
        key=key,
        attempts=transaction.sends,
        status=transaction.status,
        provider_id=transaction.provider_id,
        correlation_id=transaction.correlation_id,
        done=steps.done if steps else None,
        error=error,
    )


def as_csv(statuses: Iterable[TransactionStatus]) -> Iterator[str]:
    """CSV with a header line, cells safe to open in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for status in statuses:
        writer.writerow([_cell(getattr(status, name)) for name in COLUMNS])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def as_jsonl(statuses: Iterable[TransactionStatus]) -> Iterator[str]:
    """One JSON object a line."""
    for status in statuses:
        yield json.dumps(asdict(status)) + "\n"


def _cell(value: str | int | Sequence[Done] | None) -> str | int | None:
    """A cell that no spreadsheet runs and no terminal obeys; our own numbers stay numbers."""
    if value is None or isinstance(value, int):
        return value
    value = value if isinstance(value, str) else format_done(value)
    shown = _INNER.sub(";'", escape_controls(value))
    return f"'{shown}" if value.lstrip(' "').startswith(_FORMULA) else shown
