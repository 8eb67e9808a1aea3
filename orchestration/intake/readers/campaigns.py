"""Rows of kind `campaigns`, from JSON lines: a definition with a CSV of contacts each.

The fields of a line are those of `CAMPAIGN_FIELDS`. `contacts` is the CSV's path, seen from the
folder of the definitions. The CSV is read here to its end and checked as a job of contacts would
be; of what it comes to only numbers and a digest are kept, under `load` of the row. It is read once
more when it is accepted (`orchestration.intake.campaign_contacts`). So neither memory nor open
files grow with the number of campaigns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from orchestration.intake.readers.calls import ROW_FIELDS
from orchestration.intake.readers.contacts import ContactOptions, read_columns
from orchestration.intake.readers.rows import (
    BAD_ID,
    TOO_LONG,
    BadRow,
    is_id,
    json_lines,
    read_turn,
    refuse_unknown,
    reject,
    show_name,
)
from orchestration.intake.readers.source import Source
from orchestration.intake.readers.strict_json import parse
from orchestration.intake.submission import Options, Submission, option
from workers.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from orchestration.intake.submission import Checked
    from workers.ledger.ledger import Row

#: The table of fields: field → its meaning.
CAMPAIGN_FIELDS: Final = {
    **ROW_FIELDS,
    "contacts": "The path of a CSV of contacts, seen from the folder of the definitions.",
    "id_column": "The column of the contacts' own ids; default: ids are derived from the content.",
    "list": "The contact list; default: name and `phoneColumns` of the campaign, all columns.",
    "campaign": "The campaign, with the provider's fields; what its mode needs must be there.",
    "may_fail": "How many good contacts may be missing at the start; default 0.",
}

#: Set by Headgate or by the platform, and so in no definition.
RESERVED: Final = ("id", "version", "selfUri", "contactList", "campaignStatus")
#: Fields that name another thing of the platform, as `{"id": "…"}`.
_REFERENCES: Final = ("queue", "script", "edgeGroup", "site", "callAnalysisResponseSet")
_AGENTS: Final = ("queue", "script")
_ANALYSED: Final = ("callAnalysisResponseSet",)
#: Mode in which a campaign dials → what it needs beside a name, a caller, and phone columns.
MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "agentless": (*_ANALYSED, "outboundLineCount"),
    "preview": _AGENTS,
    "power": (*_AGENTS, *_ANALYSED, "abandonRate"),
    "predictive": (*_AGENTS, *_ANALYSED, "abandonRate"),
    "progressive": (*_AGENTS, *_ANALYSED),
    "external": (*_AGENTS, *_ANALYSED),
}
#: In these modes an edge group or a site places the calls.
_PLACED: Final = frozenset(MODES) - {"preview"}
#: Longest name, characters; a tag of eleven more comes behind it.
MAX_NAME: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignOptions(Options):
    """What a submission of campaigns may say."""

    start: bool = field(
        default=True,
        metadata=option(
            "--start/--no-start",
            show_default=True,
            help="Start each campaign once its contacts are loaded.",
        ),
    )


def read_campaigns(
    source: Source,
    submission: Submission[CampaignOptions],
    check: Callable[[Submission[ContactOptions]], AbstractContextManager[Checked]],
) -> Iterator[Row]:
    """One row a line, good or rejected; blank lines are none; errors as `json_lines`.

    What the files of contacts hold counts as content of the source, so that a definition with
    other contacts is another job.

    Args:
        source: The definitions.
        submission: Theirs.
        check: Reads the contacts of a definition.
    """
    reader = _Reader(source, submission, check)
    for number, text in json_lines(source):
        if text is None:
            yield reject(number, TOO_LONG)
        else:
            yield reader.read_line(number, text)


def contacts_of(submission: Submission[Any], row: Row, job: str = "") -> Submission[ContactOptions]:
    """The submission of a campaign's contacts.

    Args:
        submission: That of the campaigns.
        row: The campaign: its id, lane, tenant, and of its load file and columns.
        job: The campaigns' job; "" = its name is not known yet.
    """
    load = row["load"]
    return Submission(
        client=submission.client,
        path=submission.path.parent / load["file"],
        lane=row.get("lane", submission.lane),
        tenant=row.get("tenant", submission.tenant),
        options=ContactOptions(
            contact_list="",
            id_column=load["id_column"],
            phone_column=load["phone_column"],
            parent=(job, row["id"]),
        ),
    )


class _Reader:
    """Reads the definitions of one file."""

    def __init__(
        self,
        source: Source,
        submission: Submission[CampaignOptions],
        check: Callable[[Submission[ContactOptions]], AbstractContextManager[Checked]],
    ) -> None:
        self._source = source
        self._submission = submission
        self._check = check

    def read_line(self, number: int, text: str) -> Row:
        """The row of a line."""
        given: object = None
        try:
            given = parse(text)
            return {"line": number, **self._read_row(given)}
        except BadRow as error:
            return reject(number, str(error), given.get("id") if isinstance(given, dict) else None)

    def _read_row(self, given: object) -> Row:
        if not isinstance(given, dict):
            raise BadRow("must be a JSON object")
        refuse_unknown(given, CAMPAIGN_FIELDS)
        if not is_id(given.get("id")):
            raise BadRow(f"id: {BAD_ID}")
        row: Row = {"id": given["id"], **read_turn(given, self._submission.client.settings())}
        row["campaign"] = read_campaign(given.get("campaign"))
        row["list"] = read_object(given.get("list", {}), "list")
        row["list"].setdefault("name", row["campaign"]["name"])
        read_text(row["list"], "name", "list, ")
        row["may_fail"] = given.get("may_fail", 0)
        if type(row["may_fail"]) is not int or row["may_fail"] < 0:
            raise BadRow("may_fail: must be a whole number of contacts, 0 or above")
        row["load"] = _read_load(given)
        self._read_contacts(row)
        return row

    def _read_contacts(self, row: Row) -> None:
        """Read the contacts to their end; the row learns their columns, and what they come to."""
        load = row["load"]
        contacts = contacts_of(self._submission, row)
        try:
            if contacts.path.is_fifo():
                raise BadRow("contacts: must be a file that can be read twice, not a pipe")
            csv = Source(contacts.path)
            _fill_columns(row, read_columns(csv, csv.name), csv.name)
            options = replace(contacts.options, phone_column=load["phone_column"])
            with self._check(replace(contacts, options=options)) as checked:
                self._source.include(checked.job)
                load |= _summarise(checked)
        except InputError as error:
            raise BadRow(f"contacts: {error}") from None
        except (ValueError, OSError):  # a name that no file can have
            raise BadRow("contacts: this is no path of a file; correct it") from None


def _read_load(given: Mapping[str, Any]) -> dict[str, Any]:
    file, id_column = given.get("contacts"), given.get("id_column", "")
    if not (isinstance(file, str) and file.strip() and file.isprintable()):
        raise BadRow("contacts: must be the path of a CSV, seen from the folder of this file")
    if not isinstance(id_column, str):
        raise BadRow("id_column: must be the name of a column of the contacts")
    return {"file": file, "id_column": id_column, "phone_column": ""}


def _summarise(checked: Checked) -> dict[str, Any]:
    """What is kept of a file of contacts; raises `BadRow` when no contact is good."""
    if checked.rejected == checked.rows:
        line, reason = checked.reasons[0]
        raise BadRow(f"contacts: {checked.file} holds no good contact (line {line}: {reason})")
    load: dict[str, Any] = {
        "rows": checked.rows,
        "rejected": checked.rejected,
        "joined": checked.joined,
        "calls": checked.calls,
        "digest": checked.spool.digest,
    }
    if checked.reasons:
        load["bad"] = list(checked.reasons[0])
    return load


def _fill_columns(row: Row, columns: list[str], file: str) -> None:
    """Give list and campaign the columns of the file, and let those named be among them."""
    contact_list, campaign = row["list"], row["campaign"]
    named = contact_list.setdefault("columnNames", columns)
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise BadRow("list, columnNames: must be a list of names; leave it out to have all columns")
    for column in columns:
        if column not in named:
            raise BadRow(
                f"list, columnNames: does not name column {show_name(column)} of {file}; leave it "
                f"out to have all of them"
            )
    for one, other, place in (
        (campaign, contact_list, "campaign, "),
        (contact_list, campaign, "list, "),
    ):
        one.setdefault("phoneColumns", other.get("phoneColumns"))
        check_phone_columns(one["phoneColumns"], place, columns, file)
    if len(campaign["phoneColumns"]) == 1:  # of several columns one may be empty
        row["load"]["phone_column"] = campaign["phoneColumns"][0]["columnName"]


def read_campaign(given: object) -> dict[str, Any]:
    """The campaign of a definition, checked but for its columns; raises `BadRow`."""
    campaign = read_object(given, "campaign")
    for name in ("name", "callerName", "callerAddress"):
        read_text(campaign, name, "campaign, ")
    mode = campaign.get("dialingMode")
    if not isinstance(mode, str) or mode not in MODES:
        raise BadRow(f"campaign, dialingMode: must be one of {', '.join(MODES)}")
    for name in _REFERENCES:
        if (value := campaign.get(name)) is not None and not _is_reference(value):
            raise BadRow(f'campaign, {name}: must be {{"id": "…"}}, the id of one at the provider')
    missing = [name for name in MODES[mode] if campaign.get(name) is None]
    if mode in _PLACED and not (campaign.get("edgeGroup") or campaign.get("site")):
        missing.append("edgeGroup or site")
    if missing:
        raise BadRow(f"campaign, {missing[0]}: is needed for dialingMode {mode}; add it")
    lines, rate = campaign.get("outboundLineCount"), campaign.get("abandonRate")
    if lines is not None and (type(lines) is not int or lines < 1):
        raise BadRow("campaign, outboundLineCount: must be a whole number above 0")
    if rate is not None and (type(rate) not in (int, float) or rate < 0):
        raise BadRow("campaign, abandonRate: must be a number, 0 or above")
    return campaign


def read_object(given: object, place: str) -> dict[str, Any]:
    """A JSON object of the user's fields, without those that Headgate sets; raises `BadRow`."""
    if not isinstance(given, dict):
        raise BadRow(f"{place}: must be a JSON object")
    for name in RESERVED:
        if name in given:
            raise BadRow(f"{place}, {name}: is set by Headgate or the provider; leave it out")
    return dict(given)


