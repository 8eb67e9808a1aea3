from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from orchestration.dispatch import pages as dispatch_pages
from orchestration.intake import Options, Submission, accept, check
from orchestration.intake.spool import PAGE_BYTES, PAGE_ENTRIES
from orchestration.kinds import find_kind
from tests.support.desk import Desk, a_call
from workers.errors import HeadgateError, NotNow
from workers.ledger.job import JobParams
from workers.ledger.ledger import Ledger

CSV = "id,phone\nk1,12345\nk2,12346\n"
ROOT = Path(__file__).parents[3]

KIND = find_kind("calls")


def headgate(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "orchestration.cli", *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def calls_submission(desk: Desk, count: int) -> Submission[Options]:
    path = desk.file("calls.jsonl", [a_call(f"r{n}") for n in range(count)])
    return Submission(client=desk.client, path=path, lane=1, options=Options())


# What is accepted


def test_every_line_is_a_row_in_the_order_of_the_file_and_counted_once(desk: Desk) -> None:
    lines = [a_call(f"r{n}") for n in range(600)]
    lines[300] = a_call("bad", path="nowhere")
    lines[400] = lines[10]

    answer = desk.accepted("calls", lines)

    assert [row["line"] for row in desk.rows(answer["job"])] == list(range(1, 601))
    expected = {"rows": 600, "rejected": 1, "joined": 1, "calls": 598, "new": True}
    assert {name: answer[name] for name in expected} == expected
    assert set(answer) - expected.keys() == {"job", "client", "kind"}
    job = desk.client.ledger.job(answer["job"])
    assert (job.rows, job.calls, job.rejected, job.ended) == (600, 598, 1, 1)
    assert job.started


def test_an_accepted_job_opens_into_the_line(desk: Desk) -> None:
    lines = [a_call(f"r{n}", lane="bulk", tenant="emea") for n in range(5)]
    job = desk.accepted("calls", [*lines, lines[0], a_call("x", path="")])["job"]

    assert dispatch_pages.open_next_page(desk.client, job)

    ledger = desk.client.ledger
    keys = [desk.client.key(job, f"r{n}") for n in range(5)]
    (flow,) = desk.client.store.hkeys(desk.client.keys.flows)
    assert flow.startswith("2:emea:")
    assert [it.flows for it in ledger.transactions(keys)] == [flow] * 5
    assert ledger.transaction(keys[0]).rows == 2
    assert ledger.job(job).released == 5


def test_contacts_know_their_list_tenant_and_lane(desk: Desk) -> None:
    answer = desk.accepted("contacts", CSV, "--list", "l-1", "--tenant", "emea", "--lane", "9")

    params = desk.client.ledger.job_params(answer["job"])
    assert params == JobParams(kind="contacts", contact_list="l-1", tenant="emea", lane=2)
    assert dispatch_pages.open_next_page(desk.client, answer["job"])


def test_a_page_is_bounded_by_rows_and_by_bytes(desk: Desk) -> None:
    many = [a_call(f"r{n}") for n in range(PAGE_ENTRIES + 1)]
    large = [a_call(f"l{n}", body="x" * (PAGE_BYTES // 3)) for n in range(3)]
    alone = [a_call("alone", body="x" * (PAGE_BYTES + 1))]

    job = desk.accepted("calls", [*many, *large, *alone])["job"]

    ledger = desk.client.ledger
    pages = [ledger.page(job, page) for page in range(ledger.job(job).pages)]
    assert [len(page) for page in pages] == [PAGE_ENTRIES, 3, 1, 1]


def test_a_file_whose_rows_are_all_bad_is_accepted_and_finished(desk: Desk) -> None:
    job = desk.accepted("calls", [a_call(path="x")])["job"]

    assert desk.client.ledger.job(job).finished_us


def test_the_client_may_be_chosen_in_another_configuration(desk: Desk, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(desk.config.read_text().replace("acme", "zenith"))
    path = desk.file("rows.jsonl", [a_call()])

    result = desk.run("submit", "calls", path, "--client", "zenith", "--config", other)

    assert result.exit_code == 0
    assert result.stdout.startswith("c-")
    assert f"headgate watch {result.stdout.strip()}" in result.stderr


# Repeats


def test_a_repeated_row_joins_the_first_and_another_payload_is_rejected(desk: Desk) -> None:
    first = a_call(body={"x": 1, "y": 2})
    lines = [
        a_call(path="bad"),  # no row of this id yet: a rejected one does not claim it
        first,
        first | {"body": {"y": 2, "x": 1}},
        first | {"body": {"x": 1, "y": 3}},
        first | {"lane": "urgent"},
        first,
    ]

    answer = desk.accepted("calls", lines)

    rows = desk.rows(answer["job"])
    assert [row.get("joins") for row in rows] == [None, None, 2, None, None, 2]
    assert [row["error"] for row in rows[3:5]] == [
        f"line {n} has the id of line 2 and another payload" for n in (4, 5)
    ]
    assert (answer["rejected"], answer["joined"], answer["calls"]) == (3, 2, 1)


def test_contacts_without_ids_join_when_they_are_the_same(desk: Desk) -> None:
    answer = desk.accepted("contacts", "a,b\n1,2\n2,1\n1,2\n", "--list", "l")

    assert [row.get("joins") for row in desk.rows(answer["job"])] == [None, None, 2]


def test_the_same_file_again_adds_nothing_and_says_so(desk: Desk) -> None:
    first = desk.accepted("contacts", CSV, "--list", "l")
    before = desk.names()

    second = desk.submit("contacts", CSV, "--list", "l")

    assert second.exit_code == 0
    assert json.loads(second.stdout) == first | {"new": False}
    assert "nothing was added" in second.stderr
    assert first["job"] in second.stderr
    assert desk.names() == before
    assert len(desk.rows(first["job"])) == 2


def test_again_means_it_each_time(desk: Desk) -> None:
    first = desk.accepted("contacts", CSV, "--list", "l")["job"]

    names = [desk.accepted("contacts", CSV, "--list", "l", "--again")["job"] for _ in range(2)]

    assert names == [f"{first}.2", f"{first}.3"]
    assert desk.accepted("contacts", CSV, "--list", "l")["job"] == first


@pytest.mark.parametrize(
    "other",
    [
        ["--list", "m"],
        ["--list", "l", "--id-column", "id"],
        ["--list", "l", "--phone-column", "phone"],
    ],
    ids=lambda it: it[-1],
)
def test_another_way_of_sending_the_same_file_is_another_job(desk: Desk, other: list[str]) -> None:
    first = desk.accepted("contacts", CSV, "--list", "l")["job"]

    second = desk.accepted("contacts", CSV, *other)

    assert second["job"] != first
    assert second["new"]


@pytest.mark.parametrize("other", [["--lane", "bulk"], ["--tenant", "emea"]], ids=lambda it: it[0])
def test_the_same_file_in_another_lane_or_for_another_tenant_adds_nothing_and_says_so(
    desk: Desk, other: list[str]
) -> None:
    first = desk.accepted("contacts", CSV, "--list", "l")["job"]
    before = desk.names(), desk.client.ledger.job(first)

    second = desk.submit("contacts", CSV, "--list", "l", *other)

    assert json.loads(second.stdout)["job"] == first
    assert not json.loads(second.stdout)["new"]
    assert f"as {first} (2 still open); nothing was added or changed, use --again" in second.stderr
    assert (desk.names(), desk.client.ledger.job(first)) == before
    again = desk.accepted("contacts", CSV, "--list", "l", *other, "--again")["job"]
    assert again == f"{first}.2"


def test_one_row_is_not_counted_as_rows(desk: Desk) -> None:
    one = desk.submit("calls", [a_call()]).stderr
    two = desk.submit("calls", [a_call(), a_call("b")]).stderr

    assert one.startswith("rows.jsonl: 1 row, 0 rejected, 0 joined to an earlier one; 1 call, ")
    assert two.startswith("rows.jsonl: 2 rows, 0 rejected, 0 joined to an earlier one; 2 calls, ")


# Refused as a whole


def test_strict_refuses_the_file_before_anything_is_accepted(desk: Desk) -> None:
    good = [a_call(f"r{n}") for n in range(600)]

    result = desk.submit("calls", [*good, a_call("bad", path="x")], "--strict")

    assert result.exit_code == 2
    assert "line 601: the path must begin" in result.stderr
    assert "bad rows: 1 of 601; nothing was accepted" in result.stderr
    assert result.stdout == ""
    assert desk.names() == []
    assert desk.accepted("calls", good, "--strict")["rows"] == 600


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "rows.csv is empty"),
        (b"\xef\xbb\xbf", "rows.csv is empty"),
        (b"id,phone\n", "rows.csv has no rows"),
        (b"id,phone\n\n\n", "rows.csv has no rows"),
        (b"id,name\nk1,x\nk2,M\xfcller\n", "rows.csv, line 3, byte 5: this is not UTF-8"),
        ("id,phone\n".encode("utf-16"), "rows.csv, line 1, byte 1: this is not UTF-8"),
    ],
)
def test_a_file_that_holds_no_contacts_is_refused(desk: Desk, content: bytes, reason: str) -> None:
    result = desk.submit("contacts", content, "--list", "l")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"headgate: {reason}")
    assert result.stderr.count("\n") == 1
    assert desk.names() == []


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", b'{"id":"a"}\n\xff\n'])
def test_a_file_that_holds_no_calls_is_refused(desk: Desk, content: bytes) -> None:
    result = desk.submit("calls", content)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert desk.names() == []


@pytest.mark.parametrize(
    ("args", "code", "reason"),
    [
        (["missing.jsonl", "--client", "acme"], 2, "missing.jsonl cannot be read (No such file"),
        ([".", "--client", "acme"], 2, " is not a file"),
        (["/dev/null", "--client", "acme"], 2, "null is not a file"),
        (["rows.jsonl", "--client", "nobody"], 2, "client 'nobody' is not in the configuration"),
        (["rows.jsonl", "--client", "acme", "--lane", "fast"], 2, "lane 'fast' is unknown"),
        (["rows.jsonl", "--client", "acme", "--tenant", "a:b"], 2, "tenant 'a:b': must be"),
        (["rows.jsonl", "--client", "acme", "--config", "no.toml"], 2, "cannot be read"),
    ],
    ids=lambda it: str(it)[:40],
)
def test_wrong_usage_is_one_sentence_and_leaves_nothing(
    desk: Desk,
    args: list[str],
    code: int,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk.file("rows.jsonl", [a_call()])
    monkeypatch.chdir(tmp_path)

    result = desk.run("submit", "calls", *args)

    assert (result.exit_code, result.stdout) == (code, "")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert desk.names() == []


def test_a_list_that_could_change_the_path_is_refused(desk: Desk) -> None:
    for wrong in ("..", "a/b", "a b", ""):
        result = desk.submit("contacts", CSV, "--list", wrong)
        assert (result.exit_code, result.stdout) == (2, "")


def test_a_client_without_its_secret_is_refused(desk: Desk) -> None:
    desk.configure(
        'token_url = "http://127.0.0.1:9/t"\nclient_id = "x"\nclient_secret_env = "NOT_SET"'
    )

    result = desk.submit("calls", [a_call()])

    assert result.exit_code == 2
    assert "the environment variable NOT_SET is not set" in result.stderr
    assert desk.names() == []


def test_a_tenant_that_is_not_the_clients_is_refused(desk: Desk) -> None:
    desk.configure('idempotency = "key"\n[clients.acme.tenants.emea]')

    assert desk.submit("calls", [a_call()], "--tenant", "apac").exit_code == 2
    assert desk.submit("calls", [a_call()], "--tenant", "emea").exit_code == 0


def test_calls_without_a_guard_are_refused_where_the_store_may_forget_a_second(desk: Desk) -> None:
    desk.configure("")  # a provider that honours no key; the store writes every second
    read_only = [a_call(method="GET"), a_call("b", guard="upsert")]

    refused = desk.submit("calls", [*read_only, a_call("c")])

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "line 3: guard none" in refused.stderr
    assert "store.accept_everysec = true" in refused.stderr
    assert desk.names() == []
    assert desk.accepted("calls", read_only)["rows"] == 2
    desk.configure("", "accept_everysec = true")
    assert desk.accepted("calls", [a_call("c")])["new"]


def test_calls_to_be_looked_up_are_refused_where_the_store_may_forget_a_second(desk: Desk) -> None:
    lookup = {"method": "GET", "path": "/things?name=a", "found": {"status": 200}}
    desk.configure("")
    row = a_call(guard="lookup", lookup=lookup)

    assert "line 1: guard lookup" in desk.submit("calls", [row]).stderr
    desk.configure("", "accept_everysec = true")
    assert desk.accepted("calls", [row])["new"]


def test_a_store_that_is_nearly_full_accepts_nothing(desk: Desk) -> None:
    used = int(desk.store.info("memory")["used_memory"])
    desk.store.config_set("maxmemory", int(used / 0.82))
    try:
        result = desk.submit("calls", [a_call()])
    finally:
        desk.store.config_set("maxmemory", 0)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "raise maxmemory" in result.stderr
    assert desk.names() == []


@pytest.mark.parametrize(("rows", "bytes_a_row"), [(3000, 0), (100, 10_000)])
def test_a_job_that_would_not_fit_when_it_is_open_is_refused_before_anything_is_stored(
    desk: Desk, rows: int, bytes_a_row: int
) -> None:
    lines = [a_call(f"r{n}", body=os.urandom(bytes_a_row // 2).hex()) for n in range(rows)]
    used = int(desk.store.info("memory")["used_memory"])
    desk.store.config_set("maxmemory", int((used + 400_000) / 0.8))
    try:
        refused = desk.submit("calls", lines)
        names = desk.names()
        small = desk.submit("calls", lines[:10])
    finally:
        desk.store.config_set("maxmemory", 0)

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "of the store's memory, of which nothing above 80% is given" in refused.stderr
    assert names == []
    assert small.exit_code == 0
    assert desk.accepted("calls", lines)["rows"] == rows


def test_a_store_that_is_away_is_one_sentence(desk: Desk) -> None:
    url = "redis://127.0.0.1:9/0"
    desk.config.write_text(f'[store]\nurl = "{url}"\n[clients.acme]\nbase_url = "http://x"\n')

    result = desk.submit("calls", [a_call()])

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("headgate: the store did not answer")


def test_a_full_temporary_folder_is_one_sentence(desk: Desk) -> None:
    submission = calls_submission(desk, 2000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with (
            pytest.raises(HeadgateError, match="temporary files cannot be written"),
            check(KIND, submission),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert desk.names() == []


# Dry run


def test_a_dry_run_says_how_long_and_touches_nothing(desk: Desk) -> None:
    bad = [a_call(f"b{n}", path="x") for n in range(25)]
    lines = [*bad, *(a_call(f"r{n}") for n in range(1800))]

    result = desk.submit("calls", lines, "--dry-run")

    answer = json.loads(result.stdout)
    assert (answer["rows"], answer["rejected"], answer["calls"]) == (1825, 25, 1800)
    assert (answer["dry_run"], answer["duration_s"], answer["new"]) == (True, 10.0, True)
    assert "about 10 s at the governed rate" in result.stderr
    assert result.stderr.count("the path must begin") == 20
    assert "and 5 more" in result.stderr
    assert desk.names() == []
    assert desk.accepted("calls", lines)["job"] == answer["job"]


def test_the_slowest_limit_decides_how_long_it_takes(desk: Desk) -> None:
    desk.configure(
        'idempotency = "key"\n[[clients.acme.limits]]\nname = "start"\ncount = 10\n'
        'match = "POST */start"'
    )
    lines = [a_call(f"r{n}") for n in range(100)]
    starts = [a_call(f"s{n}", path="/c/1/start") for n in range(90)]

    answer = desk.accepted("calls", [*lines, *starts], "--dry-run")

    assert answer["duration_s"] == 10.0  # 90 at 9/s; all 190 together pass within 2 s


# Crashes


@pytest.mark.parametrize("again", [[], ["--again"]])
def test_a_killed_submission_goes_on_without_a_missing_or_doubled_row(
    desk: Desk, again: list[str]
) -> None:
    lines = [a_call(f"r{n}") for n in range(6 * PAGE_ENTRIES)]
    path = desk.file("rows.jsonl", lines)
    args = ("submit", "calls", path, "--client", "acme")

    killed = headgate(*args, HEADGATE_FAILPOINT="accepted:kill:3")

    assert killed.returncode == -9
    (job,) = map(str, desk.store.zrange(desk.client.keys.jobs, 0, -1))
    half = desk.client.ledger.job(job)
    assert (half.pages, half.started) == (3, False)
    assert not desk.store.exists(desk.client.keys.needs_page)  # nothing of it can be sent

    answer = desk.accepted("calls", lines, *again)

    assert answer["job"] == job
    assert answer["new"]
    assert [row["id"] for row in desk.rows(job)] == [line["id"] for line in lines]
    whole = desk.client.ledger.job(job)
    assert (whole.rows, whole.calls, whole.started) == (1500, 1500, True)


def test_half_a_job_never_gets_rows_of_another_reading(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [a_call(f"r{n}", tenant="emea" if n % 2 else "apac") for n in range(3 * PAGE_ENTRIES)]
    whole = Ledger.accept
    monkeypatch.setattr(Ledger, "accept", dies_at(1, whole))
    with pytest.raises(Killed):
        desk.submit("calls", lines)
    monkeypatch.setattr(Ledger, "accept", whole)

    desk.configure('idempotency = "key"\n[clients.acme.tenants.emea]')
    refused = desk.submit("calls", lines)

    assert refused.exit_code == 2
    assert "or --again to begin anew" in refused.stderr
    anew = desk.accepted("calls", lines, "--again")
    assert anew["job"].endswith(".2")
    assert anew["rejected"] == 375
    assert desk.accepted("calls", lines) == anew | {"new": False}


def test_half_a_job_never_goes_on_in_another_lane(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [a_call(f"r{n}") for n in range(3 * PAGE_ENTRIES)]
    whole = Ledger.accept
    monkeypatch.setattr(Ledger, "accept", dies_at(1, whole))
    with pytest.raises(Killed):
        desk.submit("calls", lines, "--lane", "bulk")
    monkeypatch.setattr(Ledger, "accept", whole)

    refused = desk.submit("calls", lines, "--lane", "urgent")
    job = desk.accepted("calls", lines, "--lane", "bulk")["job"]

    assert refused.exit_code == 2
    assert f"{job} was not finished, and had another lane" in refused.stderr
    assert desk.client.ledger.job_params(job).lane == 2


class Killed(BaseException):
    """Nothing of ours catches it."""


def dies_at(page: int, accept: Any) -> Any:
    """`Ledger.accept` until this page."""

    def dying(ledger: Ledger, job: str, number: int, *args: Any, **counts: int) -> int:
        if number == page:
            raise Killed
        pages: int = accept(ledger, job, number, *args, **counts)
        return pages

    return dying


def test_a_store_that_rolled_back_is_noticed_and_the_job_stays_shut(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = calls_submission(desk, 4 * PAGE_ENTRIES)
    whole = Ledger.accept

    def forgetful(ledger: Ledger, job: str, number: int, *args: Any, **counts: Any) -> int:
        if number == 2:
            desk.store.hset(desk.client.keys.job(job), mapping={"pages": 1, "rows": PAGE_ENTRIES})
        return whole(ledger, job, number, *args, **counts)

    with check(KIND, submission) as checked:
        monkeypatch.setattr(Ledger, "accept", forgetful)
        with pytest.raises(NotNow, match="the store lost pages of"):
            accept(KIND, submission, checked)
        monkeypatch.setattr(Ledger, "accept", whole)
        assert not desk.client.ledger.job(checked.job).started

        job = accept(KIND, submission, checked).job

    assert len(desk.rows(job)) == 4 * PAGE_ENTRIES


def test_two_submissions_of_one_file_at_once_make_one_job(desk: Desk) -> None:
    path = desk.file("rows.jsonl", [a_call(f"r{n}") for n in range(8 * PAGE_ENTRIES)])
    command = [sys.executable, "-m", "orchestration.cli", "submit", "calls", str(path)]
    both = [
        subprocess.Popen(
            [*command, "--client", "acme"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]

    jobs_named = {it.communicate(timeout=60)[0].strip() for it in both}

    assert [it.returncode for it in both] == [0, 0]
    (job,) = jobs_named
    assert [row["id"] for row in desk.rows(job)] == [f"r{n}" for n in range(8 * PAGE_ENTRIES)]
    assert desk.client.ledger.job(job).rows == 8 * PAGE_ENTRIES


def test_a_tenant_with_credentials_of_its_own_sends_through_its_own_client(desk: Desk) -> None:
    text = desk.config.read_text()
    own = '[clients.acme.tenants.apac]\nclient = "apac"\n[clients.apac]\nidempotency = "key"\n'
    desk.config.write_text(f'{text}{own}base_url = "http://127.0.0.1:9"\n')

    whole = desk.accepted("calls", [a_call("r1")], "--tenant", "apac")
    mixed = desk.accepted("calls", [a_call("r1"), a_call("r2", tenant="apac")])

    assert (whole["client"], whole["rejected"]) == ("apac", 0)
    assert (mixed["client"], mixed["rejected"]) == ("acme", 1)


def test_a_file_of_the_longest_lines_is_checked_and_accepted_in_little_memory(desk: Desk) -> None:
    path = desk.file(
        "rows.jsonl", [a_call(f"r{number}", body="a" * 500_000) for number in range(24)]
    )
    tracemalloc.start()
    result = desk.run("submit", "calls", path, "--client", "acme", "--json")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert result.exit_code == 0, result.stderr
    assert most < 8_000_000  # the file has 12 MB
