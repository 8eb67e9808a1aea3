"""Rows of kind `campaigns`, from JSON lines: a definition with a CSV of contacts each.

    {"id", "contacts", "id_column", "list", "campaign", "may_fail", "tenant", "lane"}

`contacts` is the CSV's path, seen from the folder of the definitions. It is read here to its end
and checked as a job of contacts of its own would be; of what it comes to only numbers and a digest
are kept, under `load` of the row. It is read once more when it is accepted (`intake.loads`). So
neither memory nor open files grow with the number of campaigns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.check import check
from orchestration.intake.readers.calls import parse
from orchestration.intake.readers.contacts import read_columns
from orchestration.intake.readers.dialing import (
    an_object,
    read_campaign,
    read_phone_columns,
    text_of,
)
from orchestration.intake.readers.rows import (
    BAD_ID,
    TOO_LONG,
    Bad,
    is_id,
    only,
    rejected,
    shown,
    turn_of,
)
from orchestration.intake.readers.source import Source
from workers.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestration.intake.check import Checked
    from orchestration.intake.submission import Submission
    from workers.ledger.ledger import Row

_FIELDS: Final = (
    "id", "contacts", "id_column", "list", "campaign", "may_fail", "tenant", "lane",
)  # fmt: skip


def read_campaigns(source: Source, it: Submission) -> Iterator[Row]:
    """One row a line, good or rejected; blank lines are none.

    What the files of contacts hold counts as content of the source, so that a definition with
    other contacts is another job.
    """
    for number, text in source:
        if text is None:
            yield rejected(number, TOO_LONG)
        elif text.strip():
            yield _row(number, text, source, it)


def contacts_of(it: Submission, row: Row, job: str = "") -> Submission:
    """The submission of a campaign's contacts.

    Args:
        it: That of the campaigns.
        row: The campaign: its id, lane, tenant, and of its load file and columns.
        job: The campaigns' job; "" = its name is not known yet.
    """
    load = row["load"]
    return replace(
        it,
        kind="contacts",
        path=it.path.parent / load["file"],
        lane=row.get("lane", it.lane),
        tenant=row.get("tenant", it.tenant),
        id_column=load["id_column"],
        phone_column=load["phone_column"],
        of=(job, row["id"]),
    )


def _row(number: int, text: str, source: Source, it: Submission) -> Row:
    given: Any = None
    try:
        given = parse(text)
        return {"line": number, **_checked(given, source, it)}
    except Bad as error:
        return rejected(number, str(error), given.get("id") if isinstance(given, dict) else None)


def _checked(given: Any, source: Source, it: Submission) -> Row:  # noqa: ANN401 -- any JSON value
    if not isinstance(given, dict):
        raise Bad("must be a JSON object")
    only(given, _FIELDS)
    if not is_id(given.get("id")):
        raise Bad(f"id: {BAD_ID}")
    row: Row = {"id": given["id"], **turn_of(given, it.client.settings())}
    row["campaign"] = read_campaign(given.get("campaign"))
    row["list"] = an_object(given.get("list", {}), "list")
    row["list"].setdefault("name", row["campaign"]["name"])
    text_of(row["list"], "name", "list, ")
    row["may_fail"] = given.get("may_fail", 0)
    if type(row["may_fail"]) is not int or row["may_fail"] < 0:
        raise Bad("may_fail: must be a whole number of contacts, 0 or above")
    row["load"] = _load_of(given)
    _read_load(row, source, it)
    return row


def _load_of(given: dict[str, Any]) -> dict[str, Any]:
    file, id_column = given.get("contacts"), given.get("id_column", "")
    if not (isinstance(file, str) and file.strip() and file.isprintable()):
        raise Bad("contacts: must be the path of a CSV, seen from the folder of this file")
    if not isinstance(id_column, str):
        raise Bad("id_column: must be the name of a column of the contacts")
    return {"file": file, "id_column": id_column, "phone_column": ""}


def _read_load(row: Row, source: Source, it: Submission) -> None:
    """Read the contacts to their end; the row learns their columns, and what they come to."""
    load = row["load"]
    its = contacts_of(it, row)
    try:
        if its.path.is_fifo():
            raise Bad("contacts: must be a file that can be read twice, not a pipe")
        csv = Source(its.path)
        _columns(row, read_columns(csv, csv.name), csv.name)
        its = replace(its, phone_column=load["phone_column"])
        with check(its) as found:
            source.include(found.job)
            _whole(found)
            load |= {
                "rows": found.rows,
                "rejected": found.rejected,
                "joined": found.joined,
                "calls": found.calls,
                "digest": found.spool.digest,
            }
            if found.reasons:
                load["bad"] = list(found.reasons[0])
    except InputError as error:
        raise Bad(f"contacts: {error}") from None
    except (ValueError, OSError):  # a name that no file can have
        raise Bad("contacts: this is no path of a file; correct it") from None


def _columns(row: Row, columns: list[str], file: str) -> None:
    """Give list and campaign the columns of the file, and let those named be among them."""
    its, campaign = row["list"], row["campaign"]
    named = its.setdefault("columnNames", columns)
    if not isinstance(named, list) or not all(isinstance(it, str) for it in named):
        raise Bad("list, columnNames: must be a list of names; leave it out to have all columns")
    for column in columns:
        if column not in named:
            raise Bad(
                f"list, columnNames: does not name column {shown(column)} of {file}; leave it out "
                f"to have all of them"
            )
    for one, other, place in ((campaign, its, "campaign, "), (its, campaign, "list, ")):
        one.setdefault("phoneColumns", other.get("phoneColumns"))
        read_phone_columns(one["phoneColumns"], place, columns, file)
    if len(campaign["phoneColumns"]) == 1:  # of several columns one may be empty
        row["load"]["phone_column"] = campaign["phoneColumns"][0]["columnName"]


def _whole(found: Checked) -> None:
    if found.rejected == found.rows:
        line, reason = found.reasons[0]
        raise Bad(f"contacts: {found.file} holds no good contact (line {line}: {reason})")
