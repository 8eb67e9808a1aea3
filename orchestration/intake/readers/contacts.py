"""Rows of kind `contacts`, from CSV with a header line.

The delimiter is the one of `,` `;` TAB that parts the header into most columns. A line whose quotes
do not add up is rejected, and reading goes on with the line after it: an open quote does not
swallow its neighbours.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from typing import TYPE_CHECKING, Final

from orchestration.intake.readers.rows import BAD_ID, TOO_LONG, Bad, is_id, rejected, shown
from orchestration.intake.readers.source import MAX_LINE
from orchestration.text import format_count
from workers.errors import InputError
from workers.ledger.identity import payload_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestration.intake.readers.source import Line
    from workers.ledger.ledger import Row

DELIMITERS: Final = ",;\t"
MAX_COLUMNS: Final = 500
#: Longest cell, characters.
MAX_CELL: Final = 10_000
#: Characters of a content hash by which a contact without an id column is called.
DERIVED_ID: Final = 16

OPEN_QUOTE: Final = "a quote is not closed, or not doubled inside of a cell"
LINE_END: Final = "a line end (CR) stands inside of a cell without quotes"
_PHONE = re.compile(r"\+?[0-9]{5,18}")
_PHONE_SPACING = str.maketrans("", "", " -().")
#: An address or a number, which is no name of a column: the header is missing.
_DATA = re.compile(r".+@.+\..+|\+[0-9 ().-]{7,}|[0-9]{9,}|[0-9][0-9 ().-]{9,}[0-9]")


def read_contacts(
    lines: Iterable[Line], file: str, *, id_column: str = "", phone_column: str = ""
) -> Iterator[Row]:
    """One row a record below the header, good or rejected; blank lines are none.

    Raises:
        InputError: the header cannot be used; the text names the file, the column, and what is
            there.
    """
    records = _Records(lines)
    columns = _columns(next(records, None), file)
    for role, column in (("id", id_column), ("phone", phone_column)):
        if column and column not in columns:
            there = ", ".join(shown(it) for it in columns[:20])
            raise InputError(
                f"{file}, line 1: there is no column {shown(column)} for the {role}; there are "
                f"{there}"
            )
    for number, cells in records:
        try:
            data = _contact(cells, columns)
            if phone_column:
                _check_phone(phone_column, data[phone_column])
            row_id = _id(id_column, data)
        except Bad as error:
            yield rejected(number, str(error), _id_cell(id_column, columns, cells))
        else:
            yield {"line": number, "id": row_id, "data": data}


def read_columns(lines: Iterable[Line], file: str) -> list[str]:
    """The columns that the header names; errors as `read_contacts`."""
    return _columns(next(_Records(lines), None), file)


def _contact(cells: Sequence[str] | str, columns: Sequence[str]) -> dict[str, str]:
    if isinstance(cells, str):
        raise Bad(cells)
    if len(cells) != len(columns):
        there, needed = format_count(len(cells), "cell"), format_count(len(columns), "column")
        raise Bad(f"holds {there} for {needed}")
    data = dict(zip(columns, cells, strict=True))
    for column, cell in data.items():
        if len(cell) > MAX_CELL:
            raise Bad(f"column {shown(column)}: is longer than {MAX_CELL} characters")
        if "\0" in cell:
            raise Bad(f"column {shown(column)}: holds a NUL character")
    return data


def _id(column: str, data: Mapping[str, str]) -> str:
    if not column:
        return payload_hash(data)[:DERIVED_ID]
    if not is_id(data[column]):
        raise Bad(f"column {shown(column)}: {BAD_ID if data[column] else 'is empty'}")
    return data[column]


def _id_cell(column: str, columns: Sequence[str], cells: Sequence[str] | str) -> str:
    """What a rejected row is called, as far as that can be told."""
    known = column and not isinstance(cells, str) and len(cells) == len(columns)
    return cells[columns.index(column)] if known else ""


def _check_phone(column: str, cell: str) -> None:
    if not cell.strip():
        raise Bad(f"column {shown(column)}: is empty")
    if not _PHONE.fullmatch(cell.translate(_PHONE_SPACING)):
        raise Bad(
            f"column {shown(column)}: must be a phone number, 5 to 18 digits, a + before them"
        )


def _columns(record: _Record | None, file: str) -> list[str]:
    if record is None:
        raise InputError(f"{file} is empty; it needs a header line and rows below it")
    number, cells = record
    place = f"{file}, line {number}"
    if isinstance(cells, str):
        raise InputError(f"{place}: {cells}; the first line must name the columns")
    columns = [it.strip() for it in cells]
    if len(columns) > MAX_COLUMNS:
        raise InputError(f"{place}: there are {len(columns)} columns, more than {MAX_COLUMNS}")
    if any(_DATA.fullmatch(it) for it in columns):
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
                f"{place}: columns {first + 1} and {index + 1} are both named {shown(column)}"
            )
    return columns


#: First line of a record, and its cells or, as text, why they cannot be read.
_Record = tuple[int, list[str] | str]


class _Feed:
    """The lines that a CSV reader asks for; those of a record that failed can be put back."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []  #: of the record that is being read
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

    def __init__(self, lines: Iterable[Line]) -> None:
        self._feed = _Feed(lines)
        first = next(self._feed, "")
        self._feed.put_back(0)
        delimiter = max(DELIMITERS, key=lambda it: _width(first, it))
        self._reader = csv.reader(self._feed, delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[_Record]:
        return self

    def __next__(self) -> _Record:
        cells: list[str] | str = []
        while not cells:  # a blank line
            self._feed.begin()
            try:
                cells = next(self._reader)
            except csv.Error as error:
                cells = _reason(str(error))
                self._feed.put_back(1)
        return self._feed.taken[0][0], cells


def _width(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter)))
    except csv.Error:
        return 0


def _reason(error: str) -> str:
    """What is wrong with a record, in our words."""
    if error == TOO_LONG:
        return error
    if "field limit" in error:
        return f"a cell is longer than {MAX_CELL} characters, or a quote is not closed"
    return LINE_END if "new-line" in error else OPEN_QUOTE
