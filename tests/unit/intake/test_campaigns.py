"""Campaigns are checked with their contacts, and accepted with them or not at all."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.intake.readers.campaigns import MODES
from orchestration.views.progress import all_jobs
from tasks.genesys.campaigns import child_of
from tasks.genesys.operations import OPERATIONS

if TYPE_CHECKING:
    from click.testing import Result

    from tests.support.desk import Desk

PHONES = [{"columnName": "phone", "type": "cell"}]
FULL = {
    "queue": {"id": "q"},
    "script": {"id": "s"},
    "site": {"id": "e"},
    "callAnalysisResponseSet": {"id": "r"},
    "abandonRate": 3.0,
    "outboundLineCount": 5,
}


@pytest.fixture(autouse=True)
def settled(desk: Desk) -> None:
    """Look-ups rest on what the store remembers, and the tests' server may lose a second."""
    desk.configure(store="accept_everysec = true")


def a_campaign(**fields: Any) -> dict[str, Any]:
    """A good campaign in mode agentless, with these fields; None leaves one out."""
    it = {
        "name": "May",
        "dialingMode": "agentless",
        "callerName": "Acme",
        "callerAddress": "+15550100",
        "phoneColumns": PHONES,
        **{name: FULL[name] for name in ("site", "callAnalysisResponseSet", "outboundLineCount")},
        **fields,
    }
    return {name: value for name, value in it.items() if value is not None}


def a_row(row_id: str = "may", campaign: Any = None, **fields: Any) -> dict[str, Any]:
    """A good definition with these fields."""
    campaign = a_campaign() if campaign is None else campaign
    return {"id": row_id, "contacts": "may.csv", "id_column": "id", "campaign": campaign, **fields}


def some_contacts(desk: Desk, count: int = 3, name: str = "may.csv", more: str = "") -> Path:
    lines = "".join(f"k{n},+1555010{n:04}\n" for n in range(count))
    return desk.file(name, f"id,phone\n{lines}{more}")


def submit(desk: Desk, rows: list[Any], *args: object) -> Result:
    file = desk.file("campaigns.jsonl", rows)
    return desk.run("submit", "campaigns", file, "--client", "acme", "--json", *args)


