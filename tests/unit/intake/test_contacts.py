from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestration.intake.readers.contacts import MAX_CELL, MAX_COLUMNS, read_contacts
from orchestration.intake.readers.source import MAX_LINE
from workers.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.desk import Desk
    from workers.ledger.ledger import Row

HEADER = "id,name,phone\n"


def read(text: str, *, id_column: str = "id", phone_column: str = "phone") -> list[Row]:
    lines: list[tuple[int, str | None]] = [
        (number, None if len(line) > MAX_LINE else line)
        for number, line in enumerate(text.splitlines(keepends=True), 1)
    ]
    rows = read_contacts(lines, "may.csv", id_column=id_column, phone_column=phone_column)
    return list(rows)


def lines_and_ids(rows: list[Row]) -> list[tuple[int, Any]]:
    return [(row["line"], row.get("error") or row["id"]) for row in rows]


def test_each_record_becomes_a_contact_with_all_its_columns() -> None:
    rows = read(HEADER + 'k1,"Müller, ""Anna""",+49 (30) 123-45.67\n')

    data = {"id": "k1", "name": 'Müller, "Anna"', "phone": "+49 (30) 123-45.67"}
    assert rows == [{"line": 2, "id": "k1", "data": data}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_read_from_the_header(delimiter: str) -> None:
    header = delimiter.join(["id", '"name, first; and last"', "phone"])

    rows = read(f"{header}\n{delimiter.join(['k1', '', '12345'])}\n")

    assert rows[0]["data"] == {"id": "k1", "name, first; and last": "", "phone": "12345"}


def test_a_cell_may_hold_line_ends_and_the_row_is_named_by_its_first_line() -> None:
    rows = read(HEADER + 'k1,"a\r\n\r\nb",12345\r\n\r\nk2,c,12345\r\n')

    assert lines_and_ids(rows) == [(2, "k1"), (6, "k2")]
    assert rows[0]["data"]["name"] == "a\r\n\r\nb"


def test_without_an_id_column_the_same_content_has_the_same_id() -> None:
    rows = read("a,b\n1,2\n1,3\n1,2\n", id_column="", phone_column="")

    first, other, again = [row["id"] for row in rows]
    assert first == again != other
    assert len(first) == 16


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("k1,Anna", "holds 2 cells for 3 columns"),
        ("k1,Anna,12345,", "holds 4 cells for 3 columns"),
        (",Anna,12345", "column id: is empty"),
        ("k 1,Anna,12345", "column id: must be text of 1 to 128"),
        ("k1,Anna,", "column phone: is empty"),
        ("k1,Anna,  ", "column phone: is empty"),
        ("k1,Anna,()", "column phone: must be a phone number"),
        ("k1,Anna,1234", "column phone: must be a phone number"),
        ("k1,Anna,1234567890123456789", "column phone: must be a phone number"),
        ("k1,Anna,12345x", "column phone: must be a phone number"),
        ("k1,Anna,1+2345", "column phone: must be a phone number"),
        ("k1,Anna,١٢٣٤٥", "column phone: must be a phone number"),
        ("k1,An\0na,12345", "column name: holds a NUL character"),
        (f"k1,{'a' * (MAX_CELL + 1)},12345", "column name: is longer than 10000 characters"),
        (f"k1,{'a' * 200_000},12345", "a cell is longer than 10000 characters"),
        ("a" * (MAX_LINE + 1), "the line is longer than 512000 bytes"),
        ('k1,"Anna"x,12345', "a quote is not closed, or not doubled"),
        ("k1,An\rna,12345", "a line end (CR) stands inside of a cell without quotes"),
    ],
    ids=lambda it: it[:20],
)
def test_a_bad_row_is_rejected_with_its_reason_and_its_neighbours_go_on(
    record: str, reason: str
) -> None:
    lines = [HEADER, "k0,a,12345\n", f"{record}\n", "k2,c,12345\n"]

    numbered = enumerate((None if len(it) > MAX_LINE else it for it in lines), 1)
    rows = list(read_contacts(numbered, "may.csv", id_column="id", phone_column="phone"))

    assert [row["line"] for row in rows] == [2, 3, 4]
    assert [row.get("id") for row in (rows[0], rows[2])] == ["k0", "k2"]
    assert rows[1]["error"].startswith(reason)
    assert "data" not in rows[1]


