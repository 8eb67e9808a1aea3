"""The reference page of the sandbox states what the code has, and each of its examples is true."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shlex
import typing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import requests
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from orchestration.sandbox import SandboxProcess
from orchestration.sandbox.__main__ import _build_parser
from orchestration.sandbox.calls import CONTROL_PREFIX, Call, ReplyKind
from orchestration.sandbox.config import Config, Fault, FaultKind, Limit, Storm, When
from orchestration.sandbox.faults import KINDS_WITH_EFFECT
from orchestration.sandbox.journal import JournalEntry, build_report
from orchestration.sandbox.oauth import OPEN_PATHS
from orchestration.sandbox.platforms import Platforms
from orchestration.sandbox.servers.control import ORDERS_BY_NAME, READS_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs/reference/sandbox.md"
#: What the page writes where a default has no JSON of its own.
WORDS: dict[str, list[object]] = {
    "none": [None],
    "empty": [""],
    "required": [dataclasses.MISSING],
    "every call": [When()],
    "see above": [None],
    "`count`": [None],
}
#: The tables of fields: the heading above it, its first column, and the dataclass.
FIELDS: list[tuple[str, str, type]] = [
    ("Configuration", "field", Config),
    ("Limits", "field", Limit),
    ("Faults", "field", Fault),
    ("Faults", "condition", When),
    ("Storms", "field", Storm),
]
#: Short waits, so that a fault is over at once.
QUICK = {"hang_s": 0.02, "slow_s": 0.02, "size_mb": 0.001}


@cache
def sections() -> dict[str, str]:
    """The page's text by its headings of the second level."""
    parts = re.split(r"^## (.+)\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str, first_column: str) -> list[list[str]]:
    """The rows of all tables of a section whose first column has this title."""
    body_rows: list[list[str]] = []
    for table in re.findall(r"(?:^\|.*\n)+", sections()[section], re.MULTILINE):
        title, _, *body = [
            [text.strip() for text in row.strip().strip("|").split("|")]
            for row in table.splitlines()
        ]
        if title[0].strip("`") == first_column:
            body_rows += body
    assert body_rows, f"{section} has no table of {first_column}"
    return body_rows


def names(text: str) -> list[str]:
    return re.findall(r"`(.+?)`", text)


def named(section: str, first_column: str) -> list[str]:
    """All names in the first column of a section's tables."""
    return [name for row in rows(section, first_column) for name in names(row[0])]


def default_of(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def is_default(stated: str, default: object) -> bool:
    """Tell whether a table states this default."""
    if stated in WORDS:
        return default in WORDS[stated]
    text = stated.strip("`")
    if isinstance(default, str):
        return text == default
    return bool(json.loads(text) == (list(default) if isinstance(default, tuple) else default))


@pytest.mark.parametrize(("section", "column", "cls"), FIELDS)
def test_the_page_states_each_field_that_exists_and_no_other_with_its_default(
    section: str, column: str, cls: type
) -> None:
    stated = {names(row[0])[0]: row[1] for row in rows(section, column)}
    fields = {field.name: field for field in dataclasses.fields(cls)}

    assert stated.keys() == fields.keys()
    for name, default in stated.items():
        assert is_default(default, default_of(fields[name])), name


@pytest.mark.parametrize(("section", "column", "cls"), FIELDS)
def test_the_page_names_each_choice_of_a_field(section: str, column: str, cls: type) -> None:
    hints = typing.get_type_hints(cls)
    for row in rows(section, column):
        (name,) = names(row[0])
        if name != "kind" and typing.get_origin(hints[name]) is Literal:
            choices = set(typing.get_args(hints[name]))
            assert choices <= set(names(row[2])), name


def test_the_page_lists_each_kind_of_fault_with_whether_the_call_has_its_effect() -> None:
    listed = {names(row[0])[0]: row[2] for row in rows("Faults", "kind")}

    assert listed == {
        kind: "yes" if kind in KINDS_WITH_EFFECT else "no" for kind in typing.get_args(FaultKind)
    }


def test_each_field_of_one_kind_of_fault_is_listed_with_a_kind() -> None:
    listed = {name for row in rows("Faults", "kind") for name in names(row[4])}

    common = {"kind", "match", "when", "times", "per_business_id_times", "seed"}
    assert listed | common == {field.name for field in dataclasses.fields(Fault)}


@pytest.mark.parametrize("kind", typing.get_args(FaultKind))
def test_a_fault_does_what_its_row_says(
    sandbox: SandboxProcess, http: requests.Session, kind: str
) -> None:
    (row,) = [row for row in rows("Faults", "kind") if names(row[0]) == [kind]]
    fields = {name: QUICK[name] for name in names(row[4]) if name in QUICK}
    sandbox.post("faults", [{"kind": kind, "times": 1, **fields}])

    status = "closed"
    broken = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
    with contextlib.suppress(*broken):
        answer = http.post(f"{sandbox.url}/orders", timeout=10, allow_redirects=False)
        status = {201: "success"}.get(answer.status_code, str(answer.status_code))

    assert [status, "yes" if sandbox.get("counts")["effects"] else "no"] == row[1:3]


def test_the_page_lists_each_control_call_and_each_option() -> None:
    calls = [f"GET {CONTROL_PREFIX}{name}" for name in READS_BY_NAME]
    calls += [f"POST {CONTROL_PREFIX}{name}" for name in ORDERS_BY_NAME]
    options = {
        option: action
        for action in _build_parser()._actions
        for option in action.option_strings
        if option not in {"-h", "--help"}
    }

    assert sorted(named("Control API", "call")) == sorted(calls)
    stated = {names(row[0])[0]: row[1].strip("`") for row in rows("Start it", "option")}
    assert stated == {
        option: "required" if action.required else str(action.default).lower()
        for option, action in options.items()
    }


def test_the_page_lists_what_the_report_and_the_journal_hold() -> None:
    limit = Limit(name="l", count=1, window_s=1, other_share=0.5)
    report = build_report([], [limit], {})
    windows, transfers = report["windows"][0], report["transfers"]

    assert sorted(named("Report", "field")) == sorted([*report, *windows])
    (row,) = [row for row in rows("Report", "field") if names(row[0]) == ["transfers"]]
    assert names(row[1]) == list(transfers)
    assert sorted(named("Journal", "field")) == sorted(JournalEntry._fields)
    assert sorted(named("Journal", "kind")) == sorted(typing.get_args(ReplyKind))


def test_each_call_that_the_page_lists_for_a_platform_is_known_to_it() -> None:
    platforms = Platforms(0)
    paths = set()
    for call in named("What it knows", "call"):
        method, _, path = call.partition(" ")
        paths.add(path)
        start = RequestStartLine(method, path, "HTTP/1.1")
        request = HTTPServerRequest(start_line=start, headers=HTTPHeaders(Host="sandbox"))
        operation = platforms.genesys.operation(Call(request, Config(), 0, path))
        assert (operation is not None) != (path in OPEN_PATHS), call

    assert paths >= OPEN_PATHS


def blocks() -> list[list[str]]:
    """The page's shell examples, each with its commands."""
    fences = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [fence.splitlines() for fence in fences]


def send(command: str, url: str) -> requests.Response:
    """Send what a curl command would send, to the sandbox at `url`."""
    words = iter(shlex.split(command.replace("http://127.0.0.1:8080", url)))
    assert next(words) == "curl"
    headers, method, data, auth, target = {}, "", None, None, ""
    for word in words:
        match word:
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-X":
                method = next(words)
            case "-d":
                data = next(words)
                headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
            case "-u":
                user, _, password = next(words).partition(":")
                auth = (user, password)
            case _:
                target = word
    method = method or ("GET" if data is None else "POST")
    return requests.request(method, target, data=data, headers=headers, auth=auth, timeout=10)


@pytest.fixture(scope="module")
def example_sandbox() -> Iterator[SandboxProcess]:
    """A sandbox that is started as the page says, at a port of its own."""
    (start,) = blocks()[0]
    words = shlex.split(start)
    assert words[:2] == ["headgate", "sandbox"]
    with SandboxProcess(json.loads(words[words.index("--config") + 1])) as sandbox:
        yield sandbox


def test_each_example_of_the_page_gets_the_status_it_says(example_sandbox: SandboxProcess) -> None:
    first, *others = blocks()[1:]

    def run(commands: list[str]) -> None:
        for command in commands:
            text, _, status = command.partition("  # ")
            answer = send(text, example_sandbox.url)
            assert answer.status_code == int(status or 200), (command, answer.text)

    run(first)
    report = example_sandbox.get("report")
    (sentence,) = re.findall(r"^The report then counts .*", PAGE.read_text("utf-8"), re.MULTILINE)
    counts = {name: int(count) for name, count in re.findall(r"`(\w+)` (\d+)", sentence)}
    assert counts == {name: report[name] for name in counts}
    assert len(counts) == 3
    for block in others:
        run(block)
