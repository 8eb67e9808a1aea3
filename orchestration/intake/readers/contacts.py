"""Rows of kind `contacts`, from CSV with a header line.

The delimiter is the one of `,` `;` TAB `|` that parts the header into most columns. A line whose
quotes are not balanced is rejected, and reading goes on with the line after it: an open quote does
not swallow its neighbours. A record of empty cells is a blank line.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from orchestration.intake.readers.rows import (
    BAD_ID,
    TOO_LONG,
    BadRow,
    is_id,
    reject,
    show_name,
)
from orchestration.intake.readers.source import MAX_LINE
from orchestration.intake.submission import Options, option
from orchestration.text import format_count
from workers.errors import InputError
from workers.ledger.identity import payload_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestration.intake.readers.source import NumberedLine
    from workers.ledger.ledger import Row

DELIMITERS: Final = ",;\t|"
MAX_COLUMNS: Final = 500
#: Longest cell, characters.
MAX_CELL: Final = 10_000
#: Characters of a content hash by which a contact without an id column is called.
DERIVED_ID: Final = 16

OPEN_QUOTE: Final = "a quote is not closed, or not doubled inside of a cell"
LINE_END: Final = "a line end (CR) stands inside of a cell without quotes"
_PHONE: Final = re.compile(r"\+?[0-9]{5,18}")
#: A number as spreadsheets and data frames write one that they took for a fraction.
_FRACTION: Final = re.compile(r"\+?[0-9]+\.0+")
_PHONE_SPACING: Final = str.maketrans("", "", " -().")
#: An address or a number, which is no name of a column: the header is missing.
_DATA: Final = re.compile(r".+@.+\..+|\+[0-9 ().-]{7,}|[0-9]{9,}|[0-9][0-9 ().-]{9,}[0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactOptions(Options):
    """What a submission of contacts may say."""

    contact_list: str = field(  #: the provider's id of their list
        metadata=option("--list", metavar="ID", help="The contact list's id.")
    )
    id_column: str = field(  #: "" = ids are derived from the content
        default="",
        metadata=option("--id-column", metavar="NAME", help="Column of the contacts' own ids."),
    )
    phone_column: str = field(  #: "" = phone numbers are not checked
        default="",
        metadata=option("--phone-column", metavar="NAME", help="Column whose numbers are checked."),
    )
    batch_size: int | None = field(  #: most contacts in one call; None: what the provider takes
        default=None,
        metadata=option(
            "--batch-size",
            type=click.IntRange(min=1, max=1000),
            metavar="N",
            help="Most contacts in one call; default: what the platform takes, 1000 or 512000 "
            "bytes.",
        ),
    )
    #: Of contacts of a campaign, which will name their list: its job, "" = not known yet, and its
    #: row.
    parent: tuple[str, str] | None = None


def read_contacts(
    lines: Iterable[NumberedLine], file: str, *, id_column: str = "", phone_column: str = ""
) -> Iterator[Row]:
    """One row a record below the header, good or rejected; blank lines are none.

    Raises:
        InputError: the header cannot be used; the text names the file, the column, and what is
            there.
    """
    records = _Records(lines)
    columns = _read_header(next(records, None), file)
    for role, column in (("id", id_column), ("phone", phone_column)):
        if column and column not in columns:
            there = ", ".join(show_name(name) for name in columns[:20])
            raise InputError(
                f"{file}, line 1: there is no column {show_name(column)} for the {role}; there are "
                f"{there}"
            )
    for number, values in records:
        if not any(map(str.strip, values)):
            continue
        try:
            data = _read_contact(values, columns)
            if phone_column:
                _check_phone(phone_column, data[phone_column])
            row_id = _read_id(id_column, data)
        except BadRow as error:
            yield reject(number, str(error), _id_cell(id_column, columns, values))
        else:
            yield {"line": number, "id": row_id, "data": data}


def read_columns(lines: Iterable[NumberedLine], file: str) -> list[str]:
    """The columns that the header names; errors as `read_contacts`."""
    return _read_header(next(_Records(lines), None), file)


def _read_contact(values: Sequence[str] | str, columns: Sequence[str]) -> dict[str, str]:
    if isinstance(values, str):
        raise BadRow(values)
    if _is_header(values, columns):
        raise BadRow("repeats the header line; join files without their headers")
    if len(values) != len(columns):
        there, needed = format_count(len(values), "cell"), format_count(len(columns), "column")
        raise BadRow(f"holds {there} for {needed}")
    data = dict(zip(columns, values, strict=True))
    for column, value in data.items():
        if len(value) > MAX_CELL:
            raise BadRow(f"column {show_name(column)}: is longer than {MAX_CELL} characters")
        if "\0" in value:
            raise BadRow(f"column {show_name(column)}: holds a NUL character")
    return data


def _is_header(values: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether a record repeats the header, as in a file that was joined from several."""
    return [value.strip().removeprefix("\ufeff") for value in values] == columns