def read_text(given: Mapping[str, Any], name: str, place: str) -> str:
    """A text that people read: not empty, on one line; raises `BadRow`."""
    text = given.get(name)
    if not (isinstance(text, str) and text.strip() and text.isprintable()):
        raise BadRow(f"{place}{name}: must be text on one line, not empty")
    if len(text) > MAX_NAME:
        raise BadRow(f"{place}{name}: is longer than {MAX_NAME} characters")
    return text


def check_phone_columns(given: object, place: str, columns: list[str], file: str) -> None:
    """See to it that the columns that hold numbers are there; raises `BadRow`."""
    place = f"{place}phoneColumns"
    wrong = f'{place}: must be a list such as [{{"columnName": "phone", "type": "cell"}}]'
    if not isinstance(given, list) or not given:
        raise BadRow(wrong)
    for column in given:
        if not isinstance(column, dict):
            raise BadRow(wrong)
        read_text(column, "type", f"{place}, ")
        name = read_text(column, "columnName", f"{place}, ")
        if name not in columns:
            there = ", ".join(show_name(known) for known in columns[:20])
            raise BadRow(f"{place}: {file} has no column {show_name(name)}; there are {there}")


def _is_reference(given: object) -> bool:
    return isinstance(given, dict) and isinstance(given.get("id"), str) and bool(given["id"])
