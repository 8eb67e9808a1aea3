"""Contacts share calls: how many, in which order, and what becomes of the rows between them."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestration.dispatch import pages
from orchestration.kinds import find_kind
from orchestration.views.invariants import check_ledger, keys_are_derived
from orchestration.views.pages import rows_of_page
from orchestration.views.progress import all_jobs
from tasks.steps.detours import split
from tests.support.desk import reported
from workers.answer.guards import Memo, NextCall
from workers.answer.outcome import Outcome
from workers.answer.verdict import Finish, Requeue, Verdict
from workers.governor.grants import Grant, MustSplit
from workers.ledger.batch import Place, halves, part_of, rows_of
from workers.ledger.ledger import Ledger

if TYPE_CHECKING:
    from tests.support.desk import Desk
    from workers.ledger.job import Job
    from workers.ledger.ledger import Row

CONTACTS = find_kind("contacts").steps
REFUSED = Requeue(
    outcome=Outcome.NOT_EXECUTED, attempt=True, status=400, memo=Memo(next=NextCall.SPLIT)
)


def csv(*cells: str) -> str:
    return "id,note\n" + "".join(f"{it}\n" for it in cells)


def accepted(desk: Desk, content: str, *args: object) -> dict[str, Any]:
    columns = ("--list", "list-1", "--id-column", "id")
    return desk.accepted("contacts", content, *columns, *args)


def entries(desk: Desk, job: str) -> list[list[Row]]:
    """The entries of each page."""
    ledger = desk.client.ledger
    return [ledger.page(job, page) for page in range(ledger.job(job).pages)]


def body(desk: Desk, job: str, entry: Row) -> bytes:
    grant = Grant(
        "key", 1, "1", 0.0, 0, job, Place(0, 0), 0, unknown=False, throttled=0, answers=[]
    )
    sent = CONTACTS.request(entry, desk.client.ledger.job_params(job), grant).body
    assert sent is not None
    return sent


def test_as_many_contacts_share_a_call_as_the_platform_takes(desk: Desk) -> None:
    answer = accepted(desk, csv(*(f"c{n},x" for n in range(2500))))

    (page,) = entries(desk, answer["job"])
    assert [len(rows_of(it)) for it in page] == [1000, 1000, 500]
    assert (answer["rows"], answer["calls"]) == (2500, 3)
    assert [it["id"] for it in json.loads(body(desk, answer["job"], page[2]))] == [
        f"c{n}" for n in range(2000, 2500)
    ]


@pytest.mark.parametrize("note", ["x" * 700, "ö" * 999, '"" \\'])
def test_no_body_is_larger_than_the_platform_takes_and_none_could_hold_one_more(
    desk: Desk, note: str
) -> None:
    job = accepted(desk, csv(*(f'c{n},"{note}{n}"' for n in range(3000))))["job"]

    found = [it for page in entries(desk, job) for it in page]
    sizes = [len(body(desk, job, it)) for it in found]
    assert max(sizes) <= 512_000
    assert sum(len(rows_of(it)) for it in found) == 3000
    for size, entry, after in zip(sizes, found, found[1:], strict=False):
        one_more = CONTACTS.size(rows_of(after)[0], desk.client.ledger.job_params(job))
        assert len(rows_of(entry)) == 1000 or size + one_more > 512_000


@pytest.mark.parametrize(("size", "calls"), [(1, 10), (3, 4), (10, 1)])
def test_fewer_contacts_may_share_a_call(desk: Desk, size: int, calls: int) -> None:
    answer = accepted(desk, csv(*(f"c{n},x" for n in range(10))), "--batch-size", size)

    assert answer["calls"] == calls


@pytest.mark.parametrize("size", [0, 1001])
def test_more_than_the_platform_takes_is_refused_as_wrong_usage(desk: Desk, size: int) -> None:
    result = desk.submit("contacts", csv("c1,x"), "--list", "l", "--batch-size", size)

    assert result.exit_code == 2
    assert "1<=x<=1000" in result.stderr


def test_the_batch_size_makes_no_other_job_of_a_file(desk: Desk) -> None:
    content = csv("c1,x", "c2,x")

    first, second = accepted(desk, content), accepted(desk, content, "--batch-size", 1)

    assert (second["job"], second["new"]) == (first["job"], False)


def test_rows_that_are_not_sent_keep_their_place_in_the_report(desk: Desk) -> None:
    cells = [f"c{n},x" for n in range(30)]
    cells[3], cells[11], cells[25] = "bad id!,x", "c2,x", "c10,x"
    job = accepted(desk, csv(*cells), "--batch-size", 8)["job"]

    lines = reported(desk, job)

    assert [it["line"] for it in lines] == list(range(2, 32))
    assert [it["state"] for it in lines if it["line"] == 5] == ["rejected"]
    key = {it["line"]: it["key"] for it in lines}
    assert key[13] == key[4] == key[2]  # both c2
    assert key[27] == key[12] != key[2]  # both c10


def test_a_repeated_contact_joins_the_batch_of_the_first(desk: Desk) -> None:
    content = csv(*(f"c{n},x" for n in range(5)), "c3,x", "c3,other", "c3,x")
    answer = accepted(desk, content, "--batch-size", 4)

    assert (answer["joined"], answer["rejected"], answer["calls"]) == (2, 1, 2)
    assert pages.open_next_page(desk.client, answer["job"])
    ledger = desk.client.ledger
    tx = ledger.transaction(desk.client.key(answer["job"], "c0"))
    assert (tx.rows, tx.repeats) == (6, {3: 2})


def test_the_batches_cover_every_row_once_whatever_stands_between(desk: Desk) -> None:
    cells = [f"c{n % 700},{n % 700}" if n % 7 else "no id,x" for n in range(2000)]
    answer = accepted(desk, csv(*cells), "--batch-size", 9)

    told = [
        it.row["line"]
        for page in entries(desk, answer["job"])
        for it in rows_of_page(desk.client, answer["job"], page)
    ]
    assert answer["rejected"] == 286
    assert len(told) == len(set(told)) == 2000 - 286


def test_halves_of_halves_cover_a_batch() -> None:
    rows = [{"line": n + 2, "id": f"c{n}", "data": {}} for n in range(11)]
    entry = {"line": 2, "id": "c0", "rows": rows}

    def leaves(place: Place) -> list[str]:
        part = part_of(entry, place)
        if len(rows_of(part)) == 1:
            return [part["id"]]
        assert part["rows"][0]["line"] == part["line"]
        return [it for half in halves(place, len(part["rows"])) for it in leaves(half)]

    assert leaves(Place(0, 4)) == [f"c0/{n}-{n + 1}" for n in range(11)]
    assert str(halves(Place(0, 4), 11)[1]) == "0:4:5:11"
    assert Place.read("0:4:5:11") == Place(0, 4, 5, 11)


def judged(desk: Desk, job: str, verdict: Verdict) -> Grant:
    """The first batch of the job, sent, with this verdict."""
    assert pages.open_next_page(desk.client, job)
    grant = admitted(desk)
    assert isinstance(grant, Grant)
    desk.client.governor().settle(grant, verdict)
    return grant


def admitted(desk: Desk) -> Any:
    """What admit says to the next bell."""
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        for bell in desk.client.governor().ring("w1", 1).bells:
            return desk.client.governor().admit(bell.key, bell.step)
    raise AssertionError("no bell came")


def refused(desk: Desk, job: str) -> MustSplit:
    """The only batch of the job after the provider refused it, rung for its split."""
    judged(desk, job, REFUSED)
    word = admitted(desk)
    assert isinstance(word, MustSplit)
    return word


def test_a_look_at_the_ledger_while_a_batch_is_split_finds_no_fault(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accepted(desk, csv(*(f"c{n},x" for n in range(4))))["job"]
    it, whole = refused(desk, job), Ledger.job

    def split_behind(ledger: Ledger, name: str) -> Job | None:
        found = whole(ledger, name)
        monkeypatch.setattr(Ledger, "job", whole)
        split(desk.client, it)
        return found

    monkeypatch.setattr(Ledger, "job", split_behind)
    assert keys_are_derived(desk.client, job) == []
    assert check_ledger(desk.client)["keys_are_derived"] == []
    assert whole(desk.client.ledger, job).released == 3


def test_a_dead_batch_is_listed_with_how_many_rows_it_holds(desk: Desk) -> None:
    job = accepted(desk, csv(*(f"c{n},x" for n in range(4))), "--batch-size", 3)["job"]
    judged(desk, job, Finish(state="unknown", outcome=Outcome.NOT_EXECUTED, status=400))

    lines = [it.split("  ")[3] for it in desk.run("dead", "list").stdout.splitlines()]
    assert lines == ["line 2 and 2 more"]
    letters = json.loads(desk.run("dead", "list", "--json").stdout)["letters"]
    assert [it["rows"] for it in letters] == [3]


def test_of_a_batch_that_was_split_nothing_waits(desk: Desk) -> None:
    job = accepted(desk, csv(*(f"c{n},x" for n in range(4))))["job"]
    it = refused(desk, job)
    split(desk.client, it)

    shown = json.loads(desk.run("dead", "show", it.key, "--json").stdout)
    assert (shown["state"], shown["rows"]) == ("split", 4)
    assert f"job {job}  split" in desk.run("audit", it.key).stdout


def test_pages_of_two_readings_never_stand_in_one_job(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both look at once and find nothing; the first one then stores its pages and closes none.
    content = csv(*(f"c{n},x" for n in range(10)))
    whole = Ledger.begin

    def late(ledger: Ledger, job: Job) -> Job:
        whole(ledger, replace(job, digest="of another reading"))
        return whole(ledger, job)

    monkeypatch.setattr(Ledger, "begin", late)
    path = desk.file("rows.csv", content)
    result = desk.run(
        "submit", "contacts", path, "--client", "acme", "--list", "list-1", "--batch-size", 4
    )

    assert result.exit_code == 2
    assert "was not finished, and had another lane, tenant, other options" in result.stderr
    (job,) = (desk.client.ledger.job(it.job) for it in all_jobs(desk.client))
    assert job.pages == 0