def _read_id(column: str, data: Mapping[str, str]) -> str:
    if not column:
        return payload_hash(data)[:DERIVED_ID]
    if not is_id(data[column]):
        raise BadRow(f"column {show_name(column)}: {BAD_ID if data[column] else 'is empty'}")
    return data[column]


def _id_cell(column: str, columns: Sequence[str], values: Sequence[str] | str) -> str:
    """What a rejected row is called, as far as that can be told."""
    known = column and not isinstance(values, str) and len(values) == len(columns)
    return values[columns.index(column)] if known else ""


def _check_phone(column: str, value: str) -> None:
    if not value.strip():
        raise BadRow(f"column {show_name(column)}: is empty")
    if _FRACTION.fullmatch(value.strip()):
        raise BadRow(
            f"column {show_name(column)}: ends with .0, as a spreadsheet writes a number; export "
            f"the column as text"
        )
    if not _PHONE.fullmatch(value.translate(_PHONE_SPACING)):
        raise BadRow(
            f"column {show_name(column)}: must be a phone number, 5 to 18 digits, a + before them"
        )


def _read_header(record: _Record | None, file: str) -> list[str]:
    if record is None:
        raise InputError(f"{file} is empty; it needs a header line and rows below it")
    number, values = record
    place = f"{file}, line {number}"
    if isinstance(values, str):
        raise InputError(f"{place}: {values}; the first line must name the columns")
    columns = [value.strip() for value in values]
    if len(columns) > MAX_COLUMNS:
        raise InputError(f"{place}: there are {len(columns)} columns, more than {MAX_COLUMNS}")
    if any(_DATA.fullmatch(column) for column in columns):
        raise InputError(
            f"{place}: this looks like a contact; the first line must name the columns"
        )
    for index, column in enumerate(columns):
        if not column:
            raise InputError(f"{place}: column {index + 1} of {len(columns)} has no name")
        if len(column) > MAX_CELL or not column.isprintable():
            raise InputError(f"{place}: the name of column {index + 1} cannot be printed")
        if (first := columns.index(column)) < index:
            raise InputError(
                f"{place}: columns {first + 1} and {index + 1} are both named {show_name(column)}"
            )
    return columns


#: First line of a record, and its cells or, as text, why they cannot be read.
_Record = tuple[int, list[str] | str]


class _Feed:
    """The lines that a CSV reader asks for; those of a record that failed can be put back."""

    def __init__(self, lines: Iterable[NumberedLine]) -> None:
        self._lines = iter(lines)
        self._again: deque[NumberedLine] = deque()
        self.taken: list[NumberedLine] = []  #: of the record that is being read
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        _, text = line
        if text is None:
            raise csv.Error(TOO_LONG if len(self.taken) == 1 else OPEN_QUOTE)
        self._size += len(text)
        if self._size > MAX_LINE:
            raise csv.Error(OPEN_QUOTE)
        return text

    def begin(self) -> None:
        """Begin a record."""
        self.taken.clear()
        self._size = 0

    def put_back(self, first: int) -> None:
        """Give the lines of the record out again, from this one on."""
        self._again.extendleft(reversed(self.taken[first:]))


class _Records:
    """The records of a CSV file; a record spans lines where a cell holds line ends."""

    def __init__(self, lines: Iterable[NumberedLine]) -> None:
        self._feed = _Feed(lines)
        first = next(self._feed, "")
        self._feed.put_back(0)
        delimiter = max(DELIMITERS, key=lambda delimiter: _count_cells(first, delimiter))
        self._reader = csv.reader(self._feed, delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[_Record]:
        return self

    def __next__(self) -> _Record:
        values: list[str] | str = []
        while not values:  # a blank line
            self._feed.begin()
            try:
                values = next(self._reader)
            except csv.Error as error:
                values = _explain(str(error))
                self._feed.put_back(1)
        return self._feed.taken[0][0], values


def _count_cells(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter)))
    except csv.Error:
        return 0


def _explain(error: str) -> str:
    """What is wrong with a record, in our words."""
    if error == TOO_LONG:
        return error
    if "field limit" in error:
        return f"a cell is longer than {MAX_CELL} characters, or a quote is not closed"
    return LINE_END if "new-line" in error else OPEN_QUOTE