def answer(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def reasons(desk: Desk, *rows: Any) -> list[str]:
    """Why each of these rows is rejected."""
    job = answer(submit(desk, list(rows)))["job"]
    return [row.get("error", "") for row in desk.rows(job)]


def test_a_campaign_is_accepted_with_its_contacts_in_a_job_that_waits(desk: Desk) -> None:
    some_contacts(desk)

    it = answer(submit(desk, [a_row()]))

    child = child_of(desk.client.key(it["job"], "may"))
    by_name = {one.job: one for one in all_jobs(desk.client)}
    assert by_name.keys() == {it["job"], child}
    assert (by_name[it["job"]].state, by_name[it["job"]].rows) == ("running", 1)
    assert (by_name[child].state, by_name[child].rows) == ("waiting", 3)
    assert (by_name[child].name, by_name[child].of) == ("may.csv", (it["job"], "may"))
    calls = desk.client.ledger.job(child).calls
    assert it["contacts"] == {"rows": 3, "rejected": 0, "joined": 0, "calls": calls}
    assert it["calls"] == calls + 3  # the contacts', and list, campaign, start
    assert desk.rows(child)[0]["data"]["phone"] == "+15550100000"


def test_without_a_start_a_campaign_makes_one_call_less_and_is_the_same_job(desk: Desk) -> None:
    some_contacts(desk)

    it = answer(submit(desk, [a_row()], "--no-start", "--dry-run"))

    assert it["calls"] == it["contacts"]["calls"] + 2
    assert it["job"] == answer(submit(desk, [a_row()], "--dry-run"))["job"]


def test_name_columns_and_phone_columns_of_the_list_come_from_campaign_and_csv(desk: Desk) -> None:
    some_contacts(desk)

    (row,) = desk.rows(answer(submit(desk, [a_row()]))["job"])

    assert row["list"] == {"name": "May", "columnNames": ["id", "phone"], "phoneColumns": PHONES}


def test_phone_columns_of_the_list_are_the_campaigns_too_and_options_pass(desk: Desk) -> None:
    some_contacts(desk)
    own = {"name": "Callers", "phoneColumns": PHONES, "automaticTimeZoneMapping": True}

    job = answer(submit(desk, [a_row(campaign=a_campaign(phoneColumns=None), list=own)]))["job"]

    (row,) = desk.rows(job)
    assert row["campaign"]["phoneColumns"] == PHONES
    assert row["list"] == {**own, "columnNames": ["id", "phone"]}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_is_taken_with_its_fields_and_refused_without_any_of_them(
    desk: Desk, mode: str
) -> None:
    some_contacts(desk)
    needed = [*MODES[mode], *(["site"] if mode != "preview" else [])]
    whole = a_campaign(dialingMode=mode, **FULL)
    rows = [a_row("whole", whole)]
    rows += [a_row(f"no-{it}", {**whole, it: None}) for it in needed]

    whole_reason, *others = reasons(desk, *rows)

    assert whole_reason == ""
    for name, why in zip(needed, others, strict=True):
        said = "edgeGroup or site" if name == "site" else name
        assert why == f"campaign, {said}: is needed for dialingMode {mode}; add it"


BAD = {
    "campaign: must be a JSON object": a_row(campaign="May"),
    "campaign, dialingMode: must be one of agentless, preview, ": a_row(
        campaign=a_campaign(dialingMode="auto")
    ),
    "campaign, name: must be text on one line": a_row(campaign=a_campaign(name=" ")),
    "campaign, callerAddress: must be text": a_row(campaign=a_campaign(callerAddress=1)),
    "campaign, site: must be {": a_row(campaign=a_campaign(site="Berlin")),
    "campaign, id: is set by Headgate": a_row(campaign=a_campaign(id="c1")),
    "campaign, outboundLineCount: must be a whole number": a_row(
        campaign=a_campaign(outboundLineCount="5")
    ),
    "campaign, phoneColumns: must be a list such as": a_row(campaign=a_campaign(phoneColumns=[])),
    "campaign, phoneColumns: may.csv has no column tel; there are id, phone": a_row(
        campaign=a_campaign(phoneColumns=[{"columnName": "tel", "type": "cell"}])
    ),
    "campaign, phoneColumns, type: must be text": a_row(
        campaign=a_campaign(phoneColumns=[{"columnName": "phone"}])
    ),
    "list, columnNames: does not name column phone of may.csv": a_row(list={"columnNames": ["id"]}),
    "list, columnNames: must be a list of names": a_row(list={"columnNames": ["id", "phone", 5]}),
    "list: must be a JSON object": a_row(list=[]),
    "may_fail: must be a whole number": a_row(may_fail=-1),
    "contacts: must be the path of a CSV": a_row(contacts=""),
    "contacts: gone.csv cannot be read (No such file": a_row(contacts="gone.csv"),
    "contacts: folder is not a file": a_row(contacts="folder"),
    "contacts: may.csv, line 1: there is no column customer for the id": a_row(
        id_column="customer"
    ),
    "contacts: bad.csv holds no good contact (line 2: column phone: is empty)": a_row(
        contacts="bad.csv"
    ),
    "phone: unknown field": a_row(phone="x"),
    "lane: must be urgent": a_row(lane="fast"),
    "id: must be text": a_row(row_id=""),
}


def test_a_bad_definition_is_a_rejected_row_that_names_field_and_reason(desk: Desk) -> None:
    some_contacts(desk)
    desk.file("bad.csv", "id,phone\nk1,\n")
    (desk.folder / "folder").mkdir()

    found = reasons(desk, a_row("good"), *BAD.values())

    assert found[0] == ""
    for why, said in zip(found[1:], BAD, strict=True):
        assert why.startswith(said), (why, said)


def test_other_contacts_make_it_another_job_and_the_same_the_same(desk: Desk) -> None:
    some_contacts(desk)
    first = answer(submit(desk, [a_row()]))

    again = answer(submit(desk, [a_row()]))
    some_contacts(desk, 4)
    other = answer(submit(desk, [a_row()]))

    assert (again["job"], again["new"]) == (first["job"], False)
    assert other["new"]
    assert other["job"] != first["job"]


def test_meant_again_it_has_contacts_of_its_own(desk: Desk) -> None:
    some_contacts(desk)
    submit(desk, [a_row()])

    answer(submit(desk, [a_row()], "--again"))

    assert sum(it.kind == "contacts" for it in all_jobs(desk.client)) == 2


def test_bad_contacts_are_told_with_their_file_and_strict_refuses_them(desk: Desk) -> None:
    some_contacts(desk, more="k9,\n")

    refused = submit(desk, [a_row()], "--strict")
    taken = submit(desk, [a_row()])

    said = "may.csv: 1 of 4 contacts rejected, the first in line 5: column phone: is empty"
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert said in taken.stderr
    assert "1 row, 0 rejected" in taken.stderr
    assert "with 4 contacts, 1 rejected" in taken.stderr


def test_of_two_phone_columns_one_may_be_empty(desk: Desk) -> None:
    desk.file("may.csv", "id,home,work\nk1,+15550100001,\n")
    both = [{"columnName": it, "type": it} for it in ("home", "work")]

    it = answer(submit(desk, [a_row(campaign=a_campaign(phoneColumns=both))]))

    assert it["contacts"]["rejected"] == 0


def test_a_csv_that_changes_between_the_two_readings_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_contacts(desk)
    begin = type(desk.client.ledger).begin

    def changing(*args: Any) -> Any:
        some_contacts(desk, 4)
        return begin(*args)

    monkeypatch.setattr(type(desk.client.ledger), "begin", changing)

    result = submit(desk, [a_row()])

    assert result.exit_code == 2
    assert "may.csv changed while it was submitted; nothing was sent" in result.stderr
    (job,) = all_jobs(desk.client)
    assert job.state == "accepting"


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_submit_that_is_killed_goes_on_and_no_work_began_before(desk: Desk, nth: int) -> None:
    some_contacts(desk, 300)
    some_contacts(desk, name="june.csv")
    file = desk.file("campaigns.jsonl", [a_row(), a_row("june", contacts="june.csv")])
    command = ["submit", "campaigns", str(file), "--client", "acme", "--json"]
    killed = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", *command],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "HEADGATE_FAILPOINT": f"accepted:kill:{nth}"},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert all(it.state in {"accepting", "waiting"} for it in all_jobs(desk.client))

    it = answer(desk.run(*command))

    jobs = {one.kind: one for one in all_jobs(desk.client) if one.job == it["job"]}
    assert jobs["campaigns"].state == "running"
    children = [one for one in all_jobs(desk.client) if one.kind == "contacts"]
    assert sorted(one.rows for one in children) == [3, 300]
    assert {one.state for one in children} == {"waiting"}


def test_neither_memory_nor_files_are_kept_for_a_campaign_that_was_read(desk: Desk) -> None:
    rows = []
    for n in range(30):
        some_contacts(desk, 5, f"{n}.csv", f"x{n},+15550199999\n")
        rows.append(a_row(f"c{n}", contacts=f"{n}.csv"))
    before = len(list(Path("/proc/self/fd").iterdir()))

    it = answer(submit(desk, rows))

    assert it["contacts"]["rows"] == 180
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    (row,) = [row for row in desk.rows(it["job"]) if row["id"] == "c7"]
    assert "data" not in json.dumps(row)


@pytest.mark.parametrize("profile", ["nice", "nice-guide"])
def test_for_a_nice_client_it_is_one_sentence_that_it_is_not_built_yet(
    desk: Desk, profile: str
) -> None:
    desk.configure(f'provider = "{profile}"', "accept_everysec = true")

    result = submit(desk, [a_row()])

    assert result.exit_code == 2
    assert result.stderr == (
        "headgate: client acme is one of NICE CXone, for which `submit campaigns` is not built "
        "yet; its requests go with `submit calls`\n"
    )


def test_a_waiting_job_of_contacts_says_for_whom_it_waits(desk: Desk) -> None:
    some_contacts(desk)
    it = answer(submit(desk, [a_row()]))
    child = child_of(desk.client.key(it["job"], "may"))

    listed, reported = desk.run("jobs").stdout, desk.run("report", child)

    assert f"(may.csv of campaign may in {it['job']})" in listed
    assert "waiting" in listed
    assert f"which campaign may of job {it['job']} makes first" in reported.stderr
    assert reported.stdout.count("waiting") == 3


PAGES = Path(__file__).parents[3] / "docs"
DOCS = (PAGES / "how-to/genesys.md").read_text("utf-8")
OPERATIONS_PAGE = (PAGES / "reference/genesys-operations.md").read_text("utf-8")


def test_the_definition_in_the_docs_is_accepted_as_it_stands(desk: Desk) -> None:
    desk.file("may.csv", "customer,phone\nk1,+15550100001\n")
    (shown,) = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)

    it = answer(submit(desk, [json.loads(shown)]))

    assert (it["rows"], it["rejected"]) == (1, 0)


def test_the_docs_name_each_operation_with_its_permission_and_how_sure_it_is() -> None:
    for name, it in OPERATIONS.items():
        line = f"| {name} | `{it.route}` | `{it.permission}` | `{it.mark}` | "
        (found,) = [one for one in OPERATIONS_PAGE.splitlines() if line in one]
        assert found.endswith(f" | `{it.guard_mark}` |")


@pytest.mark.parametrize("mode", MODES)
def test_the_docs_name_what_each_mode_needs(mode: str) -> None:
    (line,) = [it for it in DOCS.splitlines() if it.startswith("| `") and f"`{mode}`" in it]

    assert {it for it in FULL if f"`{it}`" in line} - {"site"} == set(MODES[mode])
    assert ("`site`" in line) == (mode != "preview")
