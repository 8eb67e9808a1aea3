from __future__ import annotations

import csv
import io
import os
import stat
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestration.dispatch import pages
from orchestration.intake.spool import PAGE_ENTRIES
from orchestration.views.report import COLUMNS, TransactionStatus, as_csv, as_jsonl
from tests.support.desk import Desk, a_call, reported
from tests.support.stored import a_job
from workers.errors import StoreAway
from workers.ledger.ledger import Ledger, PageCounts

if TYPE_CHECKING:
    from pathlib import Path


#: What no cell may begin with.
FORMULA = tuple("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20")


def a_line(**fields: Any) -> TransactionStatus:
    nothing: dict[str, Any] = dict.fromkeys(COLUMNS) | {"line": 1, "state": "failed", "attempts": 0}
    return TransactionStatus(**{**nothing, **fields})


def as_cells(line: TransactionStatus) -> dict[str, str]:
    (cells,) = csv.DictReader(io.StringIO("".join(as_csv([line])), newline=""))
    return cells


def test_the_report_has_one_line_a_row_in_the_order_of_the_file(desk: Desk) -> None:
    lines = [a_call(f"r{n}") for n in range(2 * PAGE_ENTRIES)]
    lines[7] = a_call("bad", path="x")
    lines[400] = a_call("r3")
    job = desk.accepted("calls", lines)["job"]
    pages.open_next_page(desk.client, job)  # the second page waits as a page

    result = desk.run("report", job)

    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert result.exit_code == 0
    assert list(rows[0]) == [
        "line", "id", "state", "key", "attempts", "status", "provider_id", "correlation_id",
        "done", "error",
    ]  # fmt: skip
    assert [row["line"] for row in rows] == [str(n) for n in range(1, len(lines) + 1)]
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    assert Counter(row["state"] for row in rows) == {"waiting": 499, "rejected": 1}
    assert rows[7]["error"].startswith("the path must begin")
    assert rows[7]["key"] == ""
    assert rows[400]["key"] == rows[3]["key"] == desk.client.key(job, "r3")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"s": "w"}, {"state": "waiting"}),
        ({"s": "r"}, {"state": "waiting"}),
        (
            {"s": "t", "at": "2", "ns": "3", "st": "503"},
            {"state": "waiting", "attempts": 3, "status": 503},
        ),
        ({"s": "s"}, {"state": "in_flight"}),
        (
            {"s": "failed", "st": "400", "ns": "1", "co": "c-1", "e": "refused"},
            {
                "state": "failed",
                "attempts": 1,
                "status": 400,
                "correlation_id": "c-1",
                "error": "refused",
            },
        ),
        ({"s": "unknown", "st": ""}, {"state": "unknown", "attempts": 0, "status": None}),
        (
            {"s": "succeeded", "st": "201", "id": "p-1", "e": "an earlier attempt met a 503"},
            {"state": "succeeded", "status": 201, "provider_id": "p-1", "error": None},
        ),
        (
            {"s": "succeeded", "st": "207"},
            {
                "state": "succeeded",
                "error": "the provider answered 207: some of what was asked for may not be done; "
                "look there",
            },
        ),
    ],
    ids=lambda it: it.get("s") or it.get("state"),
)
def test_a_row_tells_what_the_ledger_knows(
    desk: Desk, found: dict[Any, Any], expected: dict[str, Any]
) -> None:
    job = desk.accepted("calls", [a_call(), a_call()])["job"]
    pages.open_next_page(desk.client, job)
    key = desk.client.key(job, "a")
    desk.store.hset(desk.client.keys.transaction(key), mapping=found)

    first, joined = reported(desk, job)

    assert {name: first[name] for name in expected} == expected
    assert first["key"] == key
    assert joined == first | {"line": 2}


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b"])
def test_no_cell_is_a_formula(first: str) -> None:
    names = ("id", "provider_id", "correlation_id", "error")

    cells = as_cells(a_line(**dict.fromkeys(names, f"{first}1")))

    assert all(cells[name].startswith("'") for name in names)
    assert cells["line"] == "1"