@pytest.mark.parametrize("ending", ["", "\n", '\nk9,"x",12345\n'])
def test_an_open_quote_does_not_swallow_the_rows_below_it(ending: str) -> None:
    below = "".join(f"k{n},b,12345\n" for n in range(3, 9))

    rows = read(f'{HEADER}k1,a,12345\nk2,"b,12345\n{below}'.removesuffix("\n") + ending)

    found = lines_and_ids(rows)
    assert found[1] == (3, "a quote is not closed, or not doubled inside of a cell")
    assert [it for _, it in found[:1] + found[2:]][:7] == [f"k{n}" for n in (1, *range(3, 9))]


def test_an_open_quote_in_a_long_file_costs_one_row() -> None:
    below = "".join(f"k{n},{'b' * 90},12345\n" for n in range(10_000))

    rows = read(f'{HEADER}kx,"b,12345\n{below}')

    assert [row["line"] for row in rows if "error" in row] == [2]
    assert len(rows) == 10_001


def test_a_record_has_no_more_bytes_than_a_line_may_have() -> None:
    endless = '"a\n' + f'{"b" * 1000}","c\n' * 600 + '"\n'

    rows = read(f"{HEADER}k1,a,12345\n{endless}k2,b,12345\n")

    assert rows[1] == {"line": 3, "error": "a quote is not closed, or not doubled inside of a cell"}
    assert rows[-1]["id"] == "k2"


def test_a_rejected_row_keeps_the_id_of_its_id_column() -> None:
    assert read(HEADER + "k7,Anna,x\n")[0]["id"] == "k7"
    assert "id" not in read(HEADER + "k7,Anna\n")[0]


def test_a_reason_never_shows_what_stands_in_a_cell() -> None:
    rows = read(HEADER + "canary 1,a,12345\nk1,canary,canary\nk2,canary\n")

    assert len(rows) == 3
    assert not [row for row in rows if "canary" in row["error"]]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "may.csv is empty"),
        ("ident,phone\n", "line 1: there is no column id for the id; there are ident, phone"),
        ("id,telephone\n", "line 1: there is no column phone for the phone; there are id, tele"),
        ("id,,phone\n", "line 1: column 2 of 3 has no name"),
        ("id,phone,\n", "line 1: column 3 of 3 has no name"),
        ("id,phone,id\n", "line 1: columns 1 and 3 are both named id"),
        ("id,phone, id\n", "line 1: columns 1 and 3 are both named id"),
        ("id,pho\0ne\n", "line 1: the name of column 2 cannot be printed"),
        ('id,"pho\nne"\n', "line 1: the name of column 2 cannot be printed"),
        ('id,"phone\n', "line 1: a quote is not closed"),
        (",".join(f"c{n}" for n in range(MAX_COLUMNS + 1)), "there are 501 columns, more than"),
    ],
    ids=lambda it: it[:20],
)
def test_a_header_that_cannot_be_used_refuses_the_file(header: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        read(header)

    assert reason in str(caught.value)
    assert str(caught.value).startswith("may.csv")


@pytest.mark.parametrize("cell", ["+49 30 1234567", "0301234567", "anna@example.com"])
def test_a_contact_in_place_of_the_header_is_seen_and_not_shown(cell: str) -> None:
    with pytest.raises(InputError) as caught:
        read(f"k1,Anna,{cell}\nk2,Bea,{cell}\n", id_column="", phone_column="")

    assert "line 1: this looks like a contact" in str(caught.value)
    assert cell not in str(caught.value)


@pytest.mark.parametrize("phone", ["15550100001.0", "+4915550100002.00", " 15550100001.0 "])
def test_a_number_with_a_fraction_is_no_phone_number(phone: str) -> None:
    good, bad = read(f"id,phone\n1,1.555.010.0001\n2,{phone}\n")

    assert good["data"]["phone"] == "1.555.010.0001"
    assert bad["error"] == (
        "column phone: ends with .0, as a spreadsheet writes a number; export the column as text"
    )


def test_a_record_of_empty_cells_is_a_blank_line_and_a_second_header_is_rejected() -> None:
    rows = read("id,phone\n1,+15550100\n,\n  , \n,,,\n\ufeffid, phone\n2,+15550101\n")

    assert [row["line"] for row in rows] == [2, 6, 7]
    assert "repeats the header line" in rows[1]["error"]
    assert [row["id"] for row in rows if "error" not in row] == ["1", "2"]


def test_contacts_for_a_client_of_nice_are_refused_in_one_sentence(
    desk: Desk, tmp_path: Path
) -> None:
    desk.configure('provider = "nice"')
    file = tmp_path / "may.csv"
    file.write_text("customer,phone\n1,+15550100\n", "utf-8")

    result = desk.run("submit", "contacts", file, "--client", "acme", "--list", "7f3a9c")

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "is one of NICE CXone, for which `submit contacts` is not built yet" in result.stderr