#: Of characters that begin a formula, that part cells or quote them, and of others.
TEXTS = st.text(st.sampled_from("=+-@\t\r\n\0\uff1d\uff0b;,|\"' a1"), max_size=12)


@given(TEXTS, TEXTS, TEXTS)
@example("5;=1+1", "a; +1", 'b;"=cmd"')
@example("a,b;", '=";', ';;"";@x')
def test_no_cell_is_a_formula_where_semicolons_or_tabs_part_cells_either(
    row_id: str, provider_id: str, error: str
) -> None:
    line = a_line(id=row_id, provider_id=provider_id, error=error)
    text = "".join(as_csv([line]))

    for delimiter in ",;\t":
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        assert len(rows) == 2, "a quote swallows what follows"
        assert not [cell for cell in rows[1] if cell.lstrip(' "').startswith(FORMULA)], rows
    assert len(as_cells(line)) == len(COLUMNS)


def test_a_harmless_cell_stays_as_it_is() -> None:
    text = "a-1, 'b' = \"c\" ü; d-1; (e) = 5"

    assert as_cells(a_line(id=text, status=400))["id"] == text
    assert as_cells(a_line(id=text, status=400))["status"] == "400"


def test_no_report_commands_a_terminal() -> None:
    line = a_line(error="a\x1b[2Jb\x9bc\r\nd")

    assert as_cells(line)["error"] == "a\\x1b[2Jb\\x9bc\\x0d\\x0ad"
    (text,) = as_jsonl([line])
    assert text.isascii()
    assert text.removesuffix("\n").isprintable()


def test_the_output_is_readable_by_its_owner_only_and_replaces_an_older_one(
    desk: Desk, tmp_path: Path
) -> None:
    job = desk.accepted("calls", [a_call()])["job"]
    output = tmp_path / "report.csv"
    output.write_text("older")

    result = desk.run("report", job, "--output", output)

    assert (result.exit_code, result.stdout) == (0, "")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert output.read_text().startswith("line,id,state")
    assert {it.name for it in tmp_path.iterdir()} == {
        *(".headgate", "headgate.toml", "rows.jsonl", "report.csv")
    }


def test_a_report_that_fails_half_way_leaves_the_older_one(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.accepted("calls", [a_call()])["job"]
    output = tmp_path / "report.csv"
    output.write_text("older")
    monkeypatch.setattr(Ledger, "transactions", away)

    result = desk.run("report", job, "--output", output)

    assert result.exit_code == 1
    assert output.read_text() == "older"
    assert len([it for it in tmp_path.iterdir() if it.name != ".headgate"]) == 3


def away(*_: object) -> None:
    raise StoreAway("the store did not answer")


@pytest.mark.parametrize("output", ["/dev/null", ".", "missing/report.csv"])
def test_an_output_that_is_no_file_is_refused(
    desk: Desk, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = desk.accepted("calls", [a_call()])["job"]

    result = desk.run("report", job, "--output", output)

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert not os.path.isfile("/dev/null")  # noqa: PTH113 -- it is still the device


@pytest.mark.parametrize("job", ["c-000000000000", "", "x:page:0", "a b", "ü"])
def test_an_unknown_job_is_one_sentence(desk: Desk, job: str) -> None:
    known = desk.accepted("calls", [a_call()])["job"]

    for name in (job, f"{known}:page:0"):
        result = desk.run("report", name)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "`headgate jobs` lists all" in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_submission_that_was_not_finished_is_reported_and_said_so(desk: Desk) -> None:
    ledger = desk.client.ledger
    ledger.begin(a_job("c-half"))
    ledger.accept("c-half", 0, [{"line": 1, "id": "a", "steps": []}], PageCounts(calls=0))

    result = desk.run("report", "c-half")

    assert "c-half was not submitted to its end" in result.stderr
    assert len(result.stdout.splitlines()) == 2
